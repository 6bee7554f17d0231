//! Files of other programs, bent: a plan or a reason, and the plan is the same each time.

use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{JobSpec, Submission};
use jobmesh_tests::fuzz::Target;
use serde_json::{Map, Value};

use super::*;
use crate::import::crontab::Layout;
use crate::import::oban::{JobTypes, TypeError, WorkerMap};
use crate::import::{crontab, oban, pueue};

const CRONTABS: [&str; 2] = [include_str!("../fixtures/crontab"), include_str!("../fixtures/crontab.system")];
const PUEUE: [&str; 2] = [include_str!("../fixtures/pueue-3.json"), include_str!("../fixtures/pueue-4.json")];
const OBAN: [&str; 2] = [include_str!("../fixtures/oban.jsonl"), include_str!("../fixtures/oban.csv")];
const MAP: &str = include_str!("../fixtures/oban-map.toml");

/// What a source is read by: each of our readers is given text only.
fn fuzz(name: &str, samples: &[&str], read: impl Fn(&str) -> Result<Plan, ImportError>) {
    // A short line becomes a whole job with its environment.
    let target = samples.iter().fold(Target::text(name), Target::sample).heap_per_byte(4096);
    target.run(|bytes| -> Result<(), ImportError> {
        let text = source::text(bytes.to_vec())?;
        let plan = read(&text)?;
        assert_eq!(format!("{plan:?}"), format!("{:?}", read(&text)?));
        assert!(Report::new(&plan, None).totals.jobs <= plan.jobs().count());
        Ok(())
    });
}

#[test]
fn fuzz_crontabs() {
    for (name, layout) in [("crontab", Layout::User), ("crontab-system", Layout::System)] {
        fuzz(name, &CRONTABS, |text| {
            let (user, home, zone, is_zone_asked) = ("me", Some("/home/me"), "Europe/Oslo", false);
            let options =
                crontab::Options { layout, user, home, zone, is_zone_asked, now: NOW, release: Release::Hold };
            crontab::read("crontab", text, &options)
        });
    }
}

#[test]
fn fuzz_states_of_pueue() {
    let (environment, finished, release) = (Environment::Keep, Finished::List, Release::Enqueue);
    let options = pueue::Options { since: None, environment, finished, release };
    fuzz("pueue", &PUEUE, |text| pueue::read("state.json", text, &options));
}

fn types(name: &str, parameters: &Map<String, Value>) -> Result<Submission, TypeError> {
    let argv = vec![name.to_owned(), Value::Object(parameters.clone()).to_string()];
    Ok(Submission::new(JobSpec::new("any", Task::Process(ProcessTask::new(argv)))))
}

#[test]
fn fuzz_dumps_of_oban() {
    let (map, types): (_, JobTypes<'_>) = (WorkerMap::parse(Path::new("map.toml"), MAP).unwrap(), &types);
    let options = oban::Options { map: &map, types, since: None, finished: Finished::List, release: Release::Enqueue };
    fuzz("oban", &OBAN, |text| oban::read("dump", text, &options));
}

#[test]
fn fuzz_maps_of_workers() {
    let target = Target::text("oban-map").sample(MAP).heap_per_byte(1024);
    target.run(|bytes| WorkerMap::parse(Path::new("map.toml"), &source::text(bytes.to_vec())?).map(drop));
}
