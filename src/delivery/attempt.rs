//! One attempt: offer the envelope, pass the commit point, carry the content, decide what became of it.
//!
//! Whatever happens, the attempt ends in one of three ways. **Decided**: the caller writes the settlement down (see
//! [`write_settlement`]), while the relay's session serves the next mail already. **Given back**: nothing was written and
//! no attempt is spent, because it was not the mail's fault (relay down, store not writing, shutdown). **Lost**: the
//! connection broke before anything can have been taken; whose fault that was the caller knows better, who sees how the
//! relay treats others. An attempt that is
//! cut between its commit point and its settlement leaves its attempt row behind, and the next start calls the message
//! `unknown`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::losses::Fault;
use crate::clock::Clock;
use crate::courier::{
    Carried, Courier, Envelope, NotOffered, Offered, RefusedCommand, Stage, Trouble, TroubleKind, Unfit,
};
use crate::domain::ids::{LeaseToken, MessageId, RelayName, TenantId};
use crate::domain::lane::PerLane;
use crate::domain::message::{Candidate, Outcome, Outgoing, Reason, Settled, Settlement, Verdict};
use crate::domain::reply::{Asked, Meaning, Reply, SlowDown, meaning, slow_down};
use crate::domain::retry;
use crate::domain::tenant::Tenant;
use crate::store::{CommitPoint, Store, StoreError};

/// Service not available, closing (RFC 5321 section 3.8): the relay speaks of itself, not of the mail.
pub const CLOSING: u16 = 421;
/// How long a settlement that could not be written waits before it is tried again.
const SETTLE_AGAIN: Duration = Duration::from_millis(250);

/// What every attempt needs; shared by all.
pub struct Ground {
    /// Where messages are kept.
    pub store: Arc<dyn Store>,
    /// The way to the relays.
    pub courier: Arc<dyn Courier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whom each tenant may mail.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Delays between attempts, by lane.
    pub retry: PerLane<Vec<Duration>>,
    /// A relay or domain that asks us to wait is heeded for so long at most.
    pub back_off_max: Duration,
    /// No new attempts; those before their commit point give back.
    pub soft: CancellationToken,
    /// Settlements that are waiting for the store to write again.
    pub unsettled: Arc<AtomicUsize>,
}

/// One attempt's own facts.
pub struct Attempt {
    /// The message.
    pub candidate: Candidate,
    /// The relay to ask.
    pub relay: RelayName,
    /// The token of its commit point.
    pub token: LeaseToken,
    /// Uniform in `0.0..1.0`: spreads the next try.
    pub random: f64,
}

/// How an attempt ended, for the dispatcher.
#[derive(Debug)]
pub enum End {
    /// What it says of the relay, and what must be written down of the message, if anything.
    Decided(Word, Option<Settlement>),
    /// Nothing written, nothing spent.
    GivenBack(GiveBack),
    /// The connection was lost before the final dot.
    Lost(Lost),
    /// The message's own row cannot be read or written: not tried again by this process.
    Unreadable,
}

/// What an attempt says of the relay and of the recipient's domain.
#[derive(Debug)]
pub enum Word {
    /// It answered as a relay should, and not with "later".
    Well,
    /// It answered as a relay should: not now. Perhaps we are to go slower.
    PutOff(Option<SlowDown>),
    /// It closes (421).
    TurnedAway(Option<Duration>),
    /// It failed.
    Failed(Trouble),
    /// It was not asked.
    Nothing,
}

/// Why an attempt was given back.
#[derive(Debug)]
pub enum GiveBack {
    /// No session could be had.
    Unreachable(Trouble),
    /// The relay closes at MAIL, and perhaps says for how long.
    TurnedAway(Option<Duration>),
    /// The relay refuses us rather than the mail, with this code.
    RefusesUs(u16),
    /// The store cannot read or write.
    StoreUnwell,
    /// The gateway stops.
    Stopping,
}

