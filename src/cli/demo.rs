//! `postern demo`: the whole product on one machine, in a temporary folder, with a mail already sent and a pass installed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Context, Done, send};
use crate::app::parts::{self, InboxAt};
use crate::app::{App, templates};
use crate::config::{Config, Environment};
use crate::domain::audit::Actor;
use crate::domain::contact::{NewContact, Origin};
use crate::domain::ids::{MessageId, TenantId};
use crate::domain::key::Scope;
use crate::domain::message::{Acceptance, Status};
use crate::domain::pass_event::{EventKind, PassEvent, RegistrationCounts, Source, Wallet, Way};
use crate::domain::submission::Submission;
use crate::intake::Room;
use crate::keys::{Keyring, NewKey};
use crate::lifecycle::{Ending, Kind, Lifecycle, stop_signals};
use crate::store::MessageFilter;
use crate::store::sqlite::Role;

/// How long the sample mail may take to the inbox.
const SAMPLE_MAX: Duration = Duration::from_secs(15);
/// How often we look whether it is there.
const LOOK_EVERY: Duration = Duration::from_millis(25);
const TENANT: &str = "demo";
const CUSTOMER: &str = "C-1";
const SAMPLE_TEMPLATE: &str = "wallet-welcome";
/// The demo's journey, and the template it begins with.
const WELCOME: &str = "welcome";
const JOURNEY: &str = "tenant = \"demo\"\ntrigger = \"pass.first-install\"\nexit_on = [\"pass.removed\"]\n\
                       [[step]]\nsend = \"welcome\"\n[[step]]\nwait = \"3d\"\n\
                       [[step]]\nsend = \"tips\"\nunless = { wallet_status = [\"both\"] }\n";

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  postern demo
  postern demo --listen 127.0.0.1:8080
  postern demo --format json          one line of JSON once it is ready

