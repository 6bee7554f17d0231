//! A table for people: columns as wide as their widest cell, two blanks between them, no lines.

use crate::cli::output::{Colour, Style, clean};

/// Widest cell; longer ones are cut and end in `…`.
const CELL_CHARS_MAX: usize = 60;

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell that stands out so.
    pub(crate) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        let text = clean(text.as_ref()).replace('\n', " ");
        let mut chars = text.chars();
        let mut cut: String = chars.by_ref().take(CELL_CHARS_MAX).collect();
        if chars.next().is_some() {
            cut.pop();
            cut.push('…');
        }
        Self { text: cut, style }
    }

    /// A cell that is not cut; for the last column.
    pub(crate) fn whole(text: impl AsRef<str>) -> Self {
        Self { text: clean(text.as_ref()).replace('\n', " "), style: Style::Plain }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(Style::Plain, text)
    }
}

/// A table that is being filled.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    head: [&'static str; COLUMNS],
    rows: Vec<[Cell; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) const fn new(head: [&'static str; COLUMNS]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: [Cell; COLUMNS]) {
        self.rows.push(row);
    }

    /// Writes the table, each line after `indent` blanks.
    pub(crate) fn render(&self, colour: Colour, indent: usize) -> String {
        let mut widths = self.head.map(|head| head.chars().count());
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let head = self.head.map(|head| Cell::styled(Style::Bold, head));
        std::iter::once(&head).chain(&self.rows).map(|row| line(row, &widths, colour, indent)).collect()
    }
}

fn line(row: &[Cell], widths: &[usize], colour: Colour, indent: usize) -> String {
    let mut line = " ".repeat(indent);
    let mut gap = 0;
    for (cell, width) in row.iter().zip(widths) {
        if !cell.text.is_empty() {
            line.push_str(&" ".repeat(gap));
            line.push_str(&colour.paint(cell.style, &cell.text));
            gap = 0;
        }
        gap += width.saturating_sub(cell.width()) + 2;
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_blanks() {
        let mut table = Table::new(["JOB", "STATE", "COMMAND"]);
        table.push(["1".into(), "completed".into(), "true".into()]);
        table.push(["1234".into(), Cell::default(), "größer".into()]);
        table.push(["5".into(), "running".into(), Cell::default()]);
        let text = table.render(Colour::Off, 0);
        assert_eq!(
            text,
            "JOB   STATE      COMMAND\n\
             1     completed  true\n\
             1234             größer\n\
             5     running\n"
        );
    }

    #[test]
    fn colour_does_not_move_columns() {
        let mut table = Table::new(["A", "B"]);
        table.push([Cell::styled(Style::Bad, "xx"), "y".into()]);
        assert!(table.render(Colour::On, 2).ends_with("  \u{1b}[31mxx\u{1b}[0m  y\n"));
    }

    #[test]
    fn a_long_or_hostile_cell_stays_in_its_line() {
        let cell = Cell::from(format!("a\nb\u{1b}[31m{}", "z".repeat(100)));
        assert_eq!(cell.width(), CELL_CHARS_MAX);
        assert!(cell.text.starts_with("a b\u{fffd}[31m") && cell.text.ends_with('…'));
    }
}
