//! The words everybody here speaks: pure, synchronous types and rules, without input or output.

pub mod address;
pub mod audit;
pub mod brake;
pub mod contact;
pub mod fact;
pub mod ids;
pub mod key;
pub mod lane;
pub mod media_type;
pub mod message;
pub mod network;
pub mod pass_event;
pub mod quantity;
pub mod rates;
pub mod relay;
pub mod reply;
pub mod retry;
pub mod rules;
pub mod secret;
pub mod shaping;
pub mod submission;
pub mod tenant;
pub mod time;
pub mod verb;
pub mod wallet;
pub mod why;
