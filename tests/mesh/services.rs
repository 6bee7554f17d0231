//! What a peer may not have a node ask: a provider on its owner's bill, and what only that node can reach.

use jobmesh_tests::web::Server;

use crate::{bench, open_pair};

#[test]
fn a_provider_that_is_paid_for_answers_nobody_else() {
    let (bench, server) = (bench(), Server::start(|_, to| to.answer(500, &[], "it was asked")));
    let tables = format!(
        "[providers.local]\nkind = \"openai\"\nbase_url = \"{}\"\npeers = false\n[models.tiny]\nprovider = \"local\"\n",
        server.url("/v1")
    );
    let (a, b) = (bench.up("a"), bench.node_with("b", 2, &tables));
    b.up();
    a.admit(&b);
    let job = a.submit(&["--require", "model:tiny", "--llm", "what is it?"]);
    assert_eq!(a.run(&["wait", "--timeout", "3s", &job]).code, 124, "{}", a.json(&["show", &job]));
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn a_request_is_never_made_for_a_peer_to_this_machine() {
    let (bench, server) = (bench(), Server::start(|_, to| to.answer(200, &[], "hello")));
    let (a, b) = open_pair(&bench);
    let refused = a.run(&["run", "--require", "tool:gzip", "--network", "--http", &server.url("/path")]);
    assert_ne!(refused.code, 0, "{}", refused.text());
    let shown = a.json(&["show", "last"]);
    assert!(shown.to_string().contains("loopback"), "{shown}");
    assert_eq!(shown["attempts"][0]["node"]["name"], b.name());
    assert!(server.asked().is_empty(), "a peer's job reached this machine");
}
