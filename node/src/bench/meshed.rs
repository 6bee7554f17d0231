//! Nodes that belong together: one that submits, and others that joined it by an invite, as people's machines do.

use super::connection::ANSWER_LIMIT;
use super::error::BenchError;
use super::requests::{self, Job, Work};
use super::site::{Daemon, Site};

/// The nodes. The workers end first: what they still run goes back to a node that is there.
#[derive(Debug)]
pub(super) struct Meshed {
    workers: Vec<Daemon>,
    origin: Daemon,
    /// What the names of its nodes begin with.
    name: &'static str,
}

impl Meshed {
    /// Starts the one that submits.
    pub(super) fn build(site: &Site, name: &'static str) -> Result<Self, BenchError> {
        Ok(Self { origin: site.member(&format!("{name}-0"))?, workers: Vec::new(), name })
    }

    /// The one that submits.
    pub(super) const fn origin(&self) -> &Daemon {
        &self.origin
    }

    /// Starts another node, has it join, and returns when a job that only it can do has been done there.
    pub(super) fn grow(&mut self, site: &Site) -> Result<(), BenchError> {
        let number = self.workers.len() + 1;
        let worker = site.member(&format!("{}-{number}", self.name))?;
        let invite = requests::invite();
        let invite = requests::invited(&invite, &self.origin.ask(&invite)?)?;
        worker.ask(&requests::join(&invite))?;
        let tag = format!("tool:bench-{number}");
        worker.ask(&requests::can(&tag))?;
        let only_there = requests::submit(&Job::elsewhere(Work::Noop).needing(&tag));
        let mut connection = self.origin.connect()?;
        let job = requests::submitted(&only_there, &connection.ask(&only_there, ANSWER_LIMIT)?)?;
        let wait = requests::wait(job.number);
        requests::completed(&wait, &connection.ask(&wait, ANSWER_LIMIT)?)?;
        self.workers.push(worker);
        Ok(())
    }
}
