//! The HTTP doors: how brands, scripts and operators ask.

pub mod settings;
