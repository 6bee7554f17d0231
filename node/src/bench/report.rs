//! The table, and the same as a document.

use std::fmt::Write as _;
use std::time::Duration;

use jobmesh::causes::causes;
use serde::Serialize;

use super::error::BenchError;
use super::machine::Machine;
use super::others::Others;
use super::plan::Part;
use super::statistics::per_second;
use crate::cli::{Cell, Colour, Style, Table, clean};

/// A measured value with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "unit", content = "value", rename_all = "snake_case")]
pub(super) enum Figure {
    /// Things in a second.
    PerSecond(f64),
    /// A length of time.
    Millis(f64),
    /// Memory.
    Mebibytes(f64),
    /// Time of one processor.
    Percent(f64),
}

impl Figure {
    /// A rate.
    pub(super) fn rate(count: usize, elapsed: Duration) -> Self {
        Self::PerSecond(per_second(count, elapsed))
    }

    /// A length of time.
    pub(super) fn length(length: Duration) -> Self {
        Self::Millis(length.as_secs_f64() * 1e3)
    }

    /// Whether it is a rate of at least so many.
    pub(super) fn is_at_least(self, rate: f64) -> bool {
        matches!(self, Self::PerSecond(value) if value >= rate)
    }

    /// This beside another of the same unit.
    fn ratio(self, floor: Self) -> Option<f64> {
        let (mine, theirs) = match (self, floor) {
            (Self::PerSecond(mine), Self::PerSecond(theirs))
            | (Self::Millis(mine), Self::Millis(theirs))
            | (Self::Mebibytes(mine), Self::Mebibytes(theirs))
            | (Self::Percent(mine), Self::Percent(theirs)) => (mine, theirs),
            (Self::PerSecond(_) | Self::Millis(_) | Self::Mebibytes(_) | Self::Percent(_), _) => return None,
        };
        (theirs > 0.0).then_some(mine / theirs)
    }

    fn words(self) -> String {
        match self {
            Self::PerSecond(value) => format!("{}/s", rounded(value)),
            Self::Millis(value) => format!("{} ms", rounded(value)),
            Self::Mebibytes(value) => format!("{value:.1} MiB"),
            Self::Percent(value) => format!("{value:.2} %"),
        }
    }
}

