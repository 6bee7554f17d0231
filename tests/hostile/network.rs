//! Who may reach whom: nobody anything, unless the owner grants it; and what is granted then.

use std::net::TcpListener;
use std::time::Instant;

use jobmesh_tests::web::Server;
use jobmesh_tests::{Node, Value};

use crate::{DEADLINE, TABLES, attack, bench, goes_on, pair};

/// Tries to connect to each of its arguments, and says which it reached.
const KNOCK: &str = "import socket, sys
for place in sys.argv[1:]:
    host, port = place.rsplit(':', 1)
    s = socket.socket(); s.settimeout(5)
    try: s.connect((host, int(port))); print('open', place)
    except OSError: print('shut')
";

/// A module that asks for what no module is given.
const DIALS: &str = r#"(module (import "wasi_snapshot_preview1" "sock_connect" (func (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1) (func (export "_start")))"#;

/// A module that reads from where a socket would be, and ends with 9 if it can.
const LISTENS: &str = r#"(module
    (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $fd i32)
        (loop $next
            (if (i32.eqz (call $recv (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 16) (i32.const 20)))
                (then (call $exit (i32.const 9))))
            (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $fd) (i32.const 32))))))"#;

/// Where nodes listen for each other over TCP.
fn doors(nodes: &[&Node]) -> Vec<String> {
    let tcp = |address: &Value| address.as_str()?.strip_prefix("/ip4/127.0.0.1/tcp/").map(str::to_owned);
    let ports = |node: &&Node| -> Vec<String> {
        node.json(&["status"])["addresses"].as_array().unwrap().iter().filter_map(tcp).collect()
    };
    nodes.iter().flat_map(ports).map(|port| format!("127.0.0.1:{port}")).collect()
}

#[test]
fn nothing_of_a_member_reaches_the_node_or_its_network() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    let server = Server::start(|_, to| to.answer(200, &[], "secret"));
    let mut places = doors(&[&a, &b]);
    assert_eq!(places.len(), 2, "{places:?}");
    places.extend([format!("127.0.0.1:{}", server.port()), "169.254.169.254:80".to_owned(), "10.0.0.1:22".to_owned()]);
    let command: Vec<&str> =
        ["/usr/bin/python3", "-c", KNOCK].into_iter().chain(places.iter().map(String::as_str)).collect();
    let knocked = attack(&a, &command);
    assert_eq!(knocked.text(), "shut\n".repeat(places.len()), "{}\n{}", knocked.stderr, b.log());

    let script = "for _, name in {'socket', 'io', 'os.execute', 'package', 'require', 'dofile'} do
            local found = getfenv()[name]
            if found ~= nil then print('found', name) end
        end
        -- Programs as text may be made; as bytes, which nobody checks, they may not.
        local _, made = pcall(loadstring, '\\27\\6\\3\\0\\0')
        print(type(made) ~= 'function')";
    let run = a.run(&["run", "--require", "tool:victim", "--lua-script", script]);
    assert!(run.code == 0 && run.text() == "true\n", "{}{}", run.text(), run.stderr);

    for (name, module, expected) in [("dials.wat", DIALS, "sock_connect"), ("listens.wat", LISTENS, "")] {
        let module = a.file(name, module.as_bytes());
        let job = a.submit(&["--require", "tool:victim", "--wasm", &module]);
        let shown = a.ended(&job);
        let attempt = &shown["attempts"][0];
        if expected.is_empty() {
            assert_eq!(attempt["exit"]["code"], 0, "{shown}");
            // Every wall stands around the worker of a module.
            assert_eq!(attempt["isolation"], "untrusted", "{shown}");
        } else {
            assert!(attempt.to_string().contains(expected), "{shown}");
        }
    }

    for place in &places {
        let url = format!("http://{place}/");
        let run = a.run(&["run", "--require", "tool:victim", "--network", "--http", &url]);
        assert_ne!(run.code, 0, "{place}: {}", run.text());
        let shown = a.json(&["show", "last"]).to_string();
        assert!(shown.contains("which a peer's job may not reach here"), "{place}: {shown}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    goes_on(&a, &b);
}

/// Code that is granted the network has that of the machine, loopback and all. So nothing is granted unless the owner says
/// so, and `doctor` says what that means.
#[test]
fn code_of_members_has_no_network_unless_it_is_granted_and_then_all_of_it() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let doctor = |node: &Node| node.run(&["doctor"]).text();
    assert!(doctor(&b).contains("code of members has no network"), "{}", doctor(&b));
    let job = a.submit(&["--require", "tool:victim", "--network", "--", "/usr/bin/python3", "-c", KNOCK, &place]);
    let began = Instant::now();
    loop {
        let why = a.json(&["explain", &job]).to_string();
        if why.contains("network") {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{why}\n{}", a.log());
    }
    assert!(a.job(&job)["started_at"].is_null(), "{}", a.job(&job));
    assert_eq!(a.run(&["cancel", &job]).code, 0);
    b.down();
    b.configure(2, &TABLES.replace("[isolation]\n", "[isolation]\nnetwork = true\n"));
    b.up();
    let text = doctor(&b);
    assert!(text.contains("loopback") && text.contains("isolation.network"), "{text}");
    // What did not ask for it has none, even then.
    assert_eq!(attack(&a, &["/usr/bin/python3", "-c", KNOCK, &place]).text(), "shut\n");
    let granted =
        a.run(&["run", "--require", "tool:victim", "--network", "--", "/usr/bin/python3", "-c", KNOCK, &place]);
    assert_eq!(granted.text(), format!("open {place}\n"), "{}\n{}", granted.stderr, b.log());
    goes_on(&a, &b);
}
