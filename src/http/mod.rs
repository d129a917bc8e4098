//! The HTTP doors: how the world asks.

pub mod api;