/// Three digits that mean something; thousands apart.
fn rounded(value: f64) -> String {
    match value {
        ..0.1 => format!("{value:.4}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        ..1000.0 => format!("{value:.0}"),
        _ => apart(&format!("{value:.0}")),
    }
}

/// Puts a comma before every third digit from the right.
fn apart(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    part: Part,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    figure: Option<Figure>,
    /// What the machine allows, or what the figure is to be held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    condition: String,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl Row {
    /// A figure that was measured under `condition`.
    pub(super) fn new(part: Part, what: impl Into<String>, figure: Figure, condition: impl Into<String>) -> Self {
        let (what, condition) = (what.into(), condition.into());
        Self { part, what, figure: Some(figure), floor: None, ratio: None, condition, missing: None }
    }

    /// A figure that could not be measured.
    pub(super) fn missing(part: Part, what: impl Into<String>, error: &BenchError) -> Self {
        let (what, missing) = (what.into(), Some(causes(error)));
        Self { part, what, figure: None, floor: None, ratio: None, condition: String::new(), missing }
    }

    /// Puts the floor beside it.
    pub(super) fn over(mut self, floor: Figure) -> Self {
        self.floor = Some(floor);
        self.ratio = self.figure.and_then(|figure| figure.ratio(floor));
        self
    }

    /// What was measured.
    #[cfg(test)]
    pub(super) const fn figure(&self) -> Option<Figure> {
        self.figure
    }

    fn cells(&self) -> [Cell; 6] {
        let figure = self.figure.map_or_else(|| Cell::styled(Style::Bad, "not measured"), |it| it.words().into());
        [
            self.part.word().into(),
            self.what.as_str().into(),
            figure,
            self.floor.map(Figure::words).unwrap_or_default().into(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default().into(),
            Cell::styled(Style::Dim, &self.condition),
        ]
    }
}

/// The rows of one part while they are measured.
#[derive(Debug)]
pub(super) struct Rows {
    part: Part,
    rows: Vec<Row>,
}

impl Rows {
    /// No rows yet.
    pub(super) const fn new(part: Part) -> Self {
        Self { part, rows: Vec::new() }
    }

    /// Measures. What can't be measured becomes a row called `what` that says why; only an interruption goes further.
    pub(super) fn add(
        &mut self,
        what: &str,
        measure: impl FnOnce() -> Result<Vec<Row>, BenchError>,
    ) -> Result<(), BenchError> {
        match measure() {
            Ok(rows) => self.rows.extend(rows),
            Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
            Err(error) => self.rows.push(Row::missing(self.part, what, &error)),
        }
        Ok(())
    }

    /// The rows.
    pub(super) fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(super) machine: Machine,
    pub(super) others: Others,
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// The lines for people.
    pub(crate) fn text(&self, colour: Colour) -> String {
        let mut text = self.machine.text() + &self.others.text();
        text.push('\n');
        let mut table = Table::new(["PART", "WHAT", "FIGURE", "FLOOR", "RATIO", "CONDITION"]);
        for row in &self.rows {
            table.push(row.cells());
        }
        text.push_str(&table.render(colour, 0));
        let missing: Vec<_> = self.rows.iter().filter_map(|row| Some((row, row.missing.as_deref()?))).collect();
        if !missing.is_empty() {
            text.push_str("\nNot measured:\n");
        }
        for (row, why) in missing {
            let _ = writeln!(text, "  {} {}: {}", row.part.word(), row.what, clean(why));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let rate = Row::new(Part::Process, "array of 10,000", Figure::PerSecond(2345.6), "2 slots");
        let refused = BenchError::Refused {
            question: "POST /v1/jobs/batch".to_owned(),
            status: 404,
            message: "no such route".to_owned(),
        };
        let rows = vec![
            rate.over(Figure::PerSecond(3350.0)),
            Row::new(Part::Latency, "p50", Figure::Millis(1.2345), "").over(Figure::PerSecond(1.0)),
            Row::new(Part::Idle, "memory", Figure::Mebibytes(29.31), ""),
            Row::missing(Part::Enqueue, "batch", &refused),
        ];
        Report { machine: Machine::example(), others: Others::default(), rows }
    }

    #[test]
    fn the_table_shows_figure_floor_and_ratio() {
        let text = report().text(Colour::Off);
        let table = text.split_once("\n\n").map(|(_, table)| table);
        insta::assert_snapshot!(table.unwrap_or_default(), @r"
        PART     WHAT             FIGURE        FLOOR    RATIO  CONDITION
        process  array of 10,000  2,346/s       3,350/s  0.70   2 slots
        latency  p50              1.23 ms       1.00/s
        idle     memory           29.3 MiB
        enqueue  batch            not measured

        Not measured:
          enqueue batch: the node answers 404 to POST /v1/jobs/batch: no such route
        ");
    }

    #[test]
    fn the_document_has_units_and_says_what_is_missing() {
        let document = serde_json::to_value(report()).unwrap_or_default();
        let rows = &document["rows"];
        assert_eq!(rows[0]["figure"], serde_json::json!({"unit": "per_second", "value": 2345.6}));
        assert_eq!(rows[0]["part"], "process");
        assert!(rows[1].get("ratio").is_none(), "figures of different units have no ratio");
        assert!(rows[3]["missing"].as_str().is_some_and(|why| why.contains("404")));
    }

    #[test]
    fn figures_keep_three_digits() {
        let cases = [
            (0.0456, "0.0456"),
            (0.71, "0.71"),
            (12.34, "12.3"),
            (123.4, "123"),
            (6080.2, "6,080"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, words) in cases {
            assert_eq!(rounded(value), words);
        }
    }

    #[test]
    fn only_an_interruption_ends_a_part() {
        let mut rows = Rows::new(Part::Noop);
        assert!(rows.add("x", || Err(BenchError::NoProgram("true"))).is_ok());
        assert!(rows.add("y", || Err(BenchError::Interrupted)).is_err());
        assert_eq!(rows.into_rows().len(), 1);
    }
}
