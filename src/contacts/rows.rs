//! A file of contacts, or of suppressions, row by row: CSV with a header line, or one JSON object a line.
//!
//! Memory does not grow with the file: a row is bounded, and nothing of it is kept. A row that cannot be used does not keep
//! the others from being read. No value is ever repeated in a problem.

mod object;
mod sheets;

use std::cell::Cell;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};
use jiff::Timestamp;
use serde_json::{Map, Value};

pub use self::sheets::Sheet;

use crate::domain::submission::FieldError;

/// Bytes of a row at most.
const ROW_BYTES_MAX: usize = 1 << 20;
/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated values (RFC 4180), perhaps with another separator.
    Csv(u8),
    /// One JSON object a line.
    Ndjson,
}

/// One row of a file.
#[derive(Debug, PartialEq)]
pub struct Row<T> {
    /// The line it begins in, from 1.
    pub line: u64,
    /// Bytes of the file that were read so far.
    pub bytes: u64,
    /// What it says, or everything that is wrong with it.
    pub said: Result<T, Vec<FieldError>>,
}

/// Why reading a file ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The file's first line names no columns, or others than there are.
    #[error("line 1: {0}")]
    Header(String),
    /// A row has no end.
    #[error("line {line}: a row is longer than {ROW_BYTES_MAX} bytes: a quote that is not closed?")]
    Endless {
        /// Where it begins.
        line: u64,
    },
    /// A quote has no end.
    #[error("line {line}: a quote that is opened in this row is never closed: nothing from here on was read")]
    Unclosed {
        /// Where the row begins.
        line: u64,
    },
    /// The file cannot be read on.
    #[error("line {line}: reading failed")]
    Broken {
        /// Where.
        line: u64,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Reads a file.
pub struct Rows<R, T> {
    source: Source<R>,
    sheet: Sheet<T>,
    now: Timestamp,
}

enum Source<R> {
    Csv { reader: csv::Reader<Bounded<R>>, flow: Rc<Flow>, columns: Vec<Column>, record: ByteRecord },
    Ndjson { reader: BufReader<R>, line: u64, bytes: u64 },
}

impl<R: Read, T> Rows<BufReader<R>, T> {
    /// Begins to read; `now` dates what the file gives no time for.
    pub fn open(file: R, form: Form, sheet: Sheet<T>, now: Timestamp) -> Result<Self, Unreadable> {
        let mut file = BufReader::new(file);
        let start = file.fill_buf().map_err(|error| Unreadable::Broken { line: 1, error })?;
        if start.starts_with(BYTE_ORDER_MARK) {
            file.consume(BYTE_ORDER_MARK.len());
        }
        let source = match form {
            Form::Ndjson => Source::Ndjson { reader: BufReader::new(file), line: 0, bytes: 0 },
            Form::Csv(delimiter) => {
                let flow = Rc::new(Flow { left: Cell::new(ROW_BYTES_MAX), given: Cell::new(0), ended: Cell::new(0) });
                let bounded = Bounded { inner: file, flow: Rc::clone(&flow) };
                let mut builder = ReaderBuilder::new();
                builder.delimiter(delimiter).flexible(true).has_headers(false);
                // Lines are counted right only if each ends in one byte: what stands before it is cut off below.
                let mut reader = builder.terminator(csv::Terminator::Any(b'\n')).from_reader(bounded);
                let mut record = ByteRecord::new();
                reader.read_byte_record(&mut record).map_err(|error| unreadable(error, 1))?;
                if flow.is_over(reader.position()) {
                    record.clear();
                }
                let columns = columns(&record, &sheet).map_err(Unreadable::Header)?;
                Source::Csv { reader, flow, columns, record }
            }
        };
        Ok(Self { source, sheet, now })
    }
}

impl<R: Read, T> Rows<R, T> {
    /// The next row; `None` at the end.
    pub fn next_row(&mut self) -> Result<Option<Row<T>>, Unreadable> {
        match &mut self.source {
            Source::Csv { reader, flow, columns, record } => loop {
                flow.left.set(ROW_BYTES_MAX);
                let from = reader.position().line();
                if !reader.read_byte_record(record).map_err(|error| unreadable(error, from))? {
                    return Ok(None);
                }
                if record.len() == 1 && without_return(&record[0]).is_empty() {
                    continue;
                }
                let within = lines_within(record);
                if flow.is_over(reader.position()) {
                    if record.iter().eq([END_ROW]) {
                        return Ok(None);
                    }
                    // The row has no end of its own.
                    return Err(Unreadable::Unclosed { line: reader.position().line().saturating_sub(within) });
                }
                let line = reader.position().line().saturating_sub(1 + within);
                let said = object(record, columns).and_then(|mut said| (self.sheet.read)(&mut said, self.now));
                return Ok(Some(Row { line, bytes: reader.position().byte(), said }));
            },
            Source::Ndjson { reader, line, bytes } => loop {
                *line += 1;
                let mut text = Vec::new();
                let mut bounded = reader.by_ref().take(ROW_BYTES_MAX as u64);
                let read = bounded.read_until(b'\n', &mut text);
                let read = read.map_err(|error| Unreadable::Broken { line: *line, error })?;
                if read == 0 {
                    return Ok(None);
                }
                if read == ROW_BYTES_MAX && text.last() != Some(&b'\n') {
                    return Err(Unreadable::Endless { line: *line });
                }
                *bytes += read as u64;
                let text = text.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                let said = object::read(text).map_err(|detail| vec![FieldError::new("", detail)]);
                let said = said.and_then(|mut said| (self.sheet.read)(&mut said, self.now));
                return Ok(Some(Row { line: *line, bytes: *bytes, said }));
            },
        }
    }
}

// --- CSV ---

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Field(&'static str),
    Granted(String),
    ConsentAt(String),
    ConsentSource(String),
    Own(String),
}

/// The columns that a header line names, in any case. Their names are not repeated: it may be the first row.
fn columns<T>(header: &ByteRecord, sheet: &Sheet<T>) -> Result<Vec<Column>, String> {
    let mut columns = Vec::with_capacity(header.len());
    for (index, name) in header.iter().enumerate() {
        let column = std::str::from_utf8(without_return(name)).ok().and_then(|name| column(name, sheet));
        let number = index + 1;
        match column {
            None => return Err(format!("column {number} is not known; there are {}", sheet.columns)),
            Some(column) if columns.contains(&column) => return Err(format!("column {number} is there twice")),
            Some(column) => columns.push(column),
        }
    }
    match sheet.required.iter().find(|name| !columns.contains(&Column::Field(name))) {
        Some(name) => Err(format!("there is no column {name}")),
        None => Ok(columns),
    }
}

fn column<T>(name: &str, sheet: &Sheet<T>) -> Option<Column> {
    let name = name.trim();
    let lower = name.to_ascii_lowercase();
    let plain: String = lower.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
    if let Some(field) = sheet.fields.iter().find(|field| field.to_ascii_lowercase() == plain) {
        return Some(Column::Field(field));
    }
    if !sheet.has_own {
        return None;
    }
    // Same length: only ASCII letters changed. Names of the brand's own keep their case.
    if lower.starts_with("fields.") {
        return Some(Column::Own(name["fields.".len()..].to_owned())).filter(|_| lower.len() > "fields.".len());
    }
    let consent = lower.starts_with("consent.").then(|| &name["consent.".len()..]).filter(|name| !name.is_empty())?;
    Some(match consent.rsplit_once('.') {
        Some((name, part)) if part.eq_ignore_ascii_case("at") => Column::ConsentAt(name.to_owned()),
        Some((name, part)) if part.eq_ignore_ascii_case("source") => Column::ConsentSource(name.to_owned()),
        Some(_) | None => Column::Granted(consent.to_owned()),
    })
}

/// A record as the object that the door would be sent. An empty cell says nothing.
fn object(record: &ByteRecord, columns: &[Column]) -> Result<Map<String, Value>, Vec<FieldError>> {
    if record.len() > columns.len() {
        return Err(vec![FieldError::new("", format!("{} fields, but {} columns", record.len(), columns.len()))]);
    }
    let (mut said, mut consent, mut fields) = (Map::new(), Map::new(), Map::new());
    let mut wrong = Vec::new();
    for (index, (cell, column)) in record.iter().zip(columns).enumerate() {
        let cell = if index + 1 == record.len() { without_return(cell) } else { cell };
        if cell.is_empty() {
            continue;
        }
        let Ok(text) = std::str::from_utf8(cell) else {
            wrong.push(FieldError::new(place(column), "not UTF-8"));
            continue;
        };
        let mut part = |name: &str, member: &str, value: Value| {
            let entry = consent.entry(name).or_insert_with(|| Value::Object(Map::new()));
            entry.as_object_mut().map(|entry| entry.insert(member.to_owned(), value))
        };
        match column {
            Column::Field(name) => drop(said.insert((*name).to_owned(), text.into())),
            Column::Own(name) => drop(fields.insert(name.clone(), text.into())),
            Column::ConsentAt(name) => drop(part(name, "at", text.into())),
            Column::ConsentSource(name) => drop(part(name, "source", text.into())),
            Column::Granted(name) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => drop(part(name, "granted", true.into())),
                "false" | "no" | "0" => drop(part(name, "granted", false.into())),
                _ => wrong.push(FieldError::new(place(column), "must be true or false (yes, no, 1, 0)")),
            },
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let own = [("consent".to_owned(), consent), ("fields".to_owned(), fields)];
    said.extend(own.into_iter().filter(|(_, own)| !own.is_empty()).map(|(name, own)| (name, own.into())));
    Ok(said)
}

fn place(column: &Column) -> String {
    match column {
        Column::Field(name) => format!("/{name}"),
        Column::Own(name) => format!("/fields/{name}"),
        Column::Granted(name) => format!("/consent/{name}/granted"),
        Column::ConsentAt(name) => format!("/consent/{name}/at"),
        Column::ConsentSource(name) => format!("/consent/{name}/source"),
    }
}

/// The end of a line that ends in CR LF belongs to no cell.
fn without_return(cell: &[u8]) -> &[u8] {
    cell.strip_suffix(b"\r").unwrap_or(cell)
}

/// Line ends within a row. The line that a row begins in is that after it, less the row's own. (What the reader says of the
/// beginning counts empty lines before a row to it.)
fn lines_within(record: &ByteRecord) -> u64 {
    record.iter().map(|cell| memchr::memchr_iter(b'\n', cell).count() as u64).sum()
}

/// What is put behind the end of each file: the end of its last line, and a row of its own. Where that row is not found as
/// one, a quote was open at the end of the file.
const END: &[u8] = b"\n\0\n";
const END_ROW: &[u8] = b"\0";

/// How far a file has been given out.
struct Flow {
    /// Bytes that may still be given out for this row.
    left: Cell<usize>,
    /// Bytes given out.
    given: Cell<u64>,
    /// Of these, bytes of [`END`].
    ended: Cell<usize>,
}

impl Flow {
    /// Whether all was given out and read.
    fn is_over(&self, position: &csv::Position) -> bool {
        self.ended.get() == END.len() && position.byte() == self.given.get()
    }
}

/// A reader that gives out only so much for one row.
struct Bounded<R> {
    inner: R,
    flow: Rc<Flow>,
}

/// Marks the error of a row that has no end.
#[derive(Debug, thiserror::Error)]
#[error("a row has no end")]
struct NoEnd;

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Flow { left, given, ended } = &*self.flow;
        if left.get() == 0 {
            return Err(io::Error::other(NoEnd));
        }
        let most = into.len().min(left.get());
        let read = self.inner.read(&mut into[..most])?;
        left.set(left.get() - read);
        given.set(given.get() + read as u64);
        if read > 0 || most == 0 {
            return Ok(read);
        }
        let read = (&END[ended.get()..]).read(into)?;
        ended.set(ended.get() + read);
        given.set(given.get() + read as u64);
        Ok(read)
    }
}

fn unreadable(error: csv::Error, line: u64) -> Unreadable {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<NoEnd>) => {
            Unreadable::Endless { line }
        }
        csv::ErrorKind::Io(error) => Unreadable::Broken { line, error },
        // Bytes of any number in a row are what was asked for.
        _ => Unreadable::Broken { line, error: io::ErrorKind::InvalidData.into() },
    }
}

#[cfg(test)]
mod tests;
