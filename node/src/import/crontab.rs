//! Crontabs: each line becomes a schedule.
//!
//! A line is read the way cron reads it (crontab(5) of Vixie cron and cronie): a variable holds for the lines below
//! it, `%` ends the command and begins its input, the command runs in the home directory of the user, and nothing
//! keeps two runs of it apart. What cron would refuse, and what a schedule can't be, such as `@reboot`, is left out with
//! the reason. Only where every line is of that kind is it no crontab at all, and refused.
//!
//! **The hard case** is that the crontab stays in force: until its lines are switched off, cron and the node would both
//! run them. So the schedules are paused unless asked for otherwise, and the plan holds the crontab as it should be.

mod line;

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Schedule, Timetable, TimetableError};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::schedule::{CatchUp, Overlap, Timing, format_length};
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{DurationMillis, JobSpec, Submission, UnixMillis};

use super::{
    Fate, ImportError, Item, Kind, LABEL_DESCRIPTION, LABEL_KEY, LABEL_SOURCE, Plan, PlannedSchedule, Release,
    check_lines, cut, digest, label, program_of, shell_spec,
};
use line::{Entry, Line, Time};

/// What is put in front of a line that a schedule has replaced.
const SWITCHED_OFF: &str = "#jobmesh# ";
/// The shell of a crontab that names none.
const SHELL_DEFAULT: &str = "/bin/sh";
/// Where a command is looked for if the crontab does not say.
const PATH_DEFAULT: &str = "/usr/bin:/bin";
/// Most bytes of the first words in the name of a schedule.
const WORDS_BYTES_MAX: usize = 40;

/// Runs a command with an input: `$0` is the shell, `$1` the command, `$2` the input. The exit code is the command's.
const WITH_INPUT: &str = r#"printf %s "$2" | "$0" -c "$1""#;

/// Which form a crontab has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One user's: the command follows the time.
    User,
    /// The system's: the user stands before the command.
    System,
}

/// How a crontab is read.
#[derive(Clone, Copy, Debug)]
pub struct Options<'o> {
    /// Which form it has.
    pub layout: Layout,
    /// The user that the node runs as.
    pub user: &'o str,
    /// The home directory of that user.
    pub home: Option<&'o str>,
    /// The zone of the machine's wall clock.
    pub zone: &'o str,
    /// Whether a person asked for that zone, which then holds for schedules of an earlier import, too.
    pub is_zone_asked: bool,
    /// The time, for the next instant of each schedule.
    pub now: UnixMillis,
    /// Whether the schedules may fire.
    pub release: Release,
}

/// Reads a crontab that is called `source`.
///
/// # Errors
/// [`ImportError`] names the line that no text has, or the first line of what is no crontab.
pub fn read(source: &str, text: &str, options: &Options<'_>) -> Result<Plan, ImportError> {
    check_lines(text)?;
    let mut reader = Reader::new(source, options);
    for (number, content) in (1..).zip(text.lines()) {
        let is_replaced = reader.take(number, content)?;
        if is_replaced {
            reader.replacement.push_str(SWITCHED_OFF);
        }
        reader.replacement.push_str(content);
        reader.replacement.push('\n');
    }
    reader.finish()
}

/// What is known at a line of a crontab: all that the lines above it said.
struct Reader<'o> {
    options: &'o Options<'o>,
    plan: Plan,
    taken: BTreeSet<String>,
    environment: BTreeMap<String, String>,
    /// The zone that a line above set.
    zone: Option<String>,
    delay_ms: DurationMillis,
    /// The comments right above.
    comments: Vec<String>,
    /// Whether a line was one that cron takes.
    is_crontab: bool,
    /// What is wrong with the first line that cron would not take.
    malformed: Option<ImportError>,
    replacement: String,
}

impl<'o> Reader<'o> {
    fn new(source: &str, options: &'o Options<'o>) -> Self {
        Self {
            options,
            plan: Plan::new(Kind::Crontab, source),
            taken: BTreeSet::new(),
            environment: BTreeMap::new(),
            zone: None,
            delay_ms: DurationMillis(0),
            comments: Vec::new(),
            is_crontab: false,
            malformed: None,
            replacement: String::new(),
        }
    }

