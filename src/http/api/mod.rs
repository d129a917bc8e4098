//! The doors for programs: JSON in, JSON out, one file per thing.

pub mod alarms;
pub mod audit;
pub mod bounces;
pub mod brakes;
pub mod contacts;
pub mod emails;
mod emails_query;
pub mod journeys;
pub mod lenient;
pub mod pass_events;
mod streaming;
pub mod submission;
pub mod suppressions;
pub mod verbs;
pub mod wallets;
mod wallets_query;
pub mod webhooks;