Everything lives in a temporary folder that is removed at the end; config/ is not read. Ctrl-C ends it.
There is nothing to read again: SIGHUP (a closed terminal) ends it at once.")]
pub(super) struct Arguments {
    /// Where the gateway listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// What a script needs to go on.
#[derive(Serialize)]
struct Ready {
    listen: String,
    console: String,
    inbox: String,
    tenant: &'static str,
    key: String,
    #[serde(skip)]
    sample: MessageId,
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    let signals = stop_signals().context("listening for signals")?;
    let folder = tempfile::Builder::new().prefix("postern-demo-").tempdir().context("making a temporary folder")?;
    let life = Lifecycle::new(Config::defaults().delivery.shutdown_grace.0);
    let (app, ready) = start(&context, &life, arguments.listen, folder.path()).await?;
    context.output.answer(&ready, for_people)?;
    let ending = life.run(&*context.clock, signals).await;
    app.close().await;
    folder.close().context("removing the temporary folder")?;
    match ending {
        Ending::Asked => Ok(()),
        Ending::Failed => Err(anyhow::anyhow!("stopped because of a failure; see the log").into()),
    }
}

/// Everything up, the sample mail in the inbox.
async fn start(context: &Context, life: &Lifecycle, listen: SocketAddr, folder: &Path) -> anyhow::Result<(App, Ready)> {
    let (tasks, clock) = (life.tasks(), &context.clock);
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let unneeded = CancellationToken::new();
    let inbox = parts::start_inbox(InboxAt { smtp: free, http: free }, clock, tasks, unneeded.clone()).await?;
    let config = config(folder, free_port(listen)?, inbox.smtp)?;
    let store = parts::open_store(&config.store, Role::Gateway)?;
    let signer = parts::signer(&config)?;
    let courier = parts::courier(config.relays.clone())?;
    let templates = templates::for_serving(&config)?;
    let app = App::wire(config, Arc::clone(clock), store, courier, templates, signer);
    let listen = app.start(tasks).await?.listen;
    // The inbox is the relay: it stays until the attempts under way are done.
    let delivered = app.delivered.clone();
    tasks.spawn("demo.relay", Kind::Passing, async move {
        delivered.cancelled().await;
        unneeded.cancel();
    });
    let tenant: TenantId = TENANT.parse().map_err(anyhow::Error::msg)?;
    let key = make_key(&app, &tenant).await?;
    let sample = send_sample(&app, &tenant).await?;
    install_sample(&app, &tenant).await?;
    let of_sample = MessageFilter { template: Some(SAMPLE_TEMPLATE.to_owned()), ..relayed() };
    wait_until_there(&app, &tenant, of_sample).await.context("the sample mail")?;
    let of_welcome = MessageFilter { template: Some(WELCOME.to_owned()), ..relayed() };
    wait_until_there(&app, &tenant, of_welcome).await.context("the welcome that follows the sample install")?;
    let inbox = format!("http://{}", inbox.http);
    let ready = Ready {
        listen: format!("http://{listen}"),
        console: inbox.clone(),
        inbox,
        tenant: TENANT,
        key: key.secret.expose_secret().to_owned(),
        sample,
    };
    Ok((app, ready))
}

/// A configuration folder like any other, written and read back: the demo shows the product, not a special case.
fn config(folder: &Path, listen: SocketAddr, relay: SocketAddr) -> anyhow::Result<Config> {
    let database = folder.join("postern.db");
    // Whoever tries it out writes to the same few addresses, perhaps on a small disk.
    let postern = format!(
        "[server]\nlisten = \"{listen}\"\npublic_url = \"http://{listen}\"\n[store]\nurl = {:?}\n\
         [limits]\nper_recipient = \"none\"\ndisk_free_min = \"0B\"\n[templates]\ndir = \"\"\n\
         [audit]\nkey_file = {:?}\ndir = {:?}\n\
         [[relays]]\nname = \"inbox\"\nhost = \"{}\"\nport = {}\ntls = \"none\"\n",
        format!("sqlite:{}", database.display()),
        folder.join("audit.key").display().to_string(),
        folder.join("audit").display().to_string(),
        relay.ip(),
        relay.port(),
    );
    let tenant = "name = \"Demo Brand\"\nfrom = \"Demo Brand <wallet@demo.example>\"\n\
                  from_allowed = [\"demo.example\"]\nrelays = [\"inbox\"]\n\
                  [lanes]\n\"*challenge*\" = \"urgent\"\n\"*verification*\" = \"urgent\"\n";
    let tenants = folder.join("tenants");
    std::fs::create_dir(&tenants).context("writing the demo's configuration")?;
    std::fs::write(folder.join("postern.toml"), postern).context("writing the demo's configuration")?;
    let file = tenants.join(TENANT).with_extension("toml");
    std::fs::write(file, tenant).context("writing the demo's configuration")?;
    let journeys = folder.join("journeys");
    std::fs::create_dir(&journeys).context("writing the demo's configuration")?;
    let file = journeys.join(WELCOME).with_extension("toml");
    std::fs::write(file, JOURNEY).context("writing the demo's configuration")?;
    Config::load(folder, &Environment::default()).context("reading the demo's configuration")
}

async fn make_key(app: &App, tenant: &TenantId) -> anyhow::Result<NewKey> {
    let keys = Keyring::open(Arc::clone(&app.store), Arc::clone(&app.clock)).await?;
    Ok(keys.create(tenant.clone(), "demo".to_owned(), Scope::ALL.to_vec(), None, Actor::Command("demo").into()).await?)
}

async fn send_sample(app: &App, tenant: &TenantId) -> anyhow::Result<MessageId> {
    let to = "Ann Example <ann@example.com>".parse()?;
    let submission = Submission {
        template: Some(SAMPLE_TEMPLATE.to_owned()),
        html: Some(
            "<h1>Welcome</h1><p>Your card is ready. This mail went in by Postern's door, onto disk, and out \
             through its relay.</p>"
                .to_owned(),
        ),
        ..send::plain(to, "Your card is ready".to_owned())
    };
    let accepted = app.intake.accept(tenant, Actor::Command("demo"), submission, None, Room::Enough).await;
    match accepted.context("sending the sample mail")? {
        Acceptance::Accepted(receipt) | Acceptance::Replayed(receipt) | Acceptance::Deduplicated(receipt) => {
            Ok(receipt.id)
        }
        Acceptance::IdempotencyMismatch | Acceptance::FactTaken | Acceptance::RecipientLimited { .. } => {
            bail!("the sample mail was not accepted")
        }
    }
}

/// Somebody whom the brand knows adds the pass to their wallet: what follows is the journey's affair.
async fn install_sample(app: &App, tenant: &TenantId) -> anyhow::Result<()> {
    let actor = Actor::Command("demo");
    let contact = NewContact {
        customer: CUSTOMER.parse().map_err(anyhow::Error::msg)?,
        email: "ann@example.com".parse()?,
        name: Some("Ann".to_owned()),
        culture: Some("en".parse().map_err(anyhow::Error::msg)?),
        timezone: None,
        consent: BTreeMap::new(),
        fields: BTreeMap::new(),
        origin: Origin::Api,
        at: app.clock.now(),
    };
    app.store.set_contacts(tenant, actor.clone(), vec![contact]).await.context("keeping the sample contact")?;
    let event = PassEvent {
        kind: EventKind::Installed,
        wallet: Wallet::Apple,
        pass: Some("P-1".to_owned()),
        pass_type: Some("loyalty".to_owned()),
        identifiers: BTreeMap::from([("customerId".to_owned(), CUSTOMER.to_owned())]),
        counts: RegistrationCounts::default(),
        source: Source::default(),
        occurred_at: None,
        since: None,
        key: None,
        way: Way::Hook,
    };
    app.ledger.record(tenant, actor, vec![event]).await.context("recording the sample install")?;
    Ok(())
}

fn relayed() -> MessageFilter {
    MessageFilter { status: Some(Status::Relayed), limit: 1, ..MessageFilter::default() }
}

/// Relayed means that the inbox has answered 250: the mail is there.
async fn wait_until_there(app: &App, tenant: &TenantId, which: MessageFilter) -> anyhow::Result<()> {
    let until = app.clock.now().checked_add(SAMPLE_MAX)?;
    while app.store.messages(tenant, which.clone()).await.context("looking for it")?.messages.is_empty() {
        let now = app.clock.now();
        if now >= until {
            bail!("it did not reach the inbox within {SAMPLE_MAX:?}");
        }
        app.clock.sleep_until(now.checked_add(LOOK_EVERY)?).await;
    }
    Ok(())
}

/// The address with a port that is free, where it asks for any: links in mails name it.
fn free_port(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    if listen.port() != 0 {
        return Ok(listen);
    }
    let bound = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    Ok(bound.local_addr()?)
}

fn for_people(ready: &Ready) -> String {
    let Ready { listen, console, inbox, tenant, key, sample } = ready;
    format!(
        r#"Postern is running.

  Gateway  {listen}
  Console  {console}
  Inbox    {inbox}
  Tenant   {tenant}
  Key      {key}

A sample mail has been sent, and a pass installed, which began the journey "welcome"; look at both mails in the
inbox. Then try:

curl -sS {listen}/v1/emails -H 'X-API-KEY: {key}' -H 'Content-Type: application/json' -d '{{"recipient":"ann@example.com","Subject":"Hello","Body":"<p>Hello, Ann</p>"}}'

curl -sS '{listen}/v1/emails?limit=5' -H 'X-API-KEY: {key}'

curl -sS {listen}/v1/emails/{sample}/events -H 'X-API-KEY: {key}'

Ctrl-C ends it and removes everything."#
    )
}
