//! SIGHUP: the configuration is read again and takes the place of the old one, as a whole or not at all.
//!
//! ```text
//! read (as `check` does) ─▶ what may not change did not ─▶ delivery ─▶ the other parts ─▶ audit leaf, hold what lost its tenant
//!  a problem up to here: one error line each, and nothing has changed │ from here on nothing can refuse
//! ```
//!
//! Every part keeps a snapshot and takes the new one for the next mail, request or attempt; what is under way ends with
//! the one it began with. Secrets and certificates are read again with the rest, so a rotated password needs a signal,
//! not a restart.
//!
//! Mails of a tenant that left are held (`not-configured`), as at the start, and stay so when it comes back: an operator
//! releases them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;

use super::{App, templates};
use crate::clock::Clock;
use crate::config::{Config, Environment, Problem, Problems};
use crate::courier::settings::RelaySettings;
use crate::delivery::control::{Control, Plan};
use crate::domain::ids::TenantId;
use crate::domain::rules::Rules;
use crate::lifecycle::{Kind, Tasks};
use crate::limits::Limits;
use crate::store::{Store, StoreError};
use crate::telemetry::{Chain, Volume};
use crate::templates::Templates;

/// After a tenant left, what may have come back into the queue since (an attempt that was under way) is held this often.
const HOLD_EVERY: Duration = Duration::from_mins(1);
/// What the store could not write is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the configuration is read from, and how loud the log is.
pub struct Source {
    /// Its folder.
    pub folder: PathBuf,
    /// What overrides it, as found at the start.
    pub environment: Environment,
    /// The level of the log.
    pub volume: Volume,
}

/// The parts that hold settings, and those they hold.
struct Reload {
    source: Source,
    current: Config,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    rules: watch::Sender<Arc<Rules>>,
    templates: watch::Sender<Arc<Templates>>,
    limits: Arc<Limits>,
    delivery: Control,
    /// What the relays' settings and the files they name were when they were read.
    relays: Vec<Fingerprint>,
    /// Sections that changed and of which no leaf tells yet.
    unwritten: BTreeSet<&'static str>,
    /// When the last of them did.
    changed_at: Timestamp,
    /// Whether a tenant has left since the start.
    tenants_left: bool,
    /// When what is left to do is done next.
    next_at: Timestamp,
}

/// Reads the configuration again at every item of `wishes`, until the soft stop.
pub fn start(
    app: &App,
    delivery: Control,
    source: Source,
    mut wishes: impl Stream<Item = ()> + Send + Unpin + 'static,
    tasks: &Tasks,
) {
    let mut reload = Reload {
        source,
        current: app.config.clone(),
        clock: Arc::clone(&app.clock),
        store: Arc::clone(&app.store),
        rules: app.rules.clone(),
        templates: app.templates.clone(),
        limits: Arc::clone(&app.limits),
        delivery,
        relays: fingerprints(&app.config),
        unwritten: BTreeSet::new(),
        changed_at: Timestamp::MIN,
        tenants_left: false,
        next_at: Timestamp::MAX,
    };
    let soft = tasks.soft();
    tasks.spawn("reload", Kind::Essential, async move {
        loop {
            tokio::select! {
                biased;
                () = soft.cancelled() => return,
                Some(()) = wishes.next() => reload.reload().await,
                () = reload.clock.sleep_until(reload.next_at) => reload.follow_up().await,
            }
        }
    });
}

