//! `queue summary`: how many mails stand where, how old the oldest is, how fast they go, and how relays, recipient
//! domains and lanes are.

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::super::Done;
use super::super::output::table;
use super::look::{NOTHING, age, relative};
use super::{Queue, Told};
use crate::domain::ids::TenantId;
use crate::domain::lane::Lane;
use crate::domain::message::{Reason, Status};
use crate::domain::time;
use crate::hatch::Question;
use crate::store::{Pace, StandingCount};

#[derive(clap::Args)]
pub(super) struct Summary {
    /// Only this tenant's mails; relays, domains and rates are everybody's
    #[arg(long, value_name = "T")]
    tenant: Option<TenantId>,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summed {
    #[serde(serialize_with = "time::write")]
    at: Timestamp,
    gateway: GatewayState,
    standings: Vec<Standing>,
    waiting: Vec<Waiting>,
    rates: Rates,
    /// As the gateway says it; `null` when none does.
    delivery: Value,
}

/// Whether a gateway runs on this store.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum GatewayState {
    Running,
    /// It runs, and does not answer.
    Silent,
    Absent,
}

/// The mails of a tenant that stand alike.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    tenant: TenantId,
    lane: Lane,
    status: Status,
    reason: Option<Reason>,
    messages: u64,
    #[serde(serialize_with = "time::write")]
    oldest_accepted_at: Timestamp,
    oldest_seconds: i64,
}

/// What waits in a lane, due or not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    lane: Lane,
    messages: u64,
    #[serde(serialize_with = "time::write_or_null")]
    oldest_accepted_at: Option<Timestamp>,
    oldest_seconds: Option<i64>,
}

/// Per second.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    over_seconds: f64,
    accepted: f64,
    attempts: f64,
    relayed: f64,
}

impl Summary {
    pub(super) async fn run(self, queue: &Queue<'_>) -> Done {
        let now = queue.context.clock.now();
        let mut standings = Vec::new();
        for tenant in queue.tenants(self.tenant.as_ref()).await? {
            let counts = queue.store.standings(&tenant).await.context("counting")?;
            standings.extend(counts.into_iter().map(|count| Standing::new(&tenant, &count, now)));
        }
        let rates = Rates::from(queue.store.pace(now).await.context("counting the last minute")?);
        let (gateway, delivery) = match queue.ask(&Question::Overview).await? {
            Told::Answer(overview) => (GatewayState::Running, overview),
            Told::Silent(_) => (GatewayState::Silent, Value::Null),
            Told::NoGateway => (GatewayState::Absent, Value::Null),
        };
        let waiting = Lane::ALL.into_iter().map(|lane| Waiting::of(lane, &standings, now)).collect();
        let summed = Summed { at: now, gateway, standings, waiting, rates, delivery };
        queue.context.output.answer(&summed, for_people)?;
        Ok(())
    }
}

impl Standing {
    fn new(tenant: &TenantId, count: &StandingCount, now: Timestamp) -> Self {
        let StandingCount { lane, status, reason, messages, oldest_accepted_at } = *count;
        let oldest_seconds = seconds(oldest_accepted_at, now);
        Self { tenant: tenant.clone(), lane, status, reason, messages, oldest_accepted_at, oldest_seconds }
    }

    fn row(&self, now: Timestamp) -> [String; 6] {
        [
            self.tenant.to_string(),
            self.lane.to_string(),
            self.status.to_string(),
            self.reason.map_or(NOTHING, Reason::as_str).to_owned(),
            self.messages.to_string(),
            age(self.oldest_accepted_at, now),
        ]
    }
}

impl Waiting {
    fn of(lane: Lane, standings: &[Standing], now: Timestamp) -> Self {
        let waits = |standing: &&Standing| {
            standing.lane == lane && matches!(standing.status, Status::Queued | Status::Deferred)
        };
        let waiting = || standings.iter().filter(waits);
        let oldest_accepted_at = waiting().map(|standing| standing.oldest_accepted_at).min();
        let oldest_seconds = oldest_accepted_at.map(|oldest| seconds(oldest, now));
        Self { lane, messages: waiting().map(|standing| standing.messages).sum(), oldest_accepted_at, oldest_seconds }
    }

    fn row(&self, now: Timestamp, delivery: &Value) -> [String; 5] {
        let lane = &delivery["lanes"][self.lane.as_str()];
        [
            self.lane.to_string(),
            self.messages.to_string(),
            self.oldest_accepted_at.map_or_else(|| NOTHING.to_owned(), |oldest| age(oldest, now)),
            word(&lane["inWindow"]),
            word(&lane["inFlight"]),
        ]
    }
}

