//! Delivery: takes what is due from the store to the relays.

pub mod settings;
