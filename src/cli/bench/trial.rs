//! One run: a fresh store, the children, the load, the end of the last mail, and everything gone again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::client::Connection;
use super::follow::Follower;
use super::load::{Load, Sent};
use super::mail::Mail;
use super::process::{Child, Usage};
use super::report::{AcceptMillis, Figures, Run};
use super::{Bench, RelayAt};
use crate::app::parts;
use crate::config::{Config, Environment};
use crate::domain::audit::Actor;
use crate::domain::key::Scope;
use crate::keys::Keyring;
use crate::lifecycle::Kind;
use crate::store::sqlite::Role;

use super::super::output::complain;

const TENANT: &str = "bench";

/// Where mails leave to.
struct Relay {
    at: RelayAt,
    /// Our own, and where its pages are.
    inbox: Option<(Child, SocketAddr)>,
    /// Holds a port at which nobody listens.
    _nobody: Option<TcpSocket>,
}

/// What each process had used at one moment.
struct Usages {
    gateway: Option<Usage>,
    load: Option<Usage>,
    inbox: Option<Usage>,
}

/// What became of the accepted mails.
struct Followed {
    /// How long from the first request until the last mail was relayed; `None` when one was not.
    took: Option<Duration>,
    not_relayed: u64,
}

impl Bench {
    /// One run.
    pub(super) async fn trial(&self) -> anyhow::Result<Run> {
        // Before the children, so that it is removed after them.
        let folder = self.folder()?;
        let relay = self.relay().await?;
        let key = self.prepare(folder.path(), &relay.at).await?;
        let (gateway, listen) = Child::gateway(&self.program, folder.path(), &self.tasks).await?;
        let usages = || Usages {
            gateway: gateway.usage(),
            load: Usage::of(std::process::id()),
            inbox: relay.inbox.as_ref().and_then(|(inbox, _)| inbox.usage()),
        };
        let before = usages();
        let until = Instant::now() + self.arguments.timeout.0;
        let sent = self.send(listen, key.expose_secret(), until).await?;
        let followed = if self.arguments.is_intake_alone() {
            Followed { took: None, not_relayed: 0 }
        } else {
            self.follow(listen, key.expose_secret(), &sent, until).await.context("following the mails")?
        };
        let run = self.figures(sent, &followed, &before, &usages())?;
        gateway.stop(&*self.clock).await.context("stopping the gateway")?;
        let run = Run { captured: captured(relay.inbox.as_ref()).await?, ..run };
        let relayed = u64::from(self.arguments.messages) - run.refused;
        if let Some(captured) = run.captured.filter(|_| run.not_relayed == 0) {
            ensure!(captured == relayed, "{relayed} mails are called relayed, but the inbox took {captured}");
        }
        if let Some((inbox, _)) = relay.inbox {
            inbox.stop(&*self.clock).await.context("stopping the inbox")?;
        }
        folder.close().context("removing the temporary folder")?;
        Ok(run)
    }

    async fn relay(&self) -> anyhow::Result<Relay> {
        if let Some(at) = &self.arguments.relay {
            return Ok(Relay { at: at.clone(), inbox: None, _nobody: None });
        }
        if self.arguments.is_intake_alone() {
            let nobody = TcpSocket::new_v4().context("opening a socket")?;
            nobody.bind(SocketAddr::from(([127, 0, 0, 1], 0))).context("binding a port")?;
            let at = nobody.local_addr().context("binding a port")?.into();
            return Ok(Relay { at, inbox: None, _nobody: Some(nobody) });
        }
        let (inbox, smtp, pages) = Child::inbox(&self.program, &self.tasks).await?;
        Ok(Relay { at: smtp.into(), inbox: Some((inbox, pages)), _nobody: None })
    }

