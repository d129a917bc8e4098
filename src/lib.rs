//! Postern: a private email gateway for brands that use The Wallet Crew.
//!
//! Data flows one way. A **door** (`http`, `hatch`, `cli`) parses what the world says and hands it to **work** (mails:
//! `intake`, `delivery`, `courier`, `steering`, `brake`, `bounces`; passes: `wallet`, `contacts`, `push`; what follows from these for customers: `journeys`), and work keeps it through a
//! **tool** (`store`) and calls others through another (`outgoing`; the relay through the room `courier`). Everybody speaks in the **words** of `domain`. The hall (`cli`, `config`, `app`, `lifecycle`,
//! `telemetry`) wires the rooms together and decides nothing about mail.
//!
//! ```text
//! door ─▶ intake ─▶ store (one durable transaction) ─▶ 202
//!                     │
//!                     ▼ wake or poll
//!                 delivery ─▶ courier: MAIL, RCPT ─▶ commit point (store) ─▶ DATA ─▶ settle (store)
//!
//! hook, form, webhook, backfill ─▶ wallet ─▶ store: ledger, pass, customer, leaf (one durable transaction) ─▶ 202
//!                                              │
//!                                              ▼ what is due, and what the audit says of mails
//!                                            push ─▶ outbox (store) ─▶ the brand's receivers
//!
//! a pass event's transaction ─▶ enrollments begin and end
//!     due ─▶ journeys ─▶ template ─▶ intake: a step and its mail, one transaction ─▶ as every mail
//!
//! a report comes back ─▶ http, a folder, LMTP ─▶ bounces ─▶ store: the mail it is about, leaves, a suppression
//!
//! every change ─▶ leaf, in its transaction ─▶ (every few seconds) audit: tree, signed checkpoint ─▶ folder, outside place
//!
//! ended long enough ago ─▶ sweep: its content goes, later its row; its leaves stay
//! ```
//!
//! hall → doors → work → tools → words; never upwards. `tests/house.rs` reads the sources and fails on an arrow that
//! is not in its table.

// The hall.
pub mod app;
pub mod cli;
pub mod config;
pub mod lifecycle;
pub mod telemetry;

// Doors.
pub mod hatch;
pub mod http;

// Work.
pub mod audit;
pub mod bounces;
pub mod brake;
pub mod contacts;
pub mod courier;
pub mod delivery;
pub mod intake;
pub mod journeys;
pub mod keys;
pub mod push;
pub mod steering;
pub mod sweep;
pub mod wallet;

// Tools.
pub mod audit_log;
pub mod clock;
pub mod compose;
pub mod inbox;
pub mod limits;
pub mod outgoing;
pub mod store;
pub mod templates;

// Words.
pub mod domain;
