//! The folder itself: which files there are, what they say, and the secrets they point at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::{SecretString, zeroize::Zeroize as _};
use serde::Deserialize;
use toml::{Table, Value};

use super::environment::Environment;
use super::journeys::read_journeys;
use super::lanes::LanesFile;
use super::lines::line_at;
use super::reading::{Origin, read};
use super::tenants::{Shared, TenantFile};
use super::{Config, Problem, Problems};
use crate::audit::settings::AuditSettings;
use crate::bounces::settings::BounceSettings;
use crate::brake::settings::BrakeSettings;
use crate::courier::settings::RelaySettings;
use crate::delivery::settings::DeliverySettings;
use crate::domain::ids::TenantId;
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

/// No file of the configuration is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// No secret is larger.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Tenants at most.
const TENANTS_MAX: usize = 10_000;

/// `postern.toml` without its relays, which are read one by one.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct PosternFile {
    server: ServerSettings,
    store: StoreSettings,
    delivery: DeliverySettings,
    lanes: LanesFile,
    limits: LimitsSettings,
    brake: BrakeSettings,
    wallet: WalletSettings,
    alarms: AlarmSettings,
    audit: AuditSettings,
    journeys: JourneySettings,
    push: PushSettings,
    outgoing: OutgoingSettings,
    retention: RetentionSettings,
    bounces: BounceSettings,
    templates: TemplateSettings,
    log: LogSettings,
}

pub(super) fn postern_file(folder: &Path) -> String {
    folder.join("postern.toml").display().to_string()
}

pub(super) fn tenants_folder(folder: &Path) -> String {
    folder.join("tenants").display().to_string()
}

/// Reads the whole folder.
pub(super) fn read_folder(folder: &Path, environment: &Environment, problems: &mut Problems) -> Config {
    let file = postern_file(folder);
    let mut table = read_table(Path::new(&file), problems).unwrap_or_default();
    let relays_written = table.remove("relays");
    let overrides = environment.lay_over(&mut table, problems);
    for laid in overrides.iter().filter(|laid| laid.path[0] == "relays") {
        problems.add(
            super::environment::FILE,
            laid.variable.as_str(),
            "a list of tables cannot be overridden from the environment",
        );
    }
    table.remove("relays");
    let written: PosternFile = read(Origin { file: &file, within: "", overrides }, table, problems).unwrap_or_default();
    let relays = read_relays(relays_written, &file, problems);
    let shared = Shared { relays: &relays.names, limits: &written.limits };
    let tenants = read_tenants(&folder.join("tenants"), &shared, problems);
    let drawings = read_journeys(&folder.join("journeys"), &tenants.written, problems);
    Config {
        folder: folder.to_owned(),
        server: written.server,
        store: written.store,
        delivery: written.delivery,
        lanes: written.lanes.into_rules(),
        limits: written.limits,
        brake: written.brake,
        wallet: written.wallet,
        alarms: written.alarms,
        audit: written.audit,
        journey: written.journeys,
        push: written.push,
        outgoing: written.outgoing,
        retention: written.retention,
        bounces: written.bounces,
        templates: written.templates,
        relays: relays.usable,
        log: written.log,
        tenants: tenants.usable,
        journeys: drawings.journeys,
        templates_named: drawings.templates_named,
    }
}

/// The relays that could be read, and the names of all, so that one mistake is not reported twice.
struct Relays {
    usable: Vec<RelaySettings>,
    names: Vec<String>,
}

/// The tenants that could be read, and the names of all, so that one mistake is not reported twice.
struct Tenants {
    usable: BTreeMap<TenantId, Tenant>,
    written: BTreeSet<TenantId>,
}

