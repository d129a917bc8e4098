//! One attempt: offer the envelope, pass the commit point, carry the content, decide what became of it.
//!
//! Whatever happens, the attempt ends in one of two ways. **Decided**: the caller writes the settlement down (see
//! [`write_settlement`]), while the relay's session serves the next mail already. **Given back**: nothing was written and
//! no attempt is spent, because it was not the mail's fault (relay down, store not writing, shutdown). An attempt that is
//! cut between its commit point and its settlement leaves its attempt row behind, and the next start calls the message
//! `unknown`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::courier::{
    Carried, Courier, Envelope, NotOffered, Offered, RefusedCommand, Stage, Trouble, TroubleKind, Unfit,
};
use crate::domain::ids::{LeaseToken, MessageId, RelayName, TenantId};
use crate::domain::lane::PerLane;
use crate::domain::message::{Candidate, Outcome, Outgoing, Reason, Settled, Settlement, Verdict};
use crate::domain::reply::{Asked, Meaning, Reply, meaning};
use crate::domain::retry;
use crate::domain::tenant::Tenant;
use crate::store::{CommitPoint, Store, StoreError};

/// Service not available, closing (RFC 5321 section 3.8): the relay speaks of itself, not of the mail.
const CLOSING: u16 = 421;
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
    /// The message's own row cannot be read or written: not tried again by this process.
    Unreadable,
}

/// What an attempt says of the relay.
#[derive(Debug)]
pub enum Word {
    /// It answered as a relay should.
    Well,
    /// It failed.
    Failed(Trouble),
    /// It was not asked, or what happened was not its doing.
    Nothing,
}

/// Why an attempt was given back.
#[derive(Debug)]
pub enum GiveBack {
    /// The relay cannot be reached, or refuses us rather than the mail.
    RelayDown(String),
    /// The store cannot read or write.
    StoreUnwell,
    /// The gateway stops.
    Stopping,
}

