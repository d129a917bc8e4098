//! The doors for programs: JSON in, JSON out, one file per thing.

pub mod alarms;
pub mod brakes;
pub mod emails;
mod emails_query;
pub mod submission;
pub mod verbs;