/// A connection that was lost before anything can have been taken.
#[derive(Debug)]
pub struct Lost {
    /// How.
    pub trouble: Trouble,
    /// The token of the commit point, when it was passed.
    pub token: Option<LeaseToken>,
    /// When the mail is due again, should it be its own fault.
    pub next_at: Timestamp,
    /// When it is due again otherwise: after the first of its lane's delays, however often it was tried.
    pub back_at: Timestamp,
}

/// The way one step of an attempt ends it early.
enum Early {
    Outcome(Outcome, Word),
    GiveBack(GiveBack),
    Lost(Lost),
    /// The store said Stop: the message is no longer ours to send.
    NotAnyMore,
}

/// Runs one attempt to its end.
pub async fn run(ground: Arc<Ground>, attempt: Attempt) -> End {
    let (offered, mime, spent) = match approach(&ground, &attempt).await {
        Ok(ready) => ready,
        Err(early) => return end_early(&ground, &attempt, early),
    };
    let commit = CommitPoint {
        id: attempt.candidate.id,
        token: attempt.token,
        relay: attempt.relay.clone(),
        at: ground.clock.now(),
    };
    match ground.store.commit_point(commit).await {
        // The store may have taken its time.
        Ok(Verdict::Go) if ground.clock.now() >= attempt.candidate.deliver_by => {
            offered.withdraw().await;
            return too_late(&ground, &attempt);
        }
        Ok(Verdict::Go) => {}
        Ok(Verdict::Stop) => {
            offered.withdraw().await;
            return End::Decided(Word::Well, None);
        }
        Err(error) => {
            offered.withdraw().await;
            return no_commit_point(&attempt, &error);
        }
    }
    let in_time = || ground.clock.now() < attempt.candidate.deliver_by;
    let (outcome, word) = match offered.carry(mime, &in_time).await {
        Carried::Lost(trouble) => return End::Lost(lost(&ground, &attempt, trouble, Some(attempt.token), spent)),
        Carried::Unknown(trouble) => unknown(&ground, &attempt, trouble, spent),
        // Certainly not sent: the sweep ends it next.
        Carried::TooLate => (late(&ground), Word::Well),
        Carried::DataRefused(reply) => judge(&ground, &attempt, reply, Asked::Data, spent),
        Carried::Answered(reply) => judge(&ground, &attempt, reply, Asked::Dot, spent),
    };
    End::Decided(word, Some(settlement(&ground, &attempt, Some(attempt.token), outcome)))
}

fn lost(ground: &Ground, attempt: &Attempt, trouble: Trouble, token: Option<LeaseToken>, spent: u32) -> Lost {
    let (next_at, back_at) = (next_at(ground, attempt, spent, None), next_at(ground, attempt, 0, None));
    Lost { trouble, token, next_at, back_at }
}

/// Past its commit point and past its deadline, and nothing was sent: the sweep ends it next.
fn too_late(ground: &Ground, attempt: &Attempt) -> End {
    End::Decided(Word::Well, Some(settlement(ground, attempt, Some(attempt.token), late(ground))))
}

fn no_commit_point(attempt: &Attempt, error: &StoreError) -> End {
    let id = attempt.candidate.id;
    match error {
        StoreError::Corrupt { .. } => {
            tracing::error!(delivery.id = %id, %error, "the message's row is corrupt: it is not sent");
            End::Unreadable
        }
        StoreError::NotPersisted { .. }
        | StoreError::Unreadable { .. }
        | StoreError::InUse(_)
        | StoreError::Open(_)
        | StoreError::Closed => {
            tracing::warn!(delivery.id = %id, %error, "no commit point: the mail waits");
            End::GivenBack(GiveBack::StoreUnwell)
        }
    }
}

type Ready = (Box<dyn Offered>, Vec<u8>, u32);

