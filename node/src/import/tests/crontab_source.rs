//! Crontabs, good and hostile.

use jobmesh_protocol::task::Task;

use super::*;
use crate::import::crontab::{Layout, Options, read};

const USER: &str = include_str!("../fixtures/crontab");
const SYSTEM: &str = include_str!("../fixtures/crontab.system");

fn options(layout: Layout, release: Release) -> Options<'static> {
    let (zone, is_zone_asked) = ("Europe/Oslo", false);
    Options { layout, user: "me", home: Some("/home/me"), zone, is_zone_asked, now: NOW, release }
}

fn plan(text: &str, layout: Layout, release: Release) -> Plan {
    read("crontab of me", text, &options(layout, release)).unwrap()
}

fn schedule<'p>(plan: &'p Plan, origin: &str) -> &'p PlannedSchedule {
    let Fate::Schedule(schedule) = &item(plan, origin).fate else { unreachable!("{:?}", item(plan, origin)) };
    schedule
}

fn argv(schedule: &PlannedSchedule) -> Vec<&str> {
    let Task::Process(process) = &schedule.schedule.submission.spec.task else { unreachable!("it is a process") };
    process.argv.iter().map(String::as_str).collect()
}

#[test]
fn each_line_becomes_a_schedule_or_says_why_not() {
    let plan = plan(USER, Layout::User, Release::Hold);
    let lines: Vec<String> = plan
        .items
        .iter()
        .map(|item| match &item.fate {
            Fate::Schedule(it) => {
                let timing = &it.schedule.timing;
                let next = it.next.as_deref().unwrap_or("never");
                format!("{}: {} {}, next {next}", item.origin, timing.text, timing.zone)
            }
            Fate::LeftOut { reason } => format!("{}: {reason}", item.origin),
            Fate::Job(_) | Fate::NeedsMapping { .. } => unreachable!("a crontab has no jobs"),
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    line 11: 30 2 * * * Europe/Oslo, next 2026-06-02T02:30:00+02:00
    line 12: */10 8-18 * * MON-FRI Europe/Oslo, next 2026-06-01T14:10:00+02:00
    line 13: @daily Europe/Oslo, next 2026-06-02T00:00:00+02:00
    line 14: @reboot is no time; let the service that starts the node submit the job after `jobmesh up`
    line 17: 0 9 1 JAN,jul * America/New_York, next 2026-07-01T09:00:00-04:00
    line 18: the schedule never fires: no date of the next 41 years matches its days and months
    line 20: 15 3 * * 7 America/New_York, next 2026-06-07T03:15:00-04:00
    ");
    let mail = "line 7: MAILTO is left out: a node sends no mail, it keeps what jobs write (`jobmesh logs`)";
    assert_eq!(plan.warnings, [mail]);
}

#[test]
fn a_line_keeps_its_shell_environment_directory_and_comment() {
    let plan = plan(USER, Layout::User, Release::Hold);
    let backup = schedule(&plan, "line 11");
    assert!(backup.is_paused);
    assert!(
        backup.name.starts_with("crontab-") && backup.name.ends_with("-backup-quiet-home-photos"),
        "{}",
        backup.name
    );
    let line = "/usr/local/bin/backup --quiet \"$HOME/photos\" >> $HOME/backup.log 2>&1";
    assert_eq!(argv(backup), ["/bin/bash", "-c", line]);
    let spec = &backup.schedule.submission.spec;
    let Task::Process(process) = &spec.task else { unreachable!("it is a process") };
    assert_eq!(process.directory.as_deref(), Some("/home/me"));
    assert_eq!(process.environment.get("PATH").map(String::as_str), Some("/usr/local/bin:/usr/bin:/bin"));
    assert!(!process.environment.contains_key("MAILTO"));
    let of_cron = ["SHELL", "HOME", "LOGNAME"].map(|name| process.environment.get(name).map(String::as_str));
    assert_eq!(of_cron, [Some("/bin/bash"), Some("/home/me"), Some("me")]);
    assert_eq!(spec.labels.get(LABEL_DESCRIPTION).map(String::as_str), Some("Back up the photos every night"));
    assert_eq!(spec.job_type, "backup");
}

#[test]
fn what_follows_a_percent_sign_is_the_input() {
    let plan = plan(USER, Layout::User, Release::Hold);
    let mail = argv(schedule(&plan, "line 17"));
    let command = "date +%F | mail -s \"Half a year\" boss";
    assert_eq!(mail.get(3..), Some(["/bin/bash", command, "Dear boss,\n\nhalf a year has gone.\n"].as_slice()));
    let words = ["-c", r#"printf %s "$2" | "$0" -c "$1""#, "/bin/sh", "cat; exit 3", "50% \\n done\n"];
    let ran = std::process::Command::new("/bin/sh").args(words).output().unwrap();
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(3), b"50% \\n done\n".as_slice()));
}

#[test]
fn the_replacement_switches_off_what_was_imported_and_nothing_else() {
    let plan = plan(USER, Layout::User, Release::Hold);
    let replacement = plan.replacement.as_deref().unwrap();
    let changed: Vec<(&str, &str)> = USER.lines().zip(replacement.lines()).filter(|(old, new)| old != new).collect();
    assert_eq!(changed.len(), plan.schedules().count());
    assert!(changed.iter().all(|(old, new)| *new == format!("#jobmesh# {old}")));
    let again = super::crontab_source::plan(replacement, Layout::User, Release::Hold);
    assert_eq!(again.schedules().count(), 0);
    assert_eq!(again.replacement, None);
}

#[test]
fn the_system_runs_lines_of_others_that_this_node_can_not() {
    let plan = plan(SYSTEM, Layout::System, Release::Enqueue);
    assert_eq!(reason(&plan, "line 4"), "it runs as root, and the jobs of this node run as me");
    assert!(!schedule(&plan, "line 5").is_paused);
}

#[test]
fn doing_it_twice_changes_nothing() {
    let first = plan(USER, Layout::User, Release::Hold);
    assert_eq!(first, plan(USER, Layout::User, Release::Hold));
    assert_nothing_new(&first);
    // Lines that moved, and a release, leave the names as they were.
    let moved = plan(&format!("\n# moved\n{USER}"), Layout::User, Release::Enqueue);
    let names = |plan: &Plan| plan.schedules().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), names(&moved));
    let doubled = plan(&format!("{USER}{USER}"), Layout::User, Release::Hold);
    assert!(
        doubled.items.iter().any(|item| matches!(&item.fate, Fate::LeftOut { reason } if reason.contains("twice")))
    );
}

