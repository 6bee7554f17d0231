//! `jobmesh demo`: all of it at work on one machine, in a few seconds, with nothing left behind.
//!
//! Three real daemons with homes of their own in a temporary folder, joined by invite over loopback. The clean-up is
//! part of the show: it runs after success, after a failure and after Ctrl-C, and what it can't do in good order it
//! does by force.

mod stage;
mod story;

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Context, Exit, Failure, Kind, Output};
use stage::Stage;

/// How long the story may take: several times what it takes on a slow machine.
const STORY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
#[command(after_help = "Touches nothing but a temporary folder, which is removed again.")]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let fault = |error: std::io::Error| Failure::of(Kind::Internal, &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
        let mut teller = Teller { output: context.output, step: 0 };
        let mut stage = Stage::build()?;
        let told = tokio::select! {
            biased;
            Some(()) = interrupt.recv() => Ok(Exit::INTERRUPTED),
            Some(()) = terminate.recv() => Ok(Exit::INTERRUPTED),
            told = Box::pin(story::tell(&mut stage, &mut teller)) => told.map(|()| Exit::OK),
            () = tokio::time::sleep(STORY_LIMIT) => {
                let message = format!("the demo has not ended after {} s", STORY_LIMIT.as_secs());
                Err(Failure::new(Kind::Timeout, message).hint("try again; this machine may be very busy"))
            }
        };
        let cleared = stage.clear().await;
        let exit = told?;
        cleared?;
        if exit == Exit::OK {
            teller.step("stopped the three nodes and removed their folder")?;
            story::what_next(&teller)?;
        }
        Ok(exit)
    }
}

/// Tells what happens: numbered steps and lines below them, or one JSON line each.
pub(crate) struct Teller {
    output: Output,
    step: u32,
}

impl Teller {
    /// The next step.
    fn step(&mut self, text: &str) -> Result<(), Failure> {
        self.step += 1;
        self.say(&json!({"type": "step", "step": self.step, "text": text}), &format!("{}. {text}\n", self.step))
    }

    /// Lines that belong to the step.
    fn lines(&self, text: &str) -> Result<(), Failure> {
        let lines: String =
            text.trim_end().lines().map(|line| format!("   {line}").trim_end().to_owned() + "\n").collect();
        self.say(&json!({"type": "text", "step": self.step, "text": text.trim_end()}), &lines)
    }

    fn say(&self, value: &serde_json::Value, text: &str) -> Result<(), Failure> {
        if self.output.is_json() { self.output.line(value) } else { self.output.bytes(text.as_bytes()) }
    }
}