impl From<Pace> for Rates {
    fn from(pace: Pace) -> Self {
        let over_seconds = pace.over.as_secs_f64();
        // Counts of a minute: far below what a float holds exactly.
        let per_second = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / over_seconds;
        let (accepted, attempts) = (per_second(pace.accepted), per_second(pace.attempts));
        Self { over_seconds, accepted, attempts, relayed: per_second(pace.relayed) }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}

fn for_people(summed: &Summed) -> String {
    let Summed { at, gateway, standings, waiting, rates, delivery } = summed;
    let mut parts = vec![match gateway {
        GatewayState::Running => "The gateway runs.".to_owned(),
        GatewayState::Silent => {
            "A gateway runs, but does not answer: see its log, and the load of the machine.".to_owned()
        }
        GatewayState::Absent => "No gateway runs on this store: nothing is sent. Start it: postern serve.".to_owned(),
    }];
    if let Some(pause) = delivery["pause"]["rule"].as_str() {
        parts.push(format!("Nothing is begun now: {pause}."));
    }
    if standings.is_empty() {
        parts.push("There is no mail.".to_owned());
    } else {
        let rows: Vec<_> = standings.iter().map(|standing| standing.row(*at)).collect();
        parts.push(table(["TENANT", "LANE", "STATUS", "REASON", "MAILS", "OLDEST"], &rows));
    }
    let rows: Vec<_> = waiting.iter().map(|waiting| waiting.row(*at, delivery)).collect();
    parts.push(table(["LANE", "WAITING", "OLDEST", "IN WINDOW", "IN FLIGHT"], &rows));
    let rows: Vec<_> = items(&delivery["relays"]).iter().map(|relay| relay_row(relay, *at)).collect();
    if !rows.is_empty() {
        let headings = ["RELAY", "BREAKER", "UNTIL", "SESSIONS", "RATE", "ATTEMPTS/S", "TROUBLE"];
        parts.push(table(headings, &rows));
    }
    let rows: Vec<_> = items(&delivery["domains"]).iter().map(|domain| domain_row(domain, *at)).collect();
    if !rows.is_empty() {
        let more = match delivery["domainsMore"].as_u64() {
            Some(more @ 1..) => format!("\nand {more} more domains"),
            Some(0) | None => String::new(),
        };
        parts.push(format!("{}{more}", table(["LIMITED DOMAIN", "RATE", "LEARNED/S", "NEXT"], &rows)));
    }
    let Rates { over_seconds, accepted, attempts, relayed } = rates;
    parts.push(format!(
        "Per second, over the last {over_seconds:.0} s: accepted {accepted:.1}, attempts {attempts:.1}, relayed {relayed:.1}"
    ));
    parts.join("\n\n")
}

fn relay_row(relay: &Value, now: Timestamp) -> [String; 7] {
    let busy: u64 = Lane::ALL.iter().filter_map(|lane| relay["busy"][lane.as_str()].as_u64()).sum();
    let (allowed, all) = (word(&relay["sessionsAllowed"]), word(&relay["sessions"]));
    let until = [&relay["shutUntil"], &relay["backOffUntil"]].into_iter().find_map(moment);
    [
        word(&relay["name"]),
        word(&relay["breaker"]),
        until.map_or_else(|| NOTHING.to_owned(), |until| relative(until, now)),
        format!("{busy} of {allowed} ({all})"),
        word(&relay["rate"]["setting"]),
        word(&relay["pace"]["attempts"]),
        word(&relay["trouble"]),
    ]
}

fn domain_row(domain: &Value, now: Timestamp) -> [String; 4] {
    let next = [&domain["backOffUntil"], &domain["nextAt"]].into_iter().find_map(moment);
    [
        word(&domain["domain"]),
        word(&domain["rate"]["setting"]),
        word(&domain["learnedPerSecond"]["value"]),
        next.map_or_else(|| NOTHING.to_owned(), |next| relative(next, now)),
    ]
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// A value as people read it.
fn word(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use serde_json::json;

    use super::*;

    fn summed(gateway: GatewayState, delivery: Value) -> Summed {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let waiting = Lane::ALL.into_iter().map(|lane| Waiting::of(lane, &[], at)).collect();
        let rates = Rates { over_seconds: 60.0, accepted: 2.0, attempts: 1.5, relayed: 1.0 };
        Summed { at, gateway, standings: Vec::new(), waiting, rates, delivery }
    }

    #[test]
    fn relays_limited_domains_lanes_and_a_pause_are_told_as_the_gateway_tells_them() {
        let delivery = json!({
            "relays": [{
                "name": "primary", "breaker": "open", "trouble": "connect: no answer within 10s",
                "shutUntil": "2026-01-01T00:00:02Z", "backOffUntil": null, "rate": {"setting": "200/s"},
                "sessions": 20, "sessionsAllowed": 5, "busy": {"urgent": 1, "standard": 2, "journey": 0},
                "pace": {"attempts": 1.25},
            }],
            "domains": [{
                "domain": "slow.example", "rate": {"setting": "20/s"}, "learnedPerSecond": {"value": 2.5},
                "backOffUntil": null, "nextAt": "2026-01-01T00:01:30Z",
            }],
            "domainsMore": 3,
            "lanes": {"urgent": {"inWindow": 4, "inFlight": 1}},
            "pause": {"rule": "store-unwell"},
        });
        let told = for_people(&summed(GatewayState::Running, delivery));
        for part in [
            "The gateway runs.",
            "Nothing is begun now: store-unwell.",
            "primary  open",
            "(in 2s)",
            "3 of 5 (20)",
            "200/s",
            "connect: no answer",
            "slow.example",
            "2.5",
            "(in 1m 30s)",
            "and 3 more domains",
            "urgent    0        -       4          1",
            "accepted 2.0, attempts 1.5, relayed 1.0",
        ] {
            assert!(told.contains(part), "{part}:\n{told}");
        }
    }

    #[test]
    fn without_a_gateway_nothing_is_said_of_relays() {
        for (gateway, word) in [(GatewayState::Absent, "No gateway runs"), (GatewayState::Silent, "does not answer")] {
            let told = for_people(&summed(gateway, Value::Null));
            assert!(told.contains(word) && !told.contains("RELAY"), "{told}");
        }
    }
}