    /// Writes a configuration of defaults, but without limits, makes the store, and returns a key. A load is a blast: the
    /// brake counts it as it counts all mails, and finds it in line.
    async fn prepare(&self, folder: &Path, relay: &RelayAt) -> anyhow::Result<SecretString> {
        let database = folder.join("data").join("postern.db");
        let postern = format!(
            "[store]
url = {:?}
[audit]
key_file = {:?}
dir = {:?}
[brake]
min_mails = {}
[limits]
per_key = \"none\"
per_recipient = \"none\"
\
             disk_free_min = \"0B\"
[[relays]]
name = \"bench\"
host = {:?}
port = {}
tls = \"none\"
\
             allow_plaintext = true
sessions = {}
",
            format!("sqlite:{}", database.display()),
            folder.join("data").join("audit.key").display().to_string(),
            folder.join("data").join("audit").display().to_string(),
            u32::MAX,
            relay.host,
            relay.port,
            self.arguments.sessions,
        );
        let tenant = "name = \"Bench\"\nfrom = \"Bench <wallet@bench.example>\"\nfrom_allowed = [\"bench.example\"]\n\
                      relays = [\"bench\"]\n";
        let tenants = folder.join("tenants");
        std::fs::create_dir(&tenants).context("writing the configuration")?;
        std::fs::write(folder.join("postern.toml"), postern).context("writing the configuration")?;
        std::fs::write(tenants.join(TENANT).with_extension("toml"), tenant).context("writing the configuration")?;
        let config = Config::load(folder, &Environment::default()).context("reading the configuration")?;
        let store = parts::open_store(&config.store, Role::Command)?;
        let keys = Keyring::open(Arc::clone(&store), Arc::clone(&self.clock)).await?;
        let scopes = vec![Scope::Send, Scope::Events, Scope::Read];
        let tenant = TENANT.parse().map_err(anyhow::Error::msg)?;
        let key = keys.create(tenant, TENANT.to_owned(), scopes, None, Actor::Command("bench").into()).await;
        store.close().await;
        Ok(key?.secret)
    }

    async fn send(&self, to: SocketAddr, key: &str, until: Instant) -> anyhow::Result<Sent> {
        let load = Load {
            to,
            mail: if self.arguments.pass_events {
                Mail::pass_event(to, key)
            } else {
                Mail::new(to, key, self.arguments.size.as_usize())
            },
            mails: self.arguments.messages,
            connections: self.arguments.connections.into(),
        };
        let (done, sent) = oneshot::channel();
        // On the thread that also hears from its sockets.
        self.tasks.spawn("bench.load", Kind::Passing, async move { _ = done.send(load.run().await) });
        let sent = tokio::time::timeout_at(until.into(), sent).await;
        let sent = sent.with_context(|| format!("not every request was answered within {}", self.arguments.timeout))?;
        let sent = sent.context("the load broke off")?.context("connecting to the gateway")?;
        for (what, count) in &sent.answered.refusals {
            complain(&format!("not accepted: {count} mails, {what}"));
        }
        Ok(sent)
    }

    async fn follow(&self, to: SocketAddr, key: &str, sent: &Sent, until: Instant) -> anyhow::Result<Followed> {
        let mut follower = Follower::open(to, key, &*self.clock).await?;
        let ended = follower.end(sent.began, until).await?;
        let took = ended.map(|ended| ended.duration_since(sent.began));
        let not_relayed = follower.not_relayed().await?;
        Ok(Followed { took: took.filter(|_| not_relayed == 0), not_relayed })
    }

    fn figures(&self, sent: Sent, followed: &Followed, before: &Usages, after: &Usages) -> anyhow::Result<Run> {
        let accepted = u32::try_from(sent.answered.accepts_micros.len())?;
        let per_second = |took: Duration| f64::from(accepted) / took.as_secs_f64();
        let cpu = |before: Option<Usage>, after: Option<Usage>| {
            let used = after?.cpu.saturating_sub(before?.cpu);
            (accepted > 0).then(|| used.as_secs_f64() * 1e3 / f64::from(accepted))
        };
        Ok(Run {
            figures: Figures {
                accepts_per_second: per_second(sent.took),
                accept_millis: AcceptMillis::of(sent.answered.accepts_micros),
                end_to_end_per_second: followed.took.map(per_second),
                cpu_seconds_per_1000: cpu(before.gateway, after.gateway),
                peak_memory_bytes: after.gateway.map(|usage| usage.peak_memory_bytes),
            },
            refused: u64::from(self.arguments.messages - accepted),
            not_relayed: followed.not_relayed,
            captured: None,
            load_cpu_seconds_per_1000: cpu(before.load, after.load),
            inbox_cpu_seconds_per_1000: cpu(before.inbox, after.inbox),
        })
    }
}

/// What the inbox has taken, by its own count.
async fn captured(inbox: Option<&(Child, SocketAddr)>) -> anyhow::Result<Option<u64>> {
    let Some((_, pages)) = inbox else { return Ok(None) };
    let mut connection = Connection::open(*pages).await.context("asking the inbox")?;
    let answer = connection.get("/counters", "").await.context("asking the inbox")?;
    ensure!(answer.status == 200, "the inbox answered {}", answer.status);
    let counters: Value = serde_json::from_slice(answer.body).context("asking the inbox")?;
    Ok(counters["mailsTaken"].as_u64())
}
