//! How the jobs of a type run: where they wait, what they take, how long they may, and what follows a failure.

use jobmesh_protocol::job::{Effects, REQUIREMENTS_MAX, Scope};
use jobmesh_protocol::retry::{ATTEMPTS_MAX, Backoff, CRASHES_MAX, FAILURES_MAX, Failure, Growth, Jitter};
use jobmesh_protocol::schedule::parse_length;
use jobmesh_protocol::{DurationMillis, JobSpec, Requirement};

use crate::config::queues::check_queue_name;
use crate::config::table::{Entry, Fault, Lined, Table, value};
use crate::job_types::template::{Template, Values};
use crate::job_types::{Names, ParameterError};

/// Longest length of time that a job may be given: a year.
const LENGTH_MAX: DurationMillis = DurationMillis::from_secs(366 * 86_400);
/// The range of `log_limit`.
const LOG_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;
/// The word for a limit that does not hold.
const NONE: &str = "none";
/// The longest wait where a backoff names only the first.
const BACKOFF_MAX: DurationMillis = DurationMillis::from_secs(600);

/// The keys of this part.
pub(super) const KEYS: &[&str] = &[
    "queue",
    "priority",
    "timeout",
    "kill_grace",
    "heartbeat",
    "start_within",
    "log_limit",
    "keep",
    "retries",
    "backoff",
    "retry_on",
    "fail_on",
    "crash_limit",
    "max_snoozes",
    "requirements",
    "effects",
    "scope",
];

/// A limit that may be lifted: the outer none is silence, the inner one no limit.
type Limit = Option<Lined<Option<DurationMillis>>>;

/// What one file says of how the jobs run; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Policy {
    pub(super) queue: Option<Lined<String>>,
    pub(super) priority: Option<Lined<i32>>,
    pub(super) timeout: Limit,
    kill_grace: Option<Lined<DurationMillis>>,
    heartbeat: Limit,
    start_within: Limit,
    log_limit: Option<Lined<u64>>,
    keep: Option<Lined<DurationMillis>>,
    pub(super) retries: Option<Lined<u32>>,
    backoff: Option<Lined<Backoff>>,
    retry_on: Option<Lined<Vec<Failure>>>,
    fail_on: Option<Lined<Vec<Failure>>>,
    crash_limit: Option<Lined<u32>>,
    max_snoozes: Option<Lined<u32>>,
    pub(super) requirements: Option<Lined<Vec<Template>>>,
    effects: Option<Lined<Effects>>,
    scope: Option<Lined<Scope>>,
}