impl Reload {
    async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(sections) if sections.is_empty() => tracing::info!("the configuration was read again: it is as it was"),
            Ok(sections) => {
                let sections = sections.join(" ");
                tracing::info!(sections, "the configuration was read again and holds from now on");
            }
            Err(problems) => {
                for problem in problems.iter() {
                    let Problem { file, line, key, detail } = problem;
                    tracing::error!(
                        file,
                        line,
                        key,
                        detail,
                        "the configuration was not taken over: nothing has changed"
                    );
                }
            }
        }
    }

    /// The sections that changed; or what is wrong, and nothing has changed.
    async fn try_reload(&mut self) -> Result<Vec<&'static str>, Problems> {
        let Source { folder, environment, .. } = &self.source;
        // Files, not the network; this thread's other tasks go on elsewhere.
        let fresh = tokio::task::block_in_place(|| Config::for_serving(folder, environment))?;
        let fixed = fresh.changed_since(&self.current.fixed());
        if !fixed.is_empty() {
            return Err(fixed);
        }
        let templates = tokio::task::block_in_place(|| templates::for_serving(&fresh))?;
        let relays = tokio::task::block_in_place(|| fingerprints(&fresh));
        let mut sections = sections_changed(&self.current, &fresh);
        if relays != self.relays {
            sections.push("relays");
        }
        if templates.fingerprint() != self.templates.borrow().fingerprint() {
            sections.push("templates");
        }
        sections.sort_unstable();
        if sections.is_empty() {
            return Ok(sections);
        }
        // Delivery before the door, so that nothing comes in that cannot go out. It alone may refuse; what comes after
        // cannot.
        if let Err(error) = self.delivery.reconfigure(plan(&fresh)).await {
            let mut problems = Problems::default();
            problems.add(folder.join("postern.toml").display(), "relays", Chain(&error).to_string());
            return Err(problems);
        }
        self.put_in_place(fresh, templates);
        self.relays = relays;
        self.unwritten.extend(&sections);
        self.changed_at = self.clock.now();
        self.follow_up().await;
        Ok(sections)
    }

    /// Every part but delivery takes its new snapshot. Nothing in here can fail.
    fn put_in_place(&mut self, fresh: Config, templates: Arc<Templates>) {
        self.rules.send_replace(Arc::new(fresh.rules()));
        self.templates.send_replace(templates);
        self.limits.change(&fresh.limits);
        self.source.volume.set(fresh.log.level);
        self.tenants_left |= self.current.tenants.keys().any(|tenant| !fresh.tenants.contains_key(tenant));
        self.current = fresh;
    }

    /// What the store must be told of; again and again until it can write.
    async fn follow_up(&mut self) {
        let now = self.clock.now();
        let wait = match self.tell_store(now).await {
            Ok(()) if self.tenants_left => Some(HOLD_EVERY),
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(%error, "the store cannot be told of the new configuration yet");
                Some(AGAIN)
            }
        };
        self.next_at = wait.and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX);
    }

    async fn tell_store(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if !self.unwritten.is_empty() {
            self.store.config_changed(self.unwritten.iter().copied().collect(), self.changed_at).await?;
            self.unwritten.clear();
        }
        if self.tenants_left {
            let known: Vec<TenantId> = self.current.tenants.keys().cloned().collect();
            let messages = self.store.hold_unconfigured(&known, now).await?;
            if messages > 0 {
                tracing::error!(messages, "held: their tenants are not in the configuration");
            }
        }
        Ok(())
    }
}

/// What delivery is told.
fn plan(config: &Config) -> Plan {
    Plan {
        settings: config.delivery.clone(),
        lanes: config.lanes.clone(),
        relays: config.relays.clone(),
        tenants: config.tenants.clone(),
        domain_rates: config.limits.relay_domains.clone(),
    }
}

/// See [`RelaySettings::fingerprint`].
type Fingerprint = [u8; 32];

fn fingerprints(config: &Config) -> Vec<Fingerprint> {
    config.relays.iter().map(RelaySettings::fingerprint).collect()
}

/// The sections in which anything is another now, the relays aside.
fn sections_changed(old: &Config, new: &Config) -> Vec<&'static str> {
    let all = [
        ("delivery", old.delivery != new.delivery),
        ("journeys", old.journeys != new.journeys),
        ("lanes", old.lanes != new.lanes),
        ("limits", old.limits != new.limits),
        ("log", old.log != new.log),
        ("tenants", old.tenants != new.tenants),
    ];
    all.into_iter().filter(|(_, changed)| *changed).map(|(section, _)| section).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::telemetry::LogLevel;

    #[test]
    fn a_relay_is_another_when_a_file_it_names_says_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let text = format!("name = \"a\"\nhost = \"h\"\nport = 465\ntls = \"implicit\"\nca_file = {file:?}\n");
        let relay: RelaySettings = toml::from_str(&text).unwrap();
        std::fs::write(&file, "one").unwrap();
        let one = relay.fingerprint();
        assert_eq!(one, relay.fingerprint());
        std::fs::write(&file, "two").unwrap();
        assert_ne!(one, relay.fingerprint());
    }

    #[test]
    fn the_sections_that_changed_are_named_and_no_others() {
        let old = Config::defaults();
        let mut new = old.clone();
        assert_eq!(sections_changed(&old, &new), Vec::<&str>::new());
        new.delivery.breaker_failures += 1;
        new.lanes.urgent.retry = None;
        new.log.level = LogLevel::Debug;
        assert_eq!(sections_changed(&old, &new), ["delivery", "lanes", "log"]);
    }
}
