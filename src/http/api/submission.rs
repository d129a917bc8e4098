//! What a caller wrote, read as a submission. (A stand-in: the real reader comes with its own piece.)

use crate::domain::submission::{FieldError, Submission};

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// JSON.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// Why a body is not a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// It cannot be read.
    Malformed(String),
    /// It breaks rules; all of them.
    Invalid(Vec<FieldError>),
}

/// Reads a submission.
pub fn parse(media: Media, body: &[u8]) -> Result<Submission, ParseError> {
    let _ = body;
    Err(ParseError::Malformed(format!("{media:?} is not read yet")))
}