/// As far as RCPT: nothing is written yet, and everything may be given back.
async fn approach(ground: &Ground, attempt: &Attempt) -> Result<Ready, Early> {
    let Outgoing { envelope_sender, recipient, attempts, mime } = load(ground, attempt).await?;
    // The rule may have been tightened since the mail was accepted.
    if !ground.tenants.get(&attempt.candidate.tenant).is_some_and(|tenant| tenant.allows_recipient(&recipient)) {
        return Err(Early::Outcome(Outcome::Suppressed { reason: Reason::NotAllowed }, Word::Nothing));
    }
    let envelope = Envelope {
        id: attempt.candidate.id,
        sender: envelope_sender,
        recipient,
        size: u64::try_from(mime.len()).unwrap_or(u64::MAX),
        eight_bit: !mime.is_ascii(),
        utf8_headers: !header_section(&mime).is_ascii(),
    };
    let offer = ground.courier.offer(&attempt.relay, &envelope);
    let offered = tokio::select! {
        biased;
        // The unfinished offer is dropped, and its socket with it.
        () = ground.soft.cancelled() => return Err(Early::GiveBack(GiveBack::Stopping)),
        offered = offer => offered,
    };
    match offered {
        Ok(offered) => Ok((offered, mime, attempts)),
        Err(refusal) => Err(not_offered(ground, attempt, refusal, attempts)),
    }
}

/// Everything before the first empty line (RFC 5322 section 2.1).
fn header_section(mime: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(mime, b"\r\n\r\n").unwrap_or(mime.len());
    &mime[..end]
}

async fn load(ground: &Ground, attempt: &Attempt) -> Result<Outgoing, Early> {
    let id = attempt.candidate.id;
    match ground.store.outgoing(id).await {
        Ok(Some(outgoing)) => Ok(outgoing),
        Ok(None) => Err(Early::NotAnyMore),
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(delivery.id = %id, %error, "a stored mail cannot be read back; it is held");
            Err(Early::Outcome(Outcome::Held { reason: Reason::ContentUnreadable }, Word::Nothing))
        }
        Err(error) => {
            tracing::warn!(delivery.id = %id, %error, "the mail cannot be read now; it waits");
            Err(Early::GiveBack(GiveBack::StoreUnwell))
        }
    }
}

fn not_offered(ground: &Ground, attempt: &Attempt, refusal: NotOffered, spent: u32) -> Early {
    match refusal {
        NotOffered::Unreachable(trouble) => Early::GiveBack(GiveBack::Unreachable(trouble)),
        NotOffered::Lost(trouble) => Early::Lost(lost(ground, attempt, trouble, None, spent)),
        NotOffered::Refused { command, reply } => refused(ground, attempt, command, reply, spent),
        NotOffered::Unfit(unfit) => {
            let reason = match unfit {
                Unfit::Smtputf8 => Reason::Smtputf8Needed,
                Unfit::EightBitMime => Reason::EightBitMimeNeeded,
                Unfit::Size => Reason::TooLarge,
            };
            Early::Outcome(Outcome::Bounced { reason, reply: None, of_recipient: false }, Word::Nothing)
        }
    }
}

/// What a no to MAIL or RCPT means. Nothing was said of the recipient at MAIL: what the relay says of itself there
/// costs no attempt. At RCPT it may be about this recipient alone, so an attempt is spent whatever is said.
fn refused(ground: &Ground, attempt: &Attempt, command: RefusedCommand, reply: Reply, spent: u32) -> Early {
    let asked = match command {
        RefusedCommand::Mail => Asked::Mail,
        RefusedCommand::Rcpt => Asked::Rcpt,
    };
    // The courier has tried a fresh session already.
    if reply.code == CLOSING && asked == Asked::Mail {
        return Early::GiveBack(GiveBack::TurnedAway(slow_down(&reply, asked).and_then(|asks| asks.wait)));
    }
    if meaning(&reply, asked) == Meaning::RelayRefusesUs {
        return Early::GiveBack(GiveBack::RefusesUs(reply.code));
    }
    let (outcome, word) = judge(ground, attempt, reply, asked, spent);
    Early::Outcome(outcome, word)
}

