//! A database that is older than its own words, and a key that is in two places.
//!
//! Both show in what peers have received. A peer that acknowledges a number that was never sent, or that has dropped what
//! this node never acknowledged, has seen more of this database than it holds: a backup was restored, a disk lied, or a
//! copy of it lives elsewhere. Then the numbers from here on would be taken for old ones, so the database becomes another
//! incarnation; and what it says of work that must not run twice may be out of date, so that work is held for a person.
//!
//! The hard case is to find out before a number is used twice: a connection begins with what each side has received, and
//! numbered messages wait for it. A peer can lie, and members are believed: a lie costs a new incarnation a minute at
//! most, and holds once in a life of the daemon.

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::{DurationMillis, Incarnation, JobState, NodeId};
use jobmesh_store::{AlarmKind, Inbound, Job, StoreError};

use crate::engine::Engine;
use crate::output::Output;
use crate::step::Step;

/// No two new incarnations come sooner after each other, whatever peers claim.
const RENEW_EVERY: DurationMillis = DurationMillis::from_secs(60);
/// Names the life of the daemon in which work was held.
const HELD_IN: &str = "rollback_boot";
/// Why work is held, for people.
const WHY: &str = "this database is older than what peers have seen; release to run";

impl Engine {
    /// Begins a session: tells the peer what was received from it, and asks for the same.
    pub(crate) fn meet_peer(&mut self, step: &Step<'_>, to: NodeId, wants_answer: bool) -> Result<(), StoreError> {
        let inbound = step.view().inbound(to)?;
        let received = inbound.map(|inbound| (inbound.incarnation, inbound.number));
        let former = inbound.and_then(|inbound| inbound.former);
        self.outputs.push(Output::Send { to, frame: Frame::Meet { received, former, wants_answer }.encode() });
        Ok(())
    }

    pub(crate) fn on_meet(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        received: Option<(Incarnation, u64)>,
        former: Option<Incarnation>,
    ) -> Result<(), StoreError> {
        let mine = step.txn.incarnation();
        if former == Some(mine) {
            // Somebody went on from here: another copy of this database, or this one before it was set back.
            self.on_older(step, from)?;
        }
        if let Some((_, number)) = received.filter(|(incarnation, _)| *incarnation == mine) {
            self.on_received(step, from, number)?;
        }
        self.open_session(step, from)
    }

    /// A peer says up to which number it has received this database's messages.
    pub(crate) fn on_received(&mut self, step: &mut Step<'_>, from: NodeId, number: u64) -> Result<(), StoreError> {
        if number > self.sent_up_to.get(&from).copied().unwrap_or(0) {
            return self.on_older(step, from);
        }
        self.acknowledged(step, from, number)
    }

    /// A peer has proved that it has seen more of this database than it holds.
    pub(crate) fn on_older(&mut self, step: &mut Step<'_>, by: NodeId) -> Result<(), StoreError> {
        self.renew(step, by)?;
        let boot = self.config.boot.as_bytes().to_vec();
        if step.view().meta(HELD_IN)?.as_ref() != Some(&boot) {
            step.txn.set_meta(HELD_IN, &boot)?;
            self.hold_what_may_have_run(step)?;
        }
        Ok(())
    }

    /// Makes this another incarnation, unless it has just become one.
    fn renew(&mut self, step: &mut Step<'_>, by: NodeId) -> Result<(), StoreError> {
        self.count("older_than_words");
        if step.now.mono < self.renew_after {
            return Ok(());
        }
        self.renew_after = step.now.mono.plus(RENEW_EVERY);
        step.txn.raise_alarm(AlarmKind::Older, by, step.wall())?;
        let fresh = Incarnation::from_bytes(step.random());
        step.txn.renew_incarnation(fresh)?;
        let open: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.is_connected && peer.is_met).map(|(node, _)| *node).collect();
        open.into_iter().try_for_each(|node| self.resend(step, node))
    }

    /// Holds the jobs of this node that must not run twice and may have been run since.
    fn hold_what_may_have_run(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        let mut doubtful = Vec::new();
        step.txn.view().each_live_job(|job| {
            if job.spec.effects == Effects::Once && job.origin.is_none() && job.held.is_none() {
                doubtful.push(job);
            }
            Ok::<(), StoreError>(())
        })?;
        for job in doubtful {
            self.hold_doubtful(step, job)?;
        }
        Ok(())
    }

    fn hold_doubtful(&mut self, step: &mut Step<'_>, mut job: Job) -> Result<(), StoreError> {
        let is_under_way = match job.state {
            JobState::Running => !job.plan.is_group,
            JobState::Offered => {
                self.withdraw_offer(step, &mut job, WHY)?;
                job.state == JobState::Offered
            }
            JobState::Available | JobState::Scheduled | JobState::Retryable | JobState::Pending => false,
            JobState::Suspended
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => true,
        };
        if is_under_way {
            return Ok(());
        }
        self.count("held_after_rollback");
        match self.hold(step, job, WHY)? {
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Judges the incarnation of a numbered message. Gives what was received of it before, or none if it is refused.
    pub(crate) fn inbound_of(
        &mut self,
        step: &Step<'_>,
        from: NodeId,
        incarnation: Incarnation,
    ) -> Result<Option<Listened>, StoreError> {
        match step.view().inbound(from)? {
            None => Ok(Some(Listened { known: None, former: None })),
            Some(inbound) if inbound.incarnation == incarnation => {
                Ok(Some(Listened { known: Some(inbound), former: inbound.former }))
            }
            Some(inbound) if inbound.former == Some(incarnation) => {
                // It was followed by another and speaks again: two databases under one key.
                self.count("refused_former_incarnation");
                step.txn.raise_alarm(AlarmKind::Cloned, from, step.wall())?;
                Ok(None)
            }
            Some(inbound) => {
                self.count("new_incarnation");
                Ok(Some(Listened { known: None, former: Some(inbound.incarnation) }))
            }
        }
    }

    /// Something signed with this node's own key that it did not write.
    pub(crate) fn on_own_key_elsewhere(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        self.count("own_key_elsewhere");
        step.txn.raise_alarm(AlarmKind::Cloned, self.me, step.wall())
    }
}

/// What was received from the database that speaks now.
#[derive(Clone, Copy)]
pub(crate) struct Listened {
    pub(crate) known: Option<Inbound>,
    pub(crate) former: Option<Incarnation>,
}
