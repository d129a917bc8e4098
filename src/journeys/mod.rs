//! Journeys on their way.

pub mod desk;