/// What an answer means for the message, and what it says of the relay. An answer is definite, but for one to the final
/// dot that says neither yes nor no.
fn judge(ground: &Ground, attempt: &Attempt, reply: Reply, asked: Asked, spent: u32) -> (Outcome, Word) {
    match (meaning(&reply, asked), asked) {
        (Meaning::Accepted, Asked::Dot) => (Outcome::Relayed { reply }, Word::Well),
        (Meaning::Permanent, _) => (bounced(reply, asked), Word::Well),
        (Meaning::Unclear, Asked::Dot) => {
            let trouble = Trouble { stage: Stage::Data, kind: TroubleKind::Refused(reply.code) };
            unknown(ground, attempt, trouble, spent)
        }
        (Meaning::Accepted | Meaning::Transient | Meaning::RelayRefusesUs | Meaning::Unclear, _) => {
            let asks = slow_down(&reply, asked);
            let wait = asks.and_then(|asks| asks.wait);
            let word = if reply.code == CLOSING { Word::TurnedAway(wait) } else { Word::PutOff(asks) };
            let next_at = next_at(ground, attempt, spent, wait);
            (Outcome::Deferred { reason: Reason::RelayRefused, reply: Some(reply), next_at }, word)
        }
    }
}

fn unknown(ground: &Ground, attempt: &Attempt, trouble: Trouble, spent: u32) -> (Outcome, Word) {
    let decide_at = next_at(ground, attempt, spent, None);
    tracing::warn!(delivery.id = %attempt.candidate.id, %trouble, "no clear answer to the final dot: unknown");
    (Outcome::Unknown { reason: Reason::ReplyLost, decide_at }, Word::Failed(trouble))
}

fn late(ground: &Ground) -> Outcome {
    Outcome::Deferred { reason: Reason::DeadlinePassed, reply: None, next_at: ground.clock.now() }
}

fn bounced(reply: Reply, asked: Asked) -> Outcome {
    Outcome::Bounced { reason: Reason::RelayRefused, reply: Some(reply), of_recipient: asked != Asked::Mail }
}

/// When the mail is tried again: by its lane's table, but not before the relay wants it, up to `delivery.back_off_max`.
fn next_at(ground: &Ground, attempt: &Attempt, spent: u32, wait: Option<Duration>) -> Timestamp {
    let table: &[Duration] = ground.retry.get(attempt.candidate.lane);
    let delay = retry::delay_after(table, spent + 1, attempt.random);
    let delay = delay.max(wait.unwrap_or_default().min(ground.back_off_max));
    ground.clock.now().checked_add(delay).unwrap_or(Timestamp::MAX)
}

fn end_early(ground: &Ground, attempt: &Attempt, early: Early) -> End {
    match early {
        Early::Outcome(outcome, word) => End::Decided(word, Some(settlement(ground, attempt, None, outcome))),
        Early::GiveBack(why) => End::GivenBack(why),
        Early::Lost(lost) => End::Lost(lost),
        Early::NotAnyMore => End::Decided(Word::Nothing, None),
    }
}

/// What must be written down of an outcome.
fn settlement(ground: &Ground, attempt: &Attempt, token: Option<LeaseToken>, outcome: Outcome) -> Settlement {
    log(attempt.candidate.id, &attempt.relay, &outcome);
    // What ended before the relay heard of it says nothing about the relay.
    let asked = match &outcome {
        Outcome::Held { .. } | Outcome::Suppressed { .. } | Outcome::Bounced { reply: None, .. } => None,
        Outcome::Relayed { .. }
        | Outcome::Deferred { .. }
        | Outcome::Returned { .. }
        | Outcome::Bounced { .. }
        | Outcome::Unknown { .. } => Some(attempt.relay.clone()),
    };
    Settlement { id: attempt.candidate.id, token, relay: asked, at: ground.clock.now(), outcome }
}

