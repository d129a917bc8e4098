//! `postern contacts`: import, show, list and erase what is known of customers, beside a running gateway or without one.

mod import;

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use serde_json::json;
use tokio::sync::watch;

use super::import::Import;
use super::keys::unknown_tenant;
use super::output::{complain, printable, table};
use super::queue::confirm;
use super::{Context, Done};
use crate::app::parts;
use crate::config::Config;
use crate::contacts::Found;
use crate::domain::address::EmailAddress;
use crate::domain::audit::{Actor, By};
use crate::domain::contact::{Contact, Culture, CustomerId, Erased, Erasing, Extent, SHARED_MAX, ZoneName};
use crate::domain::ids::TenantId;
use crate::domain::verb::Because;
use crate::store::sqlite::Role;
use crate::store::{ContactFilter, Erasure, Scrubbed, Store};
use crate::sweep::scrub;

/// Contacts in a list when nobody says how many, and at most.
const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: i64 = 10_000;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern contacts import customers.csv --tenant demo --dry-run
  postern contacts show C-17 --tenant demo
  postern contacts list --tenant demo --email ann@customer.example
  postern contacts erase C-17 --tenant demo"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Keep the contacts of a file; rows that cannot be used are told and keep no other back
    #[command(after_help = "\
Examples:
  postern contacts import customers.csv --tenant demo --dry-run
  postern contacts import customers.csv --tenant demo --delimiter ';'
  postern contacts import customers.ndjson --tenant demo --format json

CSV has a header line (any case, any order): customerId, email, name, culture, timezone, consent.NAME,
consent.NAME.at, consent.NAME.source, fields.NAME. NDJSON has an object a line, as PUT /v1/contacts takes it, and
customerId. Each row says all there is: what it does not say is not known any more.
Exit code 1 if any row was refused; the others are kept.")]
    Import(Import),
    /// One contact
    #[command(after_help = "\
Examples:
  postern contacts show C-17 --tenant demo
  postern contacts show C-17 --tenant demo --lookup --format json")]
    Show {
        #[command(flatten)]
        whom: Whom,
        /// Ask the tenant's CRM if the customer is not known here
        #[arg(long)]
        lookup: bool,
    },
    /// Contacts, in the order of customers' identifiers
    #[command(after_help = "\
Examples:
  postern contacts list --tenant demo
  postern contacts list --tenant demo --email ann@customer.example --format json")]
    List {
        /// Whose
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// Only those with this address
        #[arg(long, value_name = "A")]
        email: Option<EmailAddress>,
        /// How many at most, 1 to 10000
        #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=LIMIT_MAX))]
        limit: u16,
    },
    /// Erase a person: contact, passes, mails but for their states, and the key that names them in the audit
    #[command(
        alias = "remove",
        after_help = "\
Examples:
  postern contacts erase C-17 --tenant demo
  postern contacts erase ann@customer.example --tenant demo --yes --because 'request 4711'

Whoever has one of their addresses is the same person. Mails that wait are cancelled. What was unsubscribed stays so. The
audit can be verified as before, and tells of nobody whose it was."
    )]
    Erase {
        #[command(flatten)]
        whom: Whom,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Why, for the audit: at most 200 characters, no address, no link
        #[arg(long, value_name = "TEXT")]
        because: Option<Because>,
    },
}

#[derive(clap::Args)]
struct Whom {
    /// What the brand calls them
    #[arg(value_name = "CUSTOMER_ID")]
    customer: CustomerId,
    /// Whose customer
    #[arg(long, value_name = "T")]
    tenant: TenantId,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    let tenant = match &arguments.verb {
        Verb::Import(import) => &import.tenant,
        Verb::Show { whom, .. } | Verb::Erase { whom, .. } => &whom.tenant,
        Verb::List { tenant, .. } => tenant,
    };
    if !config.tenants.contains_key(tenant) {
        return Err(unknown_tenant(tenant, &config));
    }
    let store = parts::open_store(&config.store, Role::Command)?;
    let done = match arguments.verb {
        Verb::Import(file) => import::run(&file, &context, &*store).await,
        Verb::Show { whom, lookup: false } => show_known(&context, &*store, &whom).await,
        Verb::Show { whom, lookup: true } => show_found(&context, &config, &store, &whom).await,
        Verb::List { tenant, email, limit } => {
            let address = email.map(|email| email.normalized());
            let filter = ContactFilter { address, after: None, limit: usize::from(limit) };
            list(&context, &*store, &tenant, filter).await
        }
        Verb::Erase { whom, yes, because } => {
            if !yes {
                complain(
                    "All that is known of the person is erased, and what waits is cancelled. This cannot be undone.",
                );
                confirm()?;
            }
            erase(&context, &*store, whom, because).await
        }
    };
    store.close().await;
    done
}