/// The way one step of an attempt ends it early.
enum Early {
    Outcome(Outcome, Word),
    GiveBack(GiveBack),
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
    let carried = offered.carry(mime, &in_time).await;
    let (outcome, word) = judge(&ground, &attempt, carried, spent);
    End::Decided(word, Some(settlement(&ground, &attempt, Some(attempt.token), outcome)))
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
        NotOffered::Unreachable(trouble) => Early::GiveBack(GiveBack::RelayDown(trouble.to_string())),
        NotOffered::Lost(trouble) => {
            let outcome = deferred(ground, attempt, Reason::ConnectionLost, None, spent);
            Early::Outcome(outcome, Word::Failed(trouble))
        }
        NotOffered::Refused { command, reply } => refused(ground, attempt, command, reply, spent),
        NotOffered::Unfit(unfit) => {
            let reason = match unfit {
                Unfit::Smtputf8 => Reason::Smtputf8Needed,
                Unfit::EightBitMime => Reason::EightBitMimeNeeded,
                Unfit::Size => Reason::TooLarge,
            };
            Early::Outcome(Outcome::Bounced { reason, reply: None }, Word::Nothing)
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
    let word = match (reply.code, command) {
        // The courier has tried a fresh session already.
        (CLOSING, RefusedCommand::Mail) => {
            return Early::GiveBack(GiveBack::RelayDown(format!("the relay closes at MAIL: {CLOSING}")));
        }
        (CLOSING, RefusedCommand::Rcpt) => {
            Word::Failed(Trouble { stage: Stage::Envelope, kind: TroubleKind::Refused(CLOSING) })
        }
        _ => Word::Well,
    };
    match meaning(&reply, asked) {
        Meaning::RelayRefusesUs => {
            Early::GiveBack(GiveBack::RelayDown(format!("the relay refuses us: {}", reply.code)))
        }
        Meaning::Permanent => Early::Outcome(bounced(reply), word),
        Meaning::Accepted | Meaning::Transient | Meaning::Unclear => {
            Early::Outcome(deferred(ground, attempt, Reason::RelayRefused, Some(reply), spent), word)
        }
    }
}

/// What the content's journey means for the message. A reply is definite; only a lost one is unknown.
fn judge(ground: &Ground, attempt: &Attempt, carried: Carried, spent: u32) -> (Outcome, Word) {
    match carried {
        Carried::Answered(reply) => match meaning(&reply, Asked::Dot) {
            Meaning::Accepted => (Outcome::Relayed { reply }, Word::Well),
            Meaning::Permanent => (bounced(reply), Word::Well),
            Meaning::Transient | Meaning::RelayRefusesUs => {
                (deferred(ground, attempt, Reason::RelayRefused, Some(reply), spent), Word::Well)
            }
            Meaning::Unclear => {
                let trouble = Trouble { stage: Stage::Data, kind: TroubleKind::Refused(reply.code) };
                unknown(ground, attempt, trouble, spent)
            }
        },
        Carried::DataRefused(reply) => match meaning(&reply, Asked::Data) {
            Meaning::Permanent => (bounced(reply), Word::Well),
            Meaning::Accepted | Meaning::Transient | Meaning::RelayRefusesUs | Meaning::Unclear => {
                (deferred(ground, attempt, Reason::RelayRefused, Some(reply), spent), Word::Well)
            }
        },
        // Certainly not sent: the sweep ends it next.
        Carried::TooLate => (late(ground), Word::Well),
        Carried::Lost(trouble) => {
            (deferred(ground, attempt, Reason::ConnectionLost, None, spent), Word::Failed(trouble))
        }
        Carried::Unknown(trouble) => unknown(ground, attempt, trouble, spent),
    }
}

fn unknown(ground: &Ground, attempt: &Attempt, trouble: Trouble, spent: u32) -> (Outcome, Word) {
    let decide_at = next_at(ground, attempt, spent);
    tracing::warn!(delivery.id = %attempt.candidate.id, %trouble, "no clear answer to the final dot: unknown");
    (Outcome::Unknown { reason: Reason::ReplyLost, decide_at }, Word::Failed(trouble))
}

fn late(ground: &Ground) -> Outcome {
    Outcome::Deferred { reason: Reason::DeadlinePassed, reply: None, next_at: ground.clock.now() }
}

fn bounced(reply: Reply) -> Outcome {
    Outcome::Bounced { reason: Reason::RelayRefused, reply: Some(reply) }
}

fn deferred(ground: &Ground, attempt: &Attempt, reason: Reason, reply: Option<Reply>, spent: u32) -> Outcome {
    Outcome::Deferred { reason, reply, next_at: next_at(ground, attempt, spent) }
}

fn next_at(ground: &Ground, attempt: &Attempt, spent: u32) -> Timestamp {
    let table: &[Duration] = ground.retry.get(attempt.candidate.lane);
    let delay = retry::delay_after(table, spent + 1, attempt.random);
    ground.clock.now().checked_add(delay).unwrap_or(Timestamp::MAX)
}

fn end_early(ground: &Ground, attempt: &Attempt, early: Early) -> End {
    match early {
        Early::Outcome(outcome, word) => End::Decided(word, Some(settlement(ground, attempt, None, outcome))),
        Early::GiveBack(why) => End::GivenBack(why),
        Early::NotAnyMore => End::Decided(Word::Nothing, None),
    }
}

/// What must be written down of an outcome.
fn settlement(ground: &Ground, attempt: &Attempt, token: Option<LeaseToken>, outcome: Outcome) -> Settlement {
    log(attempt, &outcome);
    // What ended before the relay heard of it says nothing about the relay.
    let asked = match &outcome {
        Outcome::Held { .. } | Outcome::Suppressed { .. } | Outcome::Bounced { reply: None, .. } => None,
        Outcome::Relayed { .. } | Outcome::Deferred { .. } | Outcome::Bounced { .. } | Outcome::Unknown { .. } => {
            Some(attempt.relay.clone())
        }
    };
    Settlement { id: attempt.candidate.id, token, relay: asked, at: ground.clock.now(), outcome }
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

fn log(attempt: &Attempt, outcome: &Outcome) {
    let id = attempt.candidate.id;
    let relay = &attempt.relay;
    let code = |reply: &Option<Reply>| reply.as_ref().map_or(0, |reply| reply.code);
    match outcome {
        Outcome::Relayed { .. } => tracing::debug!(delivery.id = %id, %relay, "relayed"),
        Outcome::Deferred { reason, reply, .. } => {
            tracing::info!(delivery.id = %id, %relay, reason = reason.as_str(), code = code(reply), "deferred");
        }
        Outcome::Bounced { reason, reply } => {
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
