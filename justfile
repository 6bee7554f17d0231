# Everything that must hold before a change is merged; CI runs the same file.
check:
    .ci/run

# What a node must survive, at full scale: 200 rounds of kill -9, 10,000 waits in a row (about five minutes).
crash:
    JOBMESH_FULL=1 cargo test -p jobmesh --test crash -- --nocapture

# Real nodes that are killed, frozen and cut off from each other, for an hour.
soak:
    JOBMESH_FULL=1 cargo test --release -p jobmesh --test soak -- --nocapture

# Every decoder of bytes from outside, a minute each, from a new seed. What is found stays in tests/fuzz/.
fuzz:
    JOBMESH_FUZZ_SECONDS=60 cargo test --workspace --release fuzz -- --nocapture

# Licences, advisories and sources of every dependency (needs cargo-deny).
deny:
    cargo deny check