/// With another `--tz`, the whole crontab was imported beside what was there.
#[test]
fn another_zone_changes_the_schedules_that_go_by_it() {
    let first = plan(USER, Layout::User, Release::Hold);
    let schedules = first.schedules().map(|it| (it.name.clone(), it.schedule.clone())).collect();
    let there = Present { schedules, ..Present::default() };
    for is_zone_asked in [true, false] {
        let moved = Options { zone: "Asia/Tokyo", is_zone_asked, ..options(Layout::User, Release::Hold) };
        let second = read("crontab of me", USER, &moved).unwrap();
        let report = Report::new(&second, Some(&there));
        assert_eq!((report.totals.schedules, report.totals.changed), (0, if is_zone_asked { 3 } else { 0 }));
        let fixed = item(&second, "line 17");
        assert!(report.items.iter().any(|it| it.origin == fixed.origin && it.verdict == report::Verdict::AlreadyThere));
    }
}

#[test]
fn a_line_that_cron_would_not_take_is_left_out_and_the_others_are_not() {
    let plan = plan("*/5\t*\t*\t*\t*\ttool\targument\n61 oops\n0 0 * * * other\n", Layout::User, Release::Hold);
    assert_eq!(argv(schedule(&plan, "line 1")), ["/bin/sh", "-c", "tool\targument"]);
    assert!(reason(&plan, "line 2").starts_with("line 2 of the crontab has 1 fields"), "{}", reason(&plan, "line 2"));
    assert_eq!(argv(schedule(&plan, "line 3")), ["/bin/sh", "-c", "other"]);
}

#[test]
fn hostile_text_is_refused_with_its_line() {
    let options = options(Layout::User, Release::Hold);
    let refused = |text: &str| read("x", text, &options).unwrap_err().to_string();
    assert_eq!(refused("\n\u{0}"), "line 2 contains a NUL byte; is this the right file?");
    assert!(refused(&"x".repeat(10 << 20)).starts_with("line 1 has more than"));
    assert!(refused("MAILTO=x\n* * * *\n").starts_with("line 2 of the crontab has 4 fields; it needs 5"));
    assert!(refused("0 0 3 * * * tool").starts_with("line 1 of the crontab has a sixth time field, \"*\""));
    let long = format!("* * * * * {}", "y".repeat(100_000));
    let plan = read("x", &long, &options).unwrap();
    assert!(reason(&plan, "line 1").starts_with("the job spec takes"));
    let plan = read("x", "CRON_TZ=Mars/Olympus\n* * * * * x", &options).unwrap();
    assert!(reason(&plan, "line 2").contains("Mars/Olympus"), "{}", reason(&plan, "line 2"));
}

/// The node refuses a jitter that is longer than the time between two instants, and the import promised the schedule.
#[test]
fn a_delay_is_cut_to_the_time_between_two_instants() {
    let plan = plan("RANDOM_DELAY=6\n* * * * * often\n0 * * * * seldom\n", Layout::User, Release::Hold);
    let jitters: Vec<_> = plan.schedules().map(|it| it.schedule.timing.jitter_ms).collect();
    assert_eq!(jitters, [DurationMillis::from_secs(60), DurationMillis::from_secs(360)]);
    assert_eq!(item(&plan, "line 2").notes, ["up to 1m later: RANDOM_DELAY has more, but it fires again by then"]);
    assert_eq!(item(&plan, "line 3").notes, ["up to 6m later, as RANDOM_DELAY has it"]);
}
