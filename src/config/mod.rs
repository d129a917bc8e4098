//! The configuration: a folder of files and the environment become each room's `Settings`, or a list of problems.
//!
//! `postern.toml` holds what is one per gateway, `tenants/<id>.toml` what is one per brand, `journeys/<name>.toml` what
//! follows when a brand's pass is added or removed. `POSTERN__SECTION__KEY` overrides `postern.toml`. This is the only
//! room that reads the environment.
//!
//! # What is promised
//!
//! * Every problem is found in one run and names its file (or variable) and key: unknown keys, wrong types, and values
//!   that contradict each other. A key that cannot be used is left out and the reading goes on, see [`reading`].
//! * No problem ever repeats the value of a secret. A secret `x` may be given as `x_file` instead.
//!
//! What a room's values mean is not known here; each room owns its `Settings` and their defaults.

mod check;
mod contact_lookup;
mod environment;
mod files;
mod fixed;
mod journeys;
mod lanes;
mod lines;
mod outbound;
mod pass_api;
mod reading;
mod secrets;
mod tenants;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

pub use environment::Environment;
pub use fixed::Fixed;

use crate::audit::settings::AuditSettings;
use crate::bounces::settings::BounceSettings;
use crate::brake::settings::BrakeSettings;
use crate::courier::settings::RelaySettings;
use crate::delivery::settings::DeliverySettings;
use crate::domain::ids::{JourneyName, TenantId};
use crate::domain::journey::Drawn;
use crate::domain::lane::{LaneRules, PerLane};
use crate::domain::rules::Rules;
use crate::domain::tenant::Tenant;
use crate::http::settings::ServerSettings;
use crate::journeys::settings::JourneySettings;
use crate::limits::settings::LimitsSettings;
use crate::outgoing::settings::OutgoingSettings;
use crate::push::settings::PushSettings;
use crate::store::settings::StoreSettings;
use crate::sweep::settings::RetentionSettings;
use crate::telemetry::LogSettings;
use crate::templates::TemplateSettings;
use crate::wallet::alarms::settings::AlarmSettings;
use crate::wallet::settings::WalletSettings;

/// Said when journeys send links that mail programs do not follow.
const NO_ONE_CLICK: &str = "server.public_url is not https: mails of journeys offer to unsubscribe with one click, which \
                            mail programs use over https alone (RFC 8058)";
/// Problems listed at most; after so many the rest is probably one mistake.
const PROBLEMS_MAX: usize = 200;

/// Everything the files and the environment say.
#[derive(Clone)]
pub struct Config {
    /// Where it was read from.
    pub folder: PathBuf,
    /// `[server]`.
    pub server: ServerSettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[delivery]`.
    pub delivery: DeliverySettings,
    /// `[lanes.*]`.
    pub lanes: PerLane<LaneRules>,
    /// `[limits]`.
    pub limits: LimitsSettings,
    /// `[brake]`.
    pub brake: BrakeSettings,
    /// `[wallet]`.
    pub wallet: WalletSettings,
    /// `[alarms]`.
    pub alarms: AlarmSettings,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[journeys]`.
    pub journey: JourneySettings,
    /// `[push]`.
    pub push: PushSettings,
    /// `[outgoing]`.
    pub outgoing: OutgoingSettings,
    /// `[retention]`.
    pub retention: RetentionSettings,
    /// `[bounces]`.
    pub bounces: BounceSettings,
    /// `[templates]`.
    pub templates: TemplateSettings,
    /// `[[relays]]`, secrets read from their files.
    pub relays: Vec<RelaySettings>,
    /// `[log]`.
    pub log: LogSettings,
    /// `tenants/*.toml`.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// `journeys/*.toml`.
    pub journeys: BTreeMap<JourneyName, Arc<Drawn>>,
    /// The templates that journeys name, each where it is written.
    pub templates_named: Vec<TemplateNamed>,
}

