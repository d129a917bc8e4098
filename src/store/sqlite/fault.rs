//! What can go wrong in one piece of SQL work, and how a row is read without trusting it.

use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::types::FromSql;
use rusqlite::{ErrorCode, Row};

use crate::domain::ids::{BrakeId, EnrollmentId, EventId, KeyId, MessageId, PushId};
use crate::store::StoreError;

/// Why a piece of work on a connection failed. Which work it was is known where it was handed in.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite refused.
    Database(rusqlite::Error),
    /// A row does not make sense.
    Corrupt { table: &'static str, column: &'static str, id: String },
    /// The system gives no random bytes.
    Random(getrandom::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Fault {
    /// As the failure of a write.
    pub(super) fn not_persisted(self, doing: &'static str) -> StoreError {
        match self {
            Self::Database(error) => StoreError::NotPersisted { doing, detail: error.to_string() },
            Self::Random(error) => StoreError::NotPersisted { doing, detail: error.to_string() },
            Self::Corrupt { table, column, id } => StoreError::Corrupt { table, column, id },
        }
    }

    /// As the failure of a read.
    pub(super) fn unreadable(self, doing: &'static str) -> StoreError {
        match self {
            Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                StoreError::Unreadable { doing, detail: "it took too long".to_owned() }
            }
            Self::Database(error) => StoreError::Unreadable { doing, detail: error.to_string() },
            Self::Random(error) => StoreError::Unreadable { doing, detail: error.to_string() },
            Self::Corrupt { table, column, id } => StoreError::Corrupt { table, column, id },
        }
    }

    /// What the database said, if it was the database.
    pub(super) fn database_said(&self) -> Option<String> {
        match self {
            Self::Database(error) => Some(error.to_string()),
            Self::Corrupt { .. } | Self::Random(_) => None,
        }
    }

    /// Whether the connection should be opened anew before it is used again.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Database(error) => spoils_connection(error),
            Self::Corrupt { .. } | Self::Random(_) => false,
        }
    }
}

/// Whether what a connection believes about its file may be wrong after this error.
pub(super) fn spoils_connection(error: &rusqlite::Error) -> bool {
    let spoiling = |code: ErrorCode| {
        matches!(
            code,
            ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
        )
    };
    error.sqlite_error_code().is_some_and(spoiling)
}

/// A row of a table, read column by column; what cannot be read is named.
pub(super) struct Cells<'r> {
    row: &'r Row<'r>,
    table: &'static str,
}

impl<'r> Cells<'r> {
    /// A row of `table`. The row's own identifier must be among its columns, as `id` or `message`.
    pub(super) fn new(row: &'r Row<'r>, table: &'static str) -> Self {
        Self { row, table }
    }

    /// The fault that names this column.
    pub(super) fn corrupt(&self, column: &'static str) -> Fault {
        let bytes = self.row.get_ref("id").or_else(|_| self.row.get_ref("message"));
        let bytes = bytes.ok().and_then(|value| value.as_blob().ok()).unwrap_or_default();
        let id = match self.table {
            "api_key" => KeyId::from_slice(bytes).map(|id| id.to_string()),
            "webhook_unknown" => EventId::from_slice(bytes).map(|id| id.to_string()),
            "brake" => BrakeId::from_slice(bytes).map(|id| id.to_string()),
            "enrollment" => EnrollmentId::from_slice(bytes).map(|id| id.to_string()),
            "push" => PushId::from_slice(bytes).map(|id| id.to_string()),
            _ => MessageId::from_slice(bytes).map(|id| id.to_string()),
        };
        Fault::Corrupt { table: self.table, column, id: id.unwrap_or_else(|| "unreadable".to_owned()) }
    }

    /// A column of SQLite's own types.
    pub(super) fn plain<T: FromSql>(&self, column: &'static str) -> Result<T, Fault> {
        self.row.get(column).map_err(|_| self.corrupt(column))
    }

    /// A text that is one of our words.
    pub(super) fn word<T: FromStr>(&self, column: &'static str) -> Result<T, Fault> {
        let value = self.row.get_ref(column).map_err(|_| self.corrupt(column))?;
        let text = value.as_str().map_err(|_| self.corrupt(column))?;
        text.parse().map_err(|_| self.corrupt(column))
    }

    /// A text that is one of our words, or NULL.
    pub(super) fn word_or_none<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, Fault> {
        let value = self.row.get_ref(column).map_err(|_| self.corrupt(column))?;
        let text = value.as_str_or_null().map_err(|_| self.corrupt(column))?;
        text.map(|text| text.parse().map_err(|_| self.corrupt(column))).transpose()
    }

    /// A time.
    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, Fault> {
        self.time_or_none(column)?.ok_or_else(|| self.corrupt(column))
    }

    /// A time, or NULL.
    pub(super) fn time_or_none(&self, column: &'static str) -> Result<Option<Timestamp>, Fault> {
        let millis: Option<i64> = self.plain(column)?;
        millis.map(|millis| Timestamp::from_millisecond(millis).map_err(|_| self.corrupt(column))).transpose()
    }

    /// A message's identifier.
    pub(super) fn message_id(&self, column: &'static str) -> Result<MessageId, Fault> {
        let value = self.row.get_ref(column).map_err(|_| self.corrupt(column))?;
        value.as_blob().ok().and_then(MessageId::from_slice).ok_or_else(|| self.corrupt(column))
    }

    /// A key's identifier.
    pub(super) fn key_id(&self, column: &'static str) -> Result<KeyId, Fault> {
        KeyId::from_slice(self.blob(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// An event's identifier.
    pub(super) fn event_id(&self, column: &'static str) -> Result<EventId, Fault> {
        EventId::from_slice(self.blob(column)?).ok_or_else(|| self.corrupt(column))
    }

    /// Bytes, where they are.
    pub(super) fn blob(&self, column: &'static str) -> Result<&'r [u8], Fault> {
        let value = self.row.get_ref(column).map_err(|_| self.corrupt(column))?;
        value.as_blob().map_err(|_| self.corrupt(column))
    }

    /// JSON of a known shape.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T, Fault> {
        let value = self.row.get_ref(column).map_err(|_| self.corrupt(column))?;
        let text = value.as_str().map_err(|_| self.corrupt(column))?;
        serde_json::from_str(text).map_err(|_| self.corrupt(column))
    }
}
