//! The doors over HTTP.

pub mod inbox;
