# Everything that must hold before a change is merged; CI runs the same file.
check:
    .ci/run

# Licences, advisories and sources of every dependency (needs cargo-deny).
deny:
    cargo deny check
