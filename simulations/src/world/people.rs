//! People at the nodes: they submit, cancel and retry, and try again later if nobody answers the door.

use jobmesh_engine::{Command, Input, JobAction, RequestId};
use jobmesh_protocol::submission::Dependency;
use jobmesh_protocol::{DurationMillis, Hash, JobId, Submission};

use super::{Event, Phase, World};
use crate::invariants::Violation;
use crate::network::Seat;
use crate::node::Condition;
use crate::workload::{Act, Operation};

/// How long someone waits whose daemon is down.
const ASK_AGAIN_AFTER: DurationMillis = DurationMillis::from_secs(10);

impl World {
    pub(super) fn operate(&mut self, operation: Operation) -> Result<(), Violation> {
        if matches!(self.phase, Phase::Idle { .. } | Phase::Over { .. }) {
            // It would never be done: whoever tried again has given up by now.
            return Ok(());
        }
        let Operation { act, job: number, .. } = operation;
        let Some(work) = self.plan.works.get(&number) else { return Ok(()) };
        let (home, spec) = (Seat(work.home), work.spec(number));
        if matches!(self.condition(home), Condition::Down | Condition::Failing) {
            if self.phase == Phase::Faulty {
                self.cause(ASK_AGAIN_AFTER, Event::Operate(operation));
            }
            return Ok(());
        }
        let command = match (act, self.oracle.job(number)) {
            (Act::Submit, _) => {
                let inputs: Vec<Hash> = spec.blobs().map(|blob| blob.hash).collect();
                if let Some(node) = self.nodes.get_mut(home.0) {
                    node.disk.extend(inputs);
                }
                Command::Submit(vec![Submission { after: self.upstream(number, home), ..Submission::new(spec) }])
            }
            (Act::Cancel, Some(job)) => {
                let reason = "changed my mind".to_owned();
                Command::Job(job, JobAction::Cancel { reason, is_forced: false })
            }
            (Act::Retry, Some(job)) => {
                // It may happen though nobody hears the answer.
                self.oracle.expect_retry(number, job);
                Command::Job(job, JobAction::Retry)
            }
            // Nobody can name a job that was never acknowledged.
            (Act::Cancel | Act::Retry, None) => return Ok(()),
        };
        self.note(format_args!("{home} is asked to {act:?} job {number} of the workload"));
        let request = self.ask(home, operation);
        self.feed(home, Input::Command(request, command))
    }

    /// What a job waits for. It can only name what was acknowledged at the same place.
    fn upstream(&mut self, number: usize, home: Seat) -> Vec<Dependency> {
        let after = self.plan.works.get(&number).map(|work| work.after.clone()).unwrap_or_default();
        let known = after.into_iter().filter_map(|other| Some((other, self.oracle.job_at(other, home)?)));
        let known: Vec<(usize, JobId)> = known.collect();
        self.oracle.expect_after(number, known.iter().map(|(other, _)| *other).collect());
        known.into_iter().map(|(_, job)| Dependency { job, on: None }).collect()
    }

    /// Once the world has healed, people release what waits for them: jobs that may have run before a database was set
    /// back.
    pub(super) fn release_held(&mut self) -> Result<(), Violation> {
        if self.phase == Phase::Faulty {
            return Ok(());
        }
        for seat in self.all_seats() {
            let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.condition == Condition::Up) else {
                continue;
            };
            let jobs = node.store()?.begin()?.view().live_jobs()?;
            for job in jobs.into_iter().filter(|job| job.held.is_some()) {
                self.note(format_args!("{seat} is asked to release {}", job.id));
                self.tell(seat, Command::Job(job.id, JobAction::Release))?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, seat: Seat, operation: Operation) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.asked.insert(request, (seat, operation));
        request
    }

    /// Feeds a command whose answer nobody waits for.
    pub(super) fn tell(&mut self, seat: Seat, command: Command) -> Result<(), Violation> {
        self.requests += 1;
        self.feed(seat, Input::Command(RequestId(self.requests), command))
    }
}
