//! `postern check`: every problem in one run, before the gateway meets it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{Context, Done, Failure, output};
use crate::app::{parts, templates};
use crate::config::{Config, Fixed, Problems};
use crate::courier::settings::RelaySettings;
use crate::delivery::RelayLog;
use crate::domain::evidence::relay_log::Scan;
use crate::hatch::{self, Question};
use crate::store::sqlite::Role;
use crate::telemetry::Chain;

/// How long a name look-up may take.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern check
  postern check --relay --dns
  postern check --config /etc/postern --format json

Exit code 0 when all is well, 2 when not.")]
pub(super) struct Arguments {
    /// Also greet each relay (TLS, AUTH) without sending
    #[arg(long)]
    relay: bool,
    /// Also look up each relay's host
    #[arg(long)]
    dns: bool,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let (config, mut problems) = Config::read(&context.folder, &context.environment);
    problems.append(config.missing_for_serving());
    check_outgoing(&config, &mut problems);
    let mut found = Vec::new();
    let (templates, of_templates) = templates::load(&config);
    problems.append(of_templates);
    let file = context.folder.join("postern.toml").display().to_string();
    if store_is_known(&problems, &file) {
        check_store(&context, &config, &mut problems, &mut found).await;
    }
    for relay in &config.relays {
        let key = |key: &str| format!("relays.{}.{key}", relay.name);
        if arguments.dns {
            match look_up(relay).await {
                Ok(addresses) => found.push(format!("relay {}: {} is {addresses}", relay.name, relay.host)),
                Err(what) => problems.add(&file, key("host"), what),
            }
        }
        // A relay with a problem of its own would only repeat it.
        if arguments.relay && relay.problems().is_empty() {
            match parts::inspect_relay(relay.clone()).await {
                Ok(facts) => found.push(format!("relay {}: {facts}", relay.name)),
                Err(error) => problems.add(&file, key("host"), Chain(error.as_ref()).to_string()),
            }
            if let Some(log) = RelayLog::of(relay) {
                match log.look(&mut Scan::default(), context.clock.now()).await {
                    Ok(()) => found.push(format!("relay {}: its log can be looked through", relay.name)),
                    Err(error) => problems.add(&file, key(log.key()), Chain(&error).to_string()),
                }
            }
        }
    }
    let (relays, tenants, mails) = (config.relays.len(), config.tenants.len(), templates.names().len());
    found.push(format!("relays: {relays}, tenants: {tenants}, mail templates: {mails}"));
    found.extend(config.warnings().into_iter().map(|warning| format!("warning: {warning}")));
    let ok = problems.is_empty();
    let answer = json!({ "ok": ok, "problems": problems, "found": found });
    context.output.answer(&answer, |_| found.join("\n"))?;
    if ok {
        return Ok(());
    }
    output::complain(&problems.to_string());
    Err(Failure::Said(2))
}

/// Addresses that would never be called. A gateway starts with them all the same: the network may be let in meanwhile.
fn check_outgoing(config: &Config, problems: &mut Problems) {
    for tenant in config.tenants.values() {
        let file = config.folder.join("tenants").join(format!("{}.toml", tenant.id)).display().to_string();
        let mut look = |key: String, literal: Option<IpAddr>| {
            if config.outgoing.forbids(literal) {
                problems.add(
                    &file,
                    key,
                    "its address is in none of the networks of outgoing.networks: it is never called",
                );
            }
        };
        for (index, outbound) in tenant.outbound.iter().enumerate() {
            look(format!("outbound[{index}].url"), outbound.url.literal());
        }
        look("pass_api.url".to_owned(), tenant.pass_api.as_ref().and_then(|api| api.url.literal()));
        look("contact_lookup.url".to_owned(), tenant.contact_lookup.as_ref().and_then(|lookup| lookup.url.literal()));
    }
}

/// Whether the store is the one that was meant. A default that stands in for what could not be read is not: opening it
/// would make a folder and a file that nobody asked for.
fn store_is_known(problems: &Problems, file: &str) -> bool {
    let about_store = |key: &str| key.is_empty() || key.starts_with("store") || key.starts_with("POSTERN__STORE");
    !problems.iter().any(|problem| (problem.file == file || problem.file == "environment") && about_store(&problem.key))
}

async fn check_store(context: &Context, config: &Config, problems: &mut Problems, found: &mut Vec<String>) {
    let Ok(path) = config.store.sqlite_path() else { return };
    let file = context.folder.join("postern.toml").display().to_string();
    match parts::open_store(&config.store, Role::Command) {
        Ok(store) => {
            match store.probe(context.clock.now()).await {
                Ok(()) => found.push(format!("store {}: can be written", path.display())),
                Err(error) => problems.add(file, "store.url", Chain(&error).to_string()),
            }
            store.close().await;
            check_reload(config, &path, found).await;
        }
        Err(error) => problems.add(file, "store.url", Chain(error.as_ref()).to_string()),
    }
}

/// Beside a running gateway: which keys it would not take over. They are no problem for who is going to restart it.
async fn check_reload(config: &Config, database: &Path, found: &mut Vec<String>) {
    match hatch::ask(database, &Question::Fixed).await {
        Ok(Some(answer)) => {
            let running: Fixed = serde_json::from_value(answer).unwrap_or_default();
            let changed = config.changed_since(&running);
            if changed.is_empty() {
                found.push("gateway: runs, and could read this folder again".to_owned());
            }
            found.extend(changed.iter().map(|problem| format!("gateway: {}: {}", problem.key, problem.detail)));
        }
        Ok(None) => found.push("gateway: none runs on this store".to_owned()),
        Err(error) => found.push(format!("gateway: does not answer: {error}")),
    }
}

async fn look_up(relay: &RelaySettings) -> Result<String, String> {
    let asked = tokio::net::lookup_host((relay.host.as_str(), relay.port));
    let found =
        tokio::time::timeout(LOOKUP_MAX, asked).await.map_err(|_| "the name look-up takes too long".to_owned())?;
    let addresses: Vec<_> = found.map_err(|error| format!("the name look-up failed: {error}"))?.collect();
    if addresses.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" "))
}
