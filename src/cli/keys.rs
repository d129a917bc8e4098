//! `postern keys`: make, list and revoke API keys, beside a running gateway or without one.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::json;

use super::output::table;
use super::{Context, Done, Failure};
use crate::app::parts;
use crate::config::Config;
use crate::domain::audit::{Actor, By};
use crate::domain::ids::{KeyId, TenantId};
use crate::domain::key::{ApiKey, Scope};
use crate::domain::quantity::Limit;
use crate::domain::time;
use crate::domain::verb::Because;
use crate::keys::{KeyError, Keyring};
use crate::store::Store;
use crate::store::sqlite::Role;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern keys create --tenant demo --name shop --scope send --scope read
  postern keys list --format json
  postern keys revoke key_01990000000070008000000000000001"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a key; its secret is shown this once
    #[command(after_help = "\
Examples:
  postern keys create --tenant demo --name shop --scope send --scope read
  postern keys create --tenant demo --name newsletter --scope send --limit 50/s,burst=100
  postern keys create --tenant demo --name ops --scope read,content,manage --format json")]
    Create {
        /// Whose key: a file in tenants/ without .toml
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// What people call it
        #[arg(long, value_name = "N")]
        name: String,
        /// What it may do: send, events, read, content, manage
        #[arg(long = "scope", value_name = "S", required = true, num_args = 1.., value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// Its requests at most (50/s), or none; without it what is configured for every key
        #[arg(long, value_name = "RATE")]
        limit: Option<Limit>,
        /// Why, for the audit: at most 200 characters, no address, no link
        #[arg(long, value_name = "TEXT")]
        because: Option<Because>,
    },
    /// All keys, revoked ones too
    #[command(after_help = "Examples:\n  postern keys list\n  postern keys list --format json")]
    List,
    /// Shut a key out, within a second also at a running gateway
    #[command(
        after_help = "Examples:\n  postern keys revoke key_01990000000070008000000000000001 --because 'it was in a ticket'"
    )]
    Revoke {
        /// The key's id (not its secret)
        #[arg(value_name = "ID")]
        id: KeyId,
        /// Why, for the audit: at most 200 characters, no address, no link
        #[arg(long, value_name = "TEXT")]
        because: Option<Because>,
    },
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let config = context.config()?;
    if let Verb::Create { tenant, .. } = &arguments.verb
        && !config.tenants.contains_key(tenant)
    {
        return Err(unknown_tenant(tenant, &config));
    }
    let store = parts::open_store(&config.store, Role::Command)?;
    let done = act(&context, &store, arguments.verb).await;
    store.close().await;
    done
}

async fn act(context: &Context, store: &Arc<dyn Store>, verb: Verb) -> Done {
    match verb {
        Verb::Create { tenant, name, mut scopes, limit, because } => {
            scopes.sort_by_key(|scope| Scope::ALL.iter().position(|known| known == scope));
            scopes.dedup();
            let keys = Keyring::open(Arc::clone(store), Arc::clone(&context.clock)).await?;
            let made = keys.create(tenant, name, scopes, limit, by(because)).await.map_err(|error| match error {
                KeyError::Invalid(what) => Failure::Usage(what.to_owned()),
                KeyError::NoRandomness | KeyError::Store(_) => Failure::Failed(error.into()),
            })?;
            let (key, secret) = (&made.key, made.secret.expose_secret());
            let answer = json!({ "id": key.id, "key": secret, "tenant": key.tenant, "scopes": key.scopes });
            context.output.answer(&answer, |_| {
                let scopes = words(&key.scopes);
                format!(
                    "Id      {}\nTenant  {}\nScopes  {scopes}\nKey     {secret}\nIt is shown this once.",
                    key.id, key.tenant
                )
            })?;
        }
        Verb::List => {
            let keys: Vec<Listed> =
                store.keys().await.context("reading the keys")?.into_iter().map(Listed::from).collect();
            context.output.answer(&keys, |keys| {
                let rows: Vec<_> = keys.iter().map(Listed::row).collect();
                table(["ID", "TENANT", "NAME", "SCOPES", "LIMIT", "CREATED", "REVOKED"], &rows)
            })?;
        }
        Verb::Revoke { id, because } => {
            let revoked = store.revoke_key(id, context.clock.now(), by(because)).await;
            if !revoked.context("revoking the key")? {
                return Err(anyhow::anyhow!("there is no key {id}").into());
            }
            context.output.answer(&json!({ "id": id, "revoked": true }), |_| format!("{id} is revoked."))?;
        }
    }
    Ok(())
}

fn by(because: Option<Because>) -> By {
    By { actor: Actor::Command("keys"), because }
}

/// A key without its MAC.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: KeyId,
    tenant: TenantId,
    name: String,
    scopes: Vec<Scope>,
    limit: Option<Limit>,
    #[serde(serialize_with = "time::write")]
    created_at: jiff::Timestamp,
    #[serde(serialize_with = "time::write_or_null")]
    revoked_at: Option<jiff::Timestamp>,
}

impl From<ApiKey> for Listed {
    fn from(key: ApiKey) -> Self {
        let ApiKey { id, tenant, name, scopes, limit, mac: _, created_at, revoked_at } = key;
        Self { id, tenant, name, scopes, limit, created_at, revoked_at }
    }
}

impl Listed {
    fn row(&self) -> [String; 7] {
        let revoked = self.revoked_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
        let created = format!("{:.0}", self.created_at);
        let limit = self.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let (id, tenant, scopes) = (self.id.to_string(), self.tenant.to_string(), words(&self.scopes));
        [id, tenant, self.name.clone(), scopes, limit, created, revoked]
    }
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// There is no such tenant; says which there are.
pub(super) fn unknown_tenant(tenant: &TenantId, config: &Config) -> Failure {
    let known: Vec<_> = config.tenants.keys().map(TenantId::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(" ") };
    Failure::Usage(format!("there is no tenant {tenant} in the configuration (there are: {known})"))
}
