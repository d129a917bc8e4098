//! The doors for programs: JSON in, JSON out, one file per thing.

pub mod brakes;
pub mod contacts;
pub mod emails;
mod emails_query;
pub mod submission;
pub mod verbs;