impl Config {
    /// What holds when nothing is configured: no relays, no tenants.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            folder: PathBuf::new(),
            server: ServerSettings::default(),
            store: StoreSettings::default(),
            delivery: DeliverySettings::default(),
            lanes: PerLane::from_fn(lanes::default_rules),
            limits: LimitsSettings::default(),
            brake: BrakeSettings::default(),
            wallet: WalletSettings::default(),
            alarms: AlarmSettings::default(),
            audit: AuditSettings::default(),
            journey: JourneySettings::default(),
            push: PushSettings::default(),
            outgoing: OutgoingSettings::default(),
            retention: RetentionSettings::default(),
            bounces: BounceSettings::default(),
            templates: TemplateSettings::default(),
            relays: Vec::new(),
            log: LogSettings::default(),
            tenants: BTreeMap::new(),
            journeys: BTreeMap::new(),
            templates_named: Vec::new(),
        }
    }

    /// Reads the folder; what could not be used has its default and a problem.
    #[must_use]
    pub fn read(folder: &Path, environment: &Environment) -> (Self, Problems) {
        let mut problems = Problems::default();
        let config = files::read_folder(folder, environment, &mut problems);
        check::check(&config, &mut problems);
        (config, problems)
    }

    /// Reads the folder; any problem refuses it.
    pub fn load(folder: &Path, environment: &Environment) -> Result<Self, Problems> {
        let (config, problems) = Self::read(folder, environment);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Reads the folder for a gateway: it also needs a relay and a tenant. Any problem refuses it.
    pub fn for_serving(folder: &Path, environment: &Environment) -> Result<Self, Problems> {
        let (config, mut problems) = Self::read(folder, environment);
        problems.append(config.missing_for_serving());
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// What it says of mails.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let (tenants, lanes, retry) = (self.tenants.clone(), self.lanes.clone(), self.delivery.retry.clone());
        let reads_relay_logs = self.relays.iter().any(RelaySettings::has_log);
        Rules { tenants, lanes, retry, journeys: self.journeys.clone(), reads_relay_logs }
    }

    /// What works, and is hardly what was meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let clear = !self.journeys.is_empty() && !self.server.public_url.starts_with("https://");
        clear.then_some(NO_ONE_CLICK).into_iter().collect()
    }

    /// The templates that journeys name and that are none.
    #[must_use]
    pub fn missing_templates(&self, is_there: impl Fn(&str) -> bool) -> Problems {
        let mut problems = Problems::default();
        for TemplateNamed { template, file, line, key } in &self.templates_named {
            if !is_there(template) {
                let detail = format!("there is no template {template:?}");
                problems.push(Problem { file: file.clone(), line: *line, key: key.clone(), detail });
            }
        }
        problems
    }

    /// What `serve` needs beyond a correct configuration: a relay and a tenant.
    #[must_use]
    pub fn missing_for_serving(&self) -> Problems {
        let mut problems = Problems::default();
        if self.relays.is_empty() {
            problems.add(files::postern_file(&self.folder), "relays", "at least one [[relays]] is needed");
        }
        if self.tenants.is_empty() {
            problems.add(files::tenants_folder(&self.folder), "", "at least one tenant is needed: tenants/<id>.toml");
        }
        problems
    }
}

/// A template's name, and where it is written. Which there are is known elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateNamed {
    /// The name.
    pub template: String,
    /// The file.
    pub file: String,
    /// Its line.
    pub line: Option<usize>,
    /// The key as a path.
    pub key: String,
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, or `environment`.
    pub file: String,
    /// The line, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The key as a path (`relays[0].port`) or the variable's name; empty when the whole file is meant.
    pub key: String,
    /// What is wrong and what is wanted.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match self.key.as_str() {
            "" => f.write_str(&self.detail),
            key => write!(f, "{key}: {}", self.detail),
        }
    }
}

/// Everything wrong with the configuration, in the order found, each thing once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem, unless it is known or there are far too many.
    pub fn add(&mut self, file: impl fmt::Display, key: impl Into<String>, detail: impl Into<String>) {
        self.push(Problem { file: file.to_string(), line: None, key: key.into(), detail: detail.into() });
    }

    /// The same, made elsewhere.
    pub fn push(&mut self, problem: Problem) {
        if self.0.len() < PROBLEMS_MAX && !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Adds all problems of another list.
    pub fn append(&mut self, others: Self) {
        for other in others.0 {
            self.push(other);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