fn read_relays(written: Option<Value>, file: &str, problems: &mut Problems) -> Relays {
    let mut relays = Relays { usable: Vec::new(), names: Vec::new() };
    let list = match written {
        None => return relays,
        Some(Value::Array(list)) => list,
        Some(_) => {
            problems.add(file, "relays", "must be written as [[relays]]");
            return relays;
        }
    };
    for (index, relay) in list.into_iter().enumerate() {
        let within = format!("relays[{index}]");
        let Value::Table(table) = relay else {
            problems.add(file, within, "must be written as [[relays]]");
            continue;
        };
        if let Some(name) = table.get("name").and_then(Value::as_str) {
            if relays.names.iter().any(|known| known == name) {
                problems.add(file, format!("{within}.name"), "there is another relay of this name");
            }
            relays.names.push(name.to_owned());
        }
        let origin = Origin { file, within: &within, overrides: Vec::new() };
        let Some(mut relay) = read::<RelaySettings>(origin, table, problems) else { continue };
        let mut complain = |key: &str, detail: String| problems.add(file, format!("{within}.{key}"), detail);
        if let Err((key, detail)) = resolve_password(&mut relay) {
            // The rules about credentials would only repeat this.
            complain(key, detail);
            continue;
        }
        for (key, detail) in relay.problems() {
            complain(key, detail);
        }
        relays.usable.push(relay);
    }
    relays
}

/// `password_file` becomes `password`.
fn resolve_password(relay: &mut RelaySettings) -> Result<(), (&'static str, String)> {
    let Some(path) = relay.password_file.as_deref() else { return Ok(()) };
    if relay.password.is_some() {
        return Err(("password_file", "give password or password_file, not both".to_owned()));
    }
    relay.password = Some(read_secret(path).map_err(|detail| ("password_file", detail))?);
    Ok(())
}

/// A secret from its file, without the newline editors leave at the end.
pub(super) fn read_secret(path: &Path) -> Result<SecretString, String> {
    let mut text = read_text(path, SECRET_BYTES_MAX)?;
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    let secret = SecretString::from(trimmed);
    let empty = trimmed.is_empty();
    text.zeroize();
    if empty { Err("the file is empty".to_owned()) } else { Ok(secret) }
}

fn read_tenants(folder: &Path, shared: &Shared<'_>, problems: &mut Problems) -> Tenants {
    let mut tenants = Tenants { usable: BTreeMap::new(), written: BTreeSet::new() };
    for path in toml_files(folder, TENANTS_MAX, "tenants", problems) {
        let file = path.display().to_string();
        let id: Option<TenantId> = stem(&path)
            .parse()
            .map_err(|detail: String| problems.add(&file, "", format!("the file's name is not a tenant's: {detail}")))
            .ok();
        tenants.written.extend(id.clone());
        let Some(table) = read_table(&path, problems) else { continue };
        let origin = Origin { file: &file, within: "", overrides: Vec::new() };
        let Some(written) = read::<TenantFile>(origin, table, problems) else { continue };
        let Some(id) = id else { continue };
        if let Some(tenant) = written.into_tenant(id.clone(), shared, &file, problems) {
            tenants.usable.insert(id, tenant);
        }
    }
    tenants
}

/// A file's name without `.toml`.
pub(super) fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// The `.toml` files of a folder in the order of their names, at most `max`. No folder, no files: whoever needs one says
/// so.
pub(super) fn toml_files(folder: &Path, max: usize, what: &str, problems: &mut Problems) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.add(folder.display(), "", format!("cannot be read: {}", error.kind()));
            return Vec::new();
        }
    };
    let visible = |path: &PathBuf| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && visible(path));
    files.sort();
    if files.len() > max {
        problems.add(folder.display(), "", format!("holds more than {max} {what}"));
    }
    files.truncate(max);
    files
}

fn read_table(path: &Path, problems: &mut Problems) -> Option<Table> {
    let text = read_file(path, problems)?;
    parse_table(&path.display().to_string(), &text, problems)
}

/// The text of one of the configuration's files.
pub(super) fn read_file(path: &Path, problems: &mut Problems) -> Option<String> {
    read_text(path, FILE_BYTES_MAX).map_err(|detail| problems.add(path.display(), "", detail)).ok()
}

/// A file's TOML. A syntax error names the line but never shows it: it may hold a secret.
pub(super) fn parse_table(file: &str, text: &str, problems: &mut Problems) -> Option<Table> {
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            let line = Some(line_at(text, error.span().map_or(0, |span| span.start)));
            let detail = error.message().lines().next().unwrap_or("not TOML").to_owned();
            problems.push(Problem { file: file.to_owned(), line, key: String::new(), detail });
            None
        }
    }
}

fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "cannot be read: there is no such file".to_owned(),
        kind => format!("cannot be read: {kind}"),
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > bytes_max {
        return Err(format!("is larger than {bytes_max} bytes"));
    }
    Ok(text)
}
