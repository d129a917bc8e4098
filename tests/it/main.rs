//! The built binary, driven from outside: over HTTP, over SMTP, by signals.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at once")]
#![expect(clippy::print_stderr, reason = "a test tells its figures")]

mod audit;
mod backfill;
mod backfill_limits;
mod bench;
mod brake;
mod browser;
mod commands;
mod connector;
mod connector_pass;
mod contacts;
mod crash;
mod dedupe;
mod delivery;
mod demo;
mod disk;
mod door;
mod durable;
mod harness;
mod hostile;
mod journey_desk;
mod journeys;
mod limits;
mod logs;
mod own_templates;
mod pass_api;
mod pass_events;
mod postfix;
mod process;
mod push;
mod receiver;
mod reload;
mod reminder;
mod shaping;
mod shipped_mails;
mod simulation;
mod slow_clients;
mod suppressions;
mod templates;
mod unsubscribe;
mod verbs;
mod wallets;
mod webhooks;
mod why;