impl Policy {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        let millisecond = DurationMillis(1);
        let limit = |key| table.read(key, |entry| entry.length_or(Some(NONE), millisecond..=LENGTH_MAX));
        let failures = |key| table.read(key, |entry| entry.list(FAILURES_MAX, Entry::spoken));
        Ok(Self {
            queue: table.read("queue", read_queue)?,
            priority: table.read("priority", |entry| entry.whole(i128::from(i32::MIN)..=i128::from(i32::MAX)))?,
            timeout: limit("timeout")?,
            kill_grace: table.read("kill_grace", |entry| entry.length(DurationMillis(0)..=LENGTH_MAX))?,
            heartbeat: limit("heartbeat")?,
            start_within: limit("start_within")?,
            log_limit: table.read("log_limit", |entry| entry.size(LOG_BYTES))?,
            keep: table.read("keep", |entry| entry.length(millisecond..=LENGTH_MAX))?,
            retries: table.read("retries", |entry| entry.whole(0..=i128::from(ATTEMPTS_MAX) - 1))?,
            backoff: table.read("backoff", |entry| entry.parsed(parse_backoff))?,
            retry_on: failures("retry_on")?,
            fail_on: failures("fail_on")?,
            crash_limit: table.read("crash_limit", |entry| entry.whole(0..=i128::from(CRASHES_MAX)))?,
            max_snoozes: table.read("max_snoozes", |entry| entry.whole(0..=i128::from(u32::MAX)))?,
            requirements: table.read("requirements", |entry| entry.list(REQUIREMENTS_MAX, read_requirement))?,
            effects: table.read("effects", |entry| entry.word(EFFECTS))?,
            scope: table.read("scope", |entry| entry.word(SCOPES))?,
        })
    }

    /// What `self` says, else what `base` says.
    pub(super) fn over(self, base: Self) -> Self {
        Self {
            queue: self.queue.or(base.queue),
            priority: self.priority.or(base.priority),
            timeout: self.timeout.or(base.timeout),
            kill_grace: self.kill_grace.or(base.kill_grace),
            heartbeat: self.heartbeat.or(base.heartbeat),
            start_within: self.start_within.or(base.start_within),
            log_limit: self.log_limit.or(base.log_limit),
            keep: self.keep.or(base.keep),
            retries: self.retries.or(base.retries),
            backoff: self.backoff.or(base.backoff),
            retry_on: self.retry_on.or(base.retry_on),
            fail_on: self.fail_on.or(base.fail_on),
            crash_limit: self.crash_limit.or(base.crash_limit),
            max_snoozes: self.max_snoozes.or(base.max_snoozes),
            requirements: self.requirements.or(base.requirements),
            effects: self.effects.or(base.effects),
            scope: self.scope.or(base.scope),
        }
    }

    /// Checks the holes, and what can be judged without values.
    pub(super) fn check(&self, path: &str, is_builtin: bool, names: &Names<'_>) -> Result<(), Fault> {
        if let Some(Lined { value: templates, place }) = &self.requirements {
            for template in templates {
                names.check_certain(&format!("{path}.requirements"), template, *place)?;
            }
        }
        self.check_effects(path)?;
        match &self.scope {
            Some(Lined { value: Scope::Network | Scope::Hybrid, place }) if is_builtin => {
                let problem =
                    format!("{path}.scope must be \"local\": the node keeps itself in order, not another one");
                Err(Fault::new(*place, problem))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What must not run twice is not tried again.
    fn check_effects(&self, path: &str) -> Result<(), Fault> {
        let Some(Lined { value: Effects::Once, place }) = &self.effects else { return Ok(()) };
        let retries = self.retries.as_ref().is_some_and(|retries| retries.value > 0);
        let key = match &self.retry_on {
            _ if retries => "retries",
            Some(named) if !named.value.is_empty() => "retry_on",
            Some(_) | None => return Ok(()),
        };
        let problem = format!("{path}.effects is \"once\", so leave {key} out: such a job never runs a second time");
        Err(Fault::new(*place, problem))
    }

    /// Puts it into a spec. `is_bound` says that a value names something on this machine.
    pub(super) fn apply(&self, spec: &mut JobSpec, values: &Values, is_bound: bool) -> Result<(), ParameterError> {
        let flat = |limit: &Limit| limit.as_ref().and_then(|limit| limit.value);
        spec.queue = value(self.queue.as_ref()).unwrap_or(std::mem::take(&mut spec.queue));
        spec.priority = value(self.priority.as_ref()).unwrap_or(spec.priority);
        spec.timeout_ms = flat(&self.timeout);
        spec.kill_grace_ms = value(self.kill_grace.as_ref()).unwrap_or(spec.kill_grace_ms);
        spec.heartbeat_ms = flat(&self.heartbeat);
        spec.log_bytes_max = value(self.log_limit.as_ref());
        spec.keep_ms = value(self.keep.as_ref());
        self.apply_retry(spec);
        for template in self.requirements.iter().flat_map(|requirements| &requirements.value) {
            let text = template.fill(values).map_err(|name| ParameterError::missing(&spec.job_type, name))?;
            let requirement = text.parse().map_err(|source| ParameterError::Requirement { text, source })?;
            spec.requirements.push(requirement);
        }
        spec.effects = value(self.effects.as_ref()).unwrap_or(spec.effects);
        // As with a command by hand: a job that says nothing about what it needs stays on its node.
        let usual = if is_bound || spec.requirements.is_empty() { Scope::Local } else { Scope::Hybrid };
        spec.scope = value(self.scope.as_ref()).unwrap_or(usual);
        Ok(())
    }

    fn apply_retry(&self, spec: &mut JobSpec) {
        let retry = &mut spec.retry;
        retry.max_attempts = value(self.retries.as_ref()).map_or(retry.max_attempts, |retries| retries + 1);
        retry.crash_limit = value(self.crash_limit.as_ref()).unwrap_or(retry.crash_limit);
        retry.max_snoozes = value(self.max_snoozes.as_ref());
        retry.retry_on = value(self.retry_on.as_ref()).unwrap_or_default();
        retry.fail_on = value(self.fail_on.as_ref()).unwrap_or_default();
        if let Some(backoff) = value(self.backoff.as_ref()) {
            retry.backoff = backoff;
        }
    }

    /// How long a job may wait to start.
    pub(super) fn start_within(&self) -> Option<DurationMillis> {
        self.start_within.as_ref().and_then(|limit| limit.value)
    }
}

const EFFECTS: &[(&str, Effects)] =
    &[("pure", Effects::Pure), ("idempotent", Effects::Idempotent), ("once", Effects::Once)];
const SCOPES: &[(&str, Scope)] = &[("local", Scope::Local), ("network", Scope::Network), ("hybrid", Scope::Hybrid)];

fn read_queue(entry: &Entry<'_>) -> Result<Lined<String>, Fault> {
    entry.parsed(|text| check_queue_name(text).map(|()| text.to_owned()))
}

fn read_requirement(entry: &Entry<'_>) -> Result<Lined<Template>, Fault> {
    let template = entry.parsed(Template::parse)?;
    if template.value.names().is_empty() {
        // Only what holes leave open is judged later.
        entry.spoken::<Requirement>()?;
    }
    Ok(template)
}

/// Reads `2s..10m` (doubling; `exp:` may stand in front), `fixed:30s`, or the waits `1s,5s,1m`; then, if anything,
/// `,jitter=none|half|full`. The error is what it must be.
fn parse_backoff(text: &str) -> Result<Backoff, String> {
    let wanted =
        || "waits such as \"2s..10m\", \"fixed:30s\" or \"1s,5s,1m\", and maybe \",jitter=none|half|full\"".to_owned();
    let (waits, jitter) = match text.split_once(",jitter=") {
        None => (text, Jitter::Half),
        Some((waits, "none")) => (waits, Jitter::None),
        Some((waits, "half")) => (waits, Jitter::Half),
        Some((waits, "full")) => (waits, Jitter::Full),
        Some(_) => return Err(wanted()),
    };
    let length = |text: &str| parse_length(text).filter(|wait| *wait <= LENGTH_MAX).ok_or_else(wanted);
    let growth = if let Some(wait) = waits.strip_prefix("fixed:") {
        Growth::Fixed { wait_ms: length(wait)? }
    } else if waits.contains(',') {
        Growth::Custom { waits_ms: waits.split(',').map(length).collect::<Result<_, _>>()? }
    } else {
        let waits = waits.strip_prefix("exp:").unwrap_or(waits);
        let (base, max) = match waits.split_once("..") {
            Some((base, max)) => (length(base)?, length(max)?),
            None => (length(waits)?, BACKOFF_MAX.max(length(waits)?)),
        };
        if max < base {
            return Err("waits of which the longest is not shorter than the first".to_owned());
        }
        Growth::Exponential { base_ms: base, max_ms: max }
    };
    let is_long = matches!(&growth, Growth::Custom { waits_ms } if waits_ms.len() > jobmesh_protocol::retry::WAITS_MAX);
    if is_long { Err(wanted()) } else { Ok(Backoff { growth, jitter }) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_backoff_is_read_in_each_of_its_forms() {
        let seconds = DurationMillis::from_secs;
        assert_eq!(parse_backoff("2s..10m").unwrap(), Backoff::exponential(seconds(2), seconds(600)));
        assert_eq!(parse_backoff("exp:1h").unwrap(), Backoff::exponential(seconds(3600), seconds(3600)));
        let fixed = Backoff { growth: Growth::Fixed { wait_ms: seconds(30) }, jitter: Jitter::None };
        assert_eq!(parse_backoff("fixed:30s,jitter=none").unwrap(), fixed);
        let waits_ms = vec![seconds(1), seconds(5), seconds(60)];
        assert_eq!(parse_backoff("1s,5s,1m").unwrap().growth, Growth::Custom { waits_ms });
        for text in ["", "5", "exp", "1m..1s", "fixed:", "1s,", "2s,jitter=some", "99999d"] {
            assert!(parse_backoff(text).is_err(), "{text}");
        }
    }
}