async fn show_known(context: &Context, store: &dyn Store, whom: &Whom) -> Done {
    let known = store.contact(&whom.tenant, &whom.customer).await.context("reading the contact")?;
    show(context, &known.ok_or_else(no_contact)?)
}

async fn show_found(context: &Context, config: &Config, store: &Arc<dyn Store>, whom: &Whom) -> Done {
    let rules = watch::Sender::new(Arc::new(config.rules()));
    let contacts = parts::contacts(config, store, &context.clock, rules.subscribe())?;
    match contacts.find(&whom.tenant, &whom.customer).await.context("looking for the contact")? {
        Found::Contact(contact) => show(context, &contact),
        Found::Nobody => Err(no_contact().into()),
        Found::Unavailable => Err(anyhow!("the tenant's CRM does not answer").into()),
    }
}

fn no_contact() -> anyhow::Error {
    anyhow!("there is no such contact")
}

fn show(context: &Context, contact: &Contact) -> Done {
    context.output.answer(contact, |contact| {
        let text = |text: Option<&str>| printable(text.unwrap_or("-"));
        let mut lines = vec![
            format!("Customer   {}", printable(contact.customer.as_str())),
            format!("Email      {}", contact.email),
            format!("Name       {}", text(contact.name.as_deref())),
            format!("Culture    {}", text(contact.culture.as_ref().map(Culture::as_str))),
            format!("Time zone  {}", text(contact.timezone.as_ref().map(ZoneName::as_str))),
            format!("Origin     {}", contact.origin),
            format!("Changed    {:.0}", contact.changed_at),
            format!("Confirmed  {:.0}", contact.confirmed_at),
        ];
        for (name, consent) in &contact.consent {
            let granted = if consent.granted { "granted" } else { "refused" };
            let source = consent.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
            lines.push(printable(&format!("Consent    {name}: {granted}, {:.0}{source}", consent.at)));
        }
        for (name, value) in &contact.fields {
            lines.push(printable(&format!("Field      {name}: {value}")));
        }
        lines.join("\n")
    })?;
    Ok(())
}

async fn list(context: &Context, store: &dyn Store, tenant: &TenantId, filter: ContactFilter) -> Done {
    let limit = filter.limit;
    let contacts = store.contacts(tenant, filter).await.context("reading the contacts")?;
    context.output.answer(&contacts, |contacts| {
        let rows: Vec<_> = contacts.iter().map(row).collect();
        let listed = table(["CUSTOMER", "EMAIL", "NAME", "CULTURE", "TIME ZONE", "ORIGIN", "CHANGED"], &rows);
        let more = if contacts.len() == limit { "\nThere may be more: --limit N shows them." } else { "" };
        format!("{listed}{more}")
    })?;
    Ok(())
}

fn row(contact: &Contact) -> [String; 7] {
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    [
        contact.customer.as_str().to_owned(),
        contact.email.to_string(),
        text(contact.name.as_deref()),
        text(contact.culture.as_ref().map(Culture::as_str)),
        text(contact.timezone.as_ref().map(ZoneName::as_str)),
        contact.origin.to_string(),
        format!("{:.0}", contact.changed_at),
    ]
}

async fn erase(context: &Context, store: &dyn Store, whom: Whom, because: Option<Because>) -> Done {
    let Whom { customer, tenant } = whom;
    let by = By { actor: Actor::Command("contacts"), because };
    let erasure = Erasure { customer, extent: Extent::Person, at: context.clock.now(), by };
    let gone = match store.erase_contact(&tenant, erasure).await.context("erasing the person")? {
        Erasing::Done(gone) => gone,
        Erasing::InFlight => {
            return Err(anyhow!("a mail to them is past its commit point: try again when that has ended").into());
        }
        Erasing::Shared => {
            let why = "it is no person's: give them addresses of their own first, or remove it from them";
            return Err(anyhow!("more than {SHARED_MAX} customers have one of their addresses: {why}").into());
        }
        Erasing::Nobody => return Err(anyhow!("nothing is known of this customer").into()),
    };
    if scrub(store, &*context.clock, usize::MAX).await.context("scrubbing the store's files of the person")?
        != Scrubbed::All
    {
        complain("The write-ahead log is being read from: the running gateway empties it, or the next one.");
    }
    let Erased { contacts, messages, passes, pass_events } = gone;
    let answer = json!({ "contacts": contacts, "messages": messages, "passes": passes, "passEvents": pass_events });
    context.output.answer(&answer, |_| {
        format!("Erased: {contacts} contacts, {messages} mails, {passes} passes and {pass_events} events of theirs.")
    })?;
    Ok(())
}
