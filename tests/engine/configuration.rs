//! A configuration that makes no sense keeps the daemon from starting, and says where.

use std::fs;

use jobmesh_tests::Value;

use crate::{bench, kinds, node, refused, resources};

#[test]
fn what_is_wrong_is_named_with_its_line_and_what_it_must_be() {
    let bench = bench();
    let node = bench.node("a");
    for (text, line, what) in [
        ("name = \"a\"\nslotz = 3\n", 2, "did you mean `slots`"),
        ("slots = \"3\"\n", 1, "whole number"),
        ("slots = 1.5\n", 1, "whole number"),
        ("slots = 0\n", 1, "1 to 4096"),
        ("slots = -1\n", 1, "1 to 4096"),
        ("slots = 18446744073709551616\n", 1, "1 to 4096"),
        ("\u{feff}\n\nslots = 0\n", 3, "slots is 0"),
        ("[queues.q]\nconcurrency = 0\n", 2, "jobmesh queue pause q"),
        ("[queues.q]\nrate = \"0/1m\"\n", 2, "60/1m"),
        ("[lease]\nttl = 3\n", 2, "with its unit"),
        ("[retention]\ncompleted = \"1 year\"\n", 2, "1h30m"),
        ("[resources]\nlicence = \"many\"\n", 2, "sum(100)"),
        ("[job_types.x]\ncommand = [\"echo\", \"{{y}}\"]\n", 2, "no parameter \"y\""),
        ("[job_types.x]\ncommand = [\"true\"]\nschedule = { cron = \"0 0 30 2 *\" }\n", 3, "never fires"),
        ("slots = \n", 1, "slots"),
    ] {
        fs::write(node.home().join("config.toml"), text).unwrap();
        for arguments in [&["up"][..], &["up", "-d"], &["config", "check"]] {
            let run = node.run(arguments);
            let place = format!("config.toml line {line}: ");
            let says = run.stderr.contains(&place) && (run.stderr.contains(what) || text == "slots = \n");
            assert!(run.code == 78 && says, "{arguments:?} of {text:?}: {} {}", run.code, run.stderr);
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_mistake_and_utf_16_is_one() {
    let bench = bench();
    let node = bench.node("a");
    let config = node.home().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("\u{feff}{text}")).unwrap();
    node.up();
    node.kill();
    fs::write(&config, b"\xff\xfes\0").unwrap();
    let run = node.run(&["up", "-d"]);
    assert!(run.code == 78 && run.stderr.contains("UTF-8"), "{}", run.stderr);
}

#[test]
fn a_variable_that_makes_no_sense_is_named() {
    let bench = bench();
    let node = bench.node("a");
    for (variable, value) in [("JOBMESH_SLOTS", "0"), ("JOBMESH_SLOTS", "many"), ("JOBMESH_MDNS", "perhaps")] {
        let output = node.command(&["up", "-d"]).env(variable, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(variable) && said.contains(value), "{said}");
    }
}

#[test]
fn a_hang_up_makes_the_daemon_read_it_again() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nrate = \"1/1h\"\n");
    node.wait_for(&[node.submit(&["-Q", "q", "--", "true"])]);
    let job = node.submit(&["-Q", "q", "--", "true"]);
    assert_eq!(kinds(&node, &job), ["rate"]);
    node.configure(8, &resources("[job_types.greet]\ncommand = [\"echo\", \"hello\"]\n"));
    node.pid().hang_up();
    node.wait_for(&[job]);
    node.wait_for(&[node.submit(&["--type", "greet"])]);
}

#[test]
fn a_reload_tells_what_waits_for_a_restart_and_leaves_everything_as_it_was_if_it_makes_no_sense() {
    let bench = bench();
    let node = node(&bench, "[queues.q]\nconcurrency = 3\n");
    let concurrency = || node.json(&["queue", "show", "q"])["concurrency"].take();
    node.configure(9, &resources("[queues.q]\nconcurrency = 4\n"));
    let (status, answer) = node.ask("POST", "/v1/config/reload", &Value::Null);
    assert_eq!((status, &answer["pending"][0]["key"]), (200, &"slots".into()), "{answer}");
    assert_eq!((&answer["pending"][0]["running"], &answer["pending"][0]["written"]), (&"8".into(), &"9".into()));
    assert_eq!(concurrency(), 4);
    node.configure(9, &resources("[queues.q]\nconcurrency = 5\ncolour = 1\n"));
    let (status, answer) = node.ask("POST", "/v1/config/reload", &Value::Null);
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(status >= 400 && message.contains("colour") && message.contains("line"), "{answer}");
    assert_eq!(concurrency(), 4);
    refused(&node, 78, &["config", "check"]);
}

#[test]
fn a_data_directory_that_is_open_to_others_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = bench();
    let node = node(&bench, "");
    let check = |mode: u32| {
        std::fs::set_permissions(node.home(), std::fs::Permissions::from_mode(mode)).unwrap();
        let (run, document) = (node.run(&["config", "check"]), node.json(&["config", "check"]));
        (run.code, run.stderr.contains("chmod 700"), document["warnings"].as_array().unwrap().len())
    };
    assert_eq!(check(0o755), (0, true, 1));
    assert_eq!(check(0o700), (0, false, 0));
}