/// What must be written down of a mail whose connection was lost; `None` when nothing was written of it before.
pub fn settlement_of_lost(
    id: MessageId,
    relay: &RelayName,
    lost: &Lost,
    fault: Fault,
    at: Timestamp,
) -> Option<Settlement> {
    let outcome = match fault {
        Fault::Mails => Outcome::Deferred { reason: Reason::ConnectionLost, reply: None, next_at: lost.next_at },
        // It may be lost again, and others wait: it goes behind them, unspent.
        Fault::Relays => {
            lost.token?;
            Outcome::Returned { next_at: lost.back_at }
        }
    };
    log(id, relay, &outcome);
    Some(Settlement { id, token: lost.token, relay: Some(relay.clone()), at, outcome })
}

/// Writes a settlement, again and again until the store takes it; meanwhile the dispatcher starts nothing new. `None`: it
/// can never be written.
pub async fn write_settlement(ground: &Ground, settlement: Settlement) -> Option<Settled> {
    let mut waiting = None;
    loop {
        match ground.store.settle(settlement.clone()).await {
            Ok(settled) => return Some(settled),
            Err(error @ (StoreError::Closed | StoreError::Corrupt { .. })) => {
                // Trying again cannot help; what is left of the attempt is found at the next start.
                tracing::error!(delivery.id = %settlement.id, %error, "an outcome cannot be written");
                return None;
            }
            Err(error) => {
                if waiting.is_none() {
                    tracing::error!(delivery.id = %settlement.id, %error, "an outcome cannot be written; trying until it can");
                }
                waiting.get_or_insert_with(|| Unsettled::new(&ground.unsettled));
                let again = ground.clock.now().checked_add(SETTLE_AGAIN).unwrap_or(Timestamp::MAX);
                ground.clock.sleep_until(again).await;
            }
        }
    }
}

/// Ends the attempt of one that panicked: before its commit point the message is held; past it, it is unknown.
pub async fn set_aside(ground: &Ground, id: MessageId, relay: &RelayName, token: LeaseToken) {
    let at = ground.clock.now();
    let settlement = |token, outcome| Settlement { id, token, relay: Some(relay.clone()), at, outcome };
    let held = settlement(None, Outcome::Held { reason: Reason::Fault });
    if write_settlement(ground, held).await == Some(Settled::Stale) {
        let decide_at = at.checked_add(Duration::from_mins(1)).unwrap_or(Timestamp::MAX);
        let unknown = Outcome::Unknown { reason: Reason::Fault, decide_at };
        write_settlement(ground, settlement(Some(token), unknown)).await;
    }
}

/// Counts one settlement that waits, for as long as it waits.
struct Unsettled<'a>(&'a AtomicUsize);

impl<'a> Unsettled<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn log(id: MessageId, relay: &RelayName, outcome: &Outcome) {
    let code = |reply: &Option<Reply>| reply.as_ref().map_or(0, |reply| reply.code);
    match outcome {
        Outcome::Relayed { .. } => tracing::debug!(delivery.id = %id, %relay, "relayed"),
        Outcome::Deferred { reason, reply, .. } => {
            tracing::info!(delivery.id = %id, %relay, reason = reason.as_str(), code = code(reply), "deferred");
        }
        Outcome::Returned { .. } => tracing::info!(delivery.id = %id, %relay, "lost with the relay: unspent"),
        Outcome::Bounced { reason, reply, .. } => {
            tracing::info!(delivery.id = %id, %relay, reason = reason.as_str(), code = code(reply), "bounced");
        }
        Outcome::Unknown { reason, .. } => {
            tracing::warn!(delivery.id = %id, %relay, reason = reason.as_str(), "unknown");
        }
        Outcome::Held { reason } => tracing::warn!(delivery.id = %id, %relay, reason = reason.as_str(), "held"),
        Outcome::Suppressed { reason } => {
            tracing::info!(delivery.id = %id, reason = reason.as_str(), "suppressed");
        }
    }
}