    /// Takes the next line and says whether a schedule replaces it.
    fn take(&mut self, number: usize, content: &str) -> Result<bool, ImportError> {
        match Line::parse(number, content, self.options.layout) {
            Ok(Line::Blank) => self.comments.clear(),
            Ok(Line::Comment(words)) => self.comments.push(words.to_owned()),
            Ok(Line::Variable { name, value }) => {
                self.comments.clear();
                self.set(number, name, value);
            }
            Err(error) => {
                self.comments.clear();
                let (origin, title) = (format!("line {number}"), content.trim().to_owned());
                let item = Item { origin, title, fate: Fate::left_out(error.to_string()), notes: Vec::new() };
                self.plan.push(item, &mut self.taken)?;
                self.malformed.get_or_insert(error);
            }
            Ok(Line::Entry(entry)) => {
                self.is_crontab = true;
                let description = std::mem::take(&mut self.comments).join(" ");
                let item = self.item(number, &entry, &description);
                self.plan.push(item, &mut self.taken)?;
                let last = self.plan.items.last();
                return Ok(last.is_some_and(|item| matches!(item.fate, Fate::Schedule(_))));
            }
        }
        Ok(false)
    }

    /// Notes a variable. Some of them speak to cron itself.
    fn set(&mut self, number: usize, name: &str, value: &str) {
        let mut warn = |words: String| self.plan.warnings.push(format!("line {number}: {words}"));
        match name {
            "CRON_TZ" => self.zone = Some(value.to_owned()),
            "RANDOM_DELAY" => match value.parse::<u64>() {
                Ok(minutes) => self.delay_ms = DurationMillis::from_secs(minutes.saturating_mul(60)),
                Err(_) => warn(format!("RANDOM_DELAY={value} is no number of minutes and is left out")),
            },
            "MAILTO" | "MAILFROM" | "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" => {
                if !value.is_empty() {
                    warn(format!(
                        "{name} is left out: a node sends no mail, it keeps what jobs write (`jobmesh logs`)"
                    ));
                }
            }
            "LOGNAME" | "USER" => warn(format!("{name} is left out: cron does not let a crontab change it")),
            "START_HOURS_RANGE" => warn(format!("{name} is left out: it speaks to anacron")),
            _ => {
                if name == "TZ" {
                    warn("TZ is given to the commands; the times go by the machine's zone, or by CRON_TZ".to_owned());
                }
                self.environment.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn item(&self, number: usize, entry: &Entry<'_>, description: &str) -> Item {
        let mut notes = Vec::new();
        let fate = match self.refusal(entry) {
            Some(reason) => Fate::left_out(reason),
            None => self.schedule(entry, description, &mut notes),
        };
        Item { origin: format!("line {number}"), title: entry.command.clone(), fate, notes }
    }

    /// Why a line that cron takes can't be a schedule of this node.
    fn refusal(&self, entry: &Entry<'_>) -> Option<String> {
        if let Some(user) = entry.user.filter(|user| *user != self.options.user) {
            return Some(format!("it runs as {user}, and the jobs of this node run as {}", self.options.user));
        }
        match &entry.time {
            Time::Reboot => Some(
                "@reboot is no time; let the service that starts the node submit the job after `jobmesh up`".to_owned(),
            ),
            Time::Text(text) if text.contains('~') => Some("it fires at a random minute; choose one".to_owned()),
            Time::Text(_) => None,
        }
    }

    fn schedule(&self, entry: &Entry<'_>, description: &str, notes: &mut Vec<String>) -> Fate {
        let Time::Text(text) = &entry.time else {
            return Fate::left_out("it has no time");
        };
        let zone = self.zone.as_deref().unwrap_or(self.options.zone).to_owned();
        let mut timing = Timing { text: text.clone(), zone, jitter_ms: self.delay_ms };
        let mut timetable = match Timetable::parse(&timing, self.options.now) {
            Ok(timetable) => timetable,
            Err(error) => return Fate::left_out(error.to_string()),
        };
        if let Err(TimetableError::JitterPause { longest, .. }) = timetable.check_jitter() {
            timing.jitter_ms = longest;
            timetable = match Timetable::parse(&timing, self.options.now) {
                Ok(timetable) => timetable,
                Err(error) => return Fate::left_out(error.to_string()),
            };
        }
        let name = self.name(entry, text);
        let mut spec = self.spec(entry, notes);
        label(&mut spec, LABEL_KEY, &name);
        label(&mut spec, LABEL_SOURCE, Kind::Crontab.word());
        label(&mut spec, LABEL_DESCRIPTION, description);
        let submission = Submission::new(spec);
        if let Err(error) = submission.check() {
            return Fate::left_out(error.to_string());
        }
        if entry.command.starts_with("root ") && self.options.layout == Layout::User {
            notes.push("the command begins with `root`; if this is a crontab of the system, add --system".to_owned());
        }
        if timing.jitter_ms < self.delay_ms {
            let cut = format_length(timing.jitter_ms);
            notes.push(format!("up to {cut} later: RANDOM_DELAY has more, but it fires again by then"));
        } else if timing.jitter_ms > DurationMillis(0) {
            notes.push(format!("up to {} later, as RANDOM_DELAY has it", format_length(timing.jitter_ms)));
        }
        let next = timetable.next_after(self.options.now).map(|next| timetable.wall_clock(next));
        // As cron has it: a run of a line never waits for the one before, and what was missed is gone.
        let schedule = Schedule { timing, overlap: Overlap::Allow, catch_up: CatchUp::None, submission };
        let is_paused = self.options.release == Release::Hold;
        let is_zone_asked = self.options.is_zone_asked && self.zone.is_none();
        let words = timetable.words();
        Fate::Schedule(Box::new(PlannedSchedule { name, schedule, is_zone_asked, is_paused, next, words }))
    }

    /// The same for the same line, whether it comes from `crontab -l` or from a copy of that, in whichever zone. A line
    /// that stands in a crontab twice is one schedule.
    fn name(&self, entry: &Entry<'_>, text: &str) -> String {
        let input = entry.input.as_deref().unwrap_or_default();
        let zone = self.zone.as_deref().unwrap_or_default();
        let parts = [text, zone, entry.user.unwrap_or_default(), &entry.command, input];
        let words = slug(&entry.command);
        format!("crontab-{}-{words}", digest(Kind::Crontab, &parts, 8))
    }

    fn spec(&self, entry: &Entry<'_>, notes: &mut Vec<String>) -> JobSpec {
        let shell = self.environment.get("SHELL").map_or(SHELL_DEFAULT, String::as_str).to_owned();
        let argv = match &entry.input {
            None => vec![shell, "-c".to_owned(), entry.command.clone()],
            Some(input) => {
                notes.push("what follows the % is given to the command as its input".to_owned());
                let words = [SHELL_DEFAULT, "-c", WITH_INPUT, &shell, &entry.command, input];
                words.map(str::to_owned).to_vec()
            }
        };
        let mut spec = shell_spec(argv, &entry.command);
        spec.effects = Effects::Once;
        if let Task::Process(process) = &mut spec.task {
            process.directory =
                self.environment.get("HOME").map(String::as_str).or(self.options.home).map(str::to_owned);
            process.environment = self.environment_of_cron();
            process.environment.extend(self.environment.clone());
        }
        spec
    }

    /// What cron gives each command: little, whatever the node was started with.
    fn environment_of_cron(&self) -> BTreeMap<String, String> {
        let Options { user, home, .. } = *self.options;
        let always = [("LOGNAME", user), ("USER", user), ("SHELL", SHELL_DEFAULT), ("PATH", PATH_DEFAULT)];
        let of_home = home.map(|home| ("HOME", home));
        always.into_iter().chain(of_home).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn finish(mut self) -> Result<Plan, ImportError> {
        if let Some(error) = self.malformed.filter(|_| !self.is_crontab) {
            return Err(error);
        }
        if self.plan.schedules().next().is_some() {
            self.plan.replacement = Some(self.replacement);
        }
        Ok(self.plan)
    }
}

/// The first words of a command, as they may stand in a name.
fn slug(command: &str) -> String {
    let program = program_of(command);
    let after = command.split_once(program.as_str()).map_or("", |(_, after)| after);
    let text = format!("{program} {after}").to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.take(4).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "command".to_owned() } else { cut(&slug, WORDS_BYTES_MAX).trim_end_matches('-').to_owned() }
}
