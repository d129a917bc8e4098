//! Standard output: one answer, as a table or as JSON; a reader that goes away ends it quietly.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use super::Failure;

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One JSON object or array
    Json,
}

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether people read it.
    pub(super) const fn is_for_people(self) -> bool {
        matches!(self.format, Format::Table)
    }

    /// Writes `answer` as one line of JSON, or what `table` makes for people: where that is nothing, not even a line.
    pub(super) fn answer<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) -> io::Result<()> {
        let text = match self.format {
            Format::Json => serde_json::to_string(answer)?,
            Format::Table => table(answer),
        };
        if text.is_empty() { Ok(()) } else { write_out(&text) }
    }
}

impl Output {
    /// Writes a piece of an answer that is too long to be held: `json` or `table`, as wanted. A reader that went away gets
    /// no more.
    pub(super) fn piece(self, json: &str, table: &str) {
        let text = match self.format {
            Format::Json => json,
            Format::Table => table,
        };
        let mut out = io::stdout().lock();
        _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Writes a text and its newline to standard output, and flushes: scripts wait for it.
fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    match written {
        // `postern keys list | head -1` is no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Where an export goes: a new file, as nothing that is there is overwritten, or without one the standard output.
pub(super) fn new_file_or_stdout(path: Option<&Path>) -> Result<Box<dyn Write + Send>, Failure> {
    let Some(path) = path else { return Ok(Box::new(BufWriter::new(io::stdout()))) };
    let file = File::create_new(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// Writes to standard error. Nobody is left to tell when that fails.
pub(super) fn complain(text: &str) {
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// A text from outside as it may go to a terminal: nothing in it moves the cursor or turns the writing round.
pub(super) fn printable(text: &str) -> String {
    let moves = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace(moves, "\u{fffd}")
}

/// Rows under headings, columns as wide as they need.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headings)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "é".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["A", "NAME"], &rows), "A     NAME\n1     é\nlong");
    }

    #[test]
    fn nothing_in_a_cell_moves_the_cursor() {
        let rows = [["a\u{1b}[2Jb\r\n\u{202e}c".to_owned()]];
        assert_eq!(table(["A"], &rows), "A\na\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c");
    }
}
