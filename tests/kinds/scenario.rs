//! What is asked of every kind of work.

use jobmesh_tests::Value;

use crate::kind::Options;
use crate::site::{Place, Site};

/// Something that is asked of a kind, in one place.
type Scenario = fn(&Site<'_>);

/// Asks one kind for everything, in one place.
pub(crate) fn all(site: &Site<'_>) {
    let scenarios: [(&str, Scenario); 5] = [
        ("files go in and come out, and all of it is signed for", files_go_in_and_come_out),
        ("what it says is read while it runs", what_it_says_is_read_while_it_runs),
        ("cancelled, it ends and leaves nothing", cancelled_it_ends),
        ("out of time, it ends and leaves nothing", out_of_time_it_ends),
        ("what wants too much is told its limit", too_much_is_told_its_limit),
    ];
    for (what, scenario) in scenarios {
        // Shown with the test that fails.
        eprintln!("{} on {:?}: {what}", site.kind.name(), site.place);
        scenario(site);
    }
    if site.place == Place::Peer {
        let audit = site.a.run(&["audit", site.worker().name()]);
        assert_eq!(audit.code, 0, "{}{}", audit.text(), audit.stderr);
    }
}

/// The one attempt of a job.
fn attempt(shown: &Value) -> &Value {
    assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(1), "{shown}");
    &shown["attempts"][0]
}

fn with(mut options: Options, more: &[&str]) -> Options {
    // What a command is comes last.
    let place = options.iter().position(|word| word == "--").unwrap_or(options.len());
    options.splice(place..place, more.iter().map(|word| (*word).to_owned()));
    options
}

fn files_go_in_and_come_out(site: &Site<'_>) {
    let (options, name) = site.kind.copying(site);
    let job = site.submit(&with(options, &["--output", name]));
    let shown = site.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", site.worker().log());
    let listed = site.a.json(&["artifacts", &job]);
    let paths: Vec<_> = listed["artifacts"].as_array().unwrap().iter().map(|it| it["path"].clone()).collect();
    assert_eq!(paths, [name], "{listed}");
    let copy = site.bench.folder().join(format!("copy-{job}"));
    let copied = site.a.run(&["cp", &format!("{job}:{name}"), copy.to_str().unwrap()]);
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let left = std::fs::read(copy).unwrap();
    assert_eq!(listed["artifacts"][0]["size"], left.len());
    site.kind.judge(site, &job, &left);

    let attempt = attempt(&shown);
    assert_eq!(attempt["node"]["name"], site.worker().name(), "{shown}");
    assert_eq!(attempt["isolation"], site.kind.level(site.place), "{shown}");
    site.kind.judge_account(attempt);
    let kind = &shown["spec"]["task"];
    assert!(!kind[site.kind.name()].is_null(), "{kind}");
    if site.place == Place::Peer {
        is_signed_for(site, &job, attempt);
    }
}

/// The receipt is good, says what the origin says, and speaks of every byte that came back.
fn is_signed_for(site: &Site<'_>, job: &str, attempt: &Value) {
    let verified = site.a.run(&["receipt", "verify", job]);
    assert_eq!(verified.code, 0, "{}{}", verified.text(), verified.stderr);
    assert!(verified.text().contains("1 file with"), "{}", verified.text());
    let document = site.a.json(&["receipt", "show", job]);
    let receipt = &document["receipt"];
    assert_eq!(document["signer"], site.worker().json(&["status"])["node"], "{document}");
    assert_eq!(receipt["outcome"], "ok", "{receipt}");
    for what in ["outputs", "usage", "model", "isolation", "exit"] {
        assert_eq!(receipt[what], attempt[what], "{what}");
    }
    site.kind.judge_account(receipt);
}

fn what_it_says_is_read_while_it_runs(site: &Site<'_>) {
    let job = site.submit(&site.kind.waiting(site));
    let mut reader = site.follow(&job, site.kind.stream());
    let mut said = reader.some().unwrap_or_else(|| panic!("nothing\n{}", site.worker().log()));
    assert_eq!(site.a.state(&job), "running", "it was let go by nobody");
    site.kind.let_go(site);
    let rest = reader.rest();
    assert!(!rest.is_empty(), "all of it was said before it was let go");
    said.extend(rest);
    let shown = site.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", site.worker().log());
    let kept = site.a.run(&["logs", site.kind.stream(), &job]);
    let kept = if site.kind.stream() == "--stderr" { kept.stderr.into_bytes() } else { kept.stdout };
    assert_eq!(kept, said, "what was followed is what was kept");
}

fn cancelled_it_ends(site: &Site<'_>) {
    let job = site.submit(&site.kind.endless(site));
    site.kind.is_under_way(site, &job);
    assert_eq!(site.a.run(&["cancel", &job]).code, 0);
    let shown = site.ended(&job);
    assert_eq!(shown["job"]["state"], "cancelled", "{shown}");
    assert_eq!(attempt(&shown)["outcome"], "cancelled", "{shown}");
    site.kind.is_gone(site);
}

fn out_of_time_it_ends(site: &Site<'_>) {
    let job = site.submit(&with(site.kind.endless(site), &["--timeout", "1500ms"]));
    let shown = site.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    assert_eq!(attempt(&shown)["outcome"], "timeout", "{shown}");
    site.kind.is_gone(site);
}

fn too_much_is_told_its_limit(site: &Site<'_>) {
    let (options, words) = site.kind.greedy(site);
    let shown = site.ended(&site.submit(&options));
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    let message = attempt(&shown)["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(words), "{message:?} does not say {words:?}: {shown}");
}
