//! Files that nobody meant, down to the last layer: what a person mistypes must be a message.

use jobmesh_tests::fuzz::Target;

use super::*;

const FULL: &str = r#"
name = "ana"
slots = 4
listen = ["/ip4/0.0.0.0/tcp/0"]
mdns = false
[lease]
ttl = "30s"
bid_window = "800ms"
[retention]
completed = "never"
[limits]
log_bytes = "1GiB"
[resources]
licence = "2"
[queues.nightly]
concurrency = 2
rate = "10/1m"
[job_types.render]
command = ["sh", "-c", "render {input}"]
about = "Renders"
[job_types.render.parameters.input]
type = "text"
required = true
[job_types.hourly]
shell = "true"
schedule = "@hourly"
"#;

#[test]
fn fuzz_files() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::text("config").sample(FULL).sample(DEFAULT).sample("name = \"ana\"").heap_per_byte(1024);
    target.run(|bytes| -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let home = Home::locate(Some(folder.path())).unwrap();
        let none = Overrides::default;
        Config::layered(home, none(), none(), text).map(drop).map_err(|fault| fault.problem)
    });
}
