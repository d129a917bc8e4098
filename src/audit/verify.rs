//! The log read again, held against everything that was kept of it: each place where it does not fit, by name.
//!
//! # What is held against what
//!
//! * Each **leaf** against the hash that was kept of it when it was first covered: a changed one is named, a missing one
//!   too. Its row's columns, by which it is found, against its own bytes.
//! * The kept **hashes** against each checkpoint's root: whoever changes a leaf and its hash must also have the key.
//! * The **checkpoints** of the store, of the folder, and whichever were given: a log that was cut is shorter than one of
//!   them says.
//! * Each **message**'s state against what its leaves say it is. A leaf's message must be there, unless it had ended before
//!   the time until which the log says that rows were purged.
//!
//! After a checkpoint that does not fit, later ones cannot fit either: the first is told, with the last that did, and the
//! leaves between them are where to look.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::keeper::kept_in;
use crate::audit_log::checkpoint::Checkpoint;
use crate::audit_log::note::Verifier;
use crate::audit_log::tiles::{Edge, Tile, TileId};
use crate::audit_log::tree::{Hash, leaf_hash};
use crate::domain::audit::Kind;
use crate::domain::audit::replay::{last_change, status_after};
use crate::domain::ids::MessageId;
use crate::store::{LoggedLeaf, LoggedMessage, Store, StoreError};

/// Leaves, messages or checkpoints that are read at once.
const BATCH: usize = 512;
/// Hashes of leaves in one tile.
const TILE_LEAVES: u64 = 256;
/// Findings told at most; after so many the rest is probably one deed.
const FINDINGS_MAX: usize = 1_000;

/// What was looked at, and what does not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Leaves that were read.
    pub leaves: u64,
    /// How many of them checkpoints that are believed cover.
    pub covered: u64,
    /// Checkpoints that fit.
    pub checkpoints: u64,
    /// Messages whose state was held against the log.
    pub messages: u64,
    /// What does not fit, in the order in which it was found; empty: all is as it was logged.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Whether all is as it was logged.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    /// Notes something that does not fit.
    pub fn find(&mut self, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what.into());
        }
    }
}

/// Verifies a store. `verifiers`: whose checkpoints are believed, the present key first; `folder`: that of `audit.dir`.
/// `told` hears how many leaves and messages were read so far.
pub async fn verify(
    store: &dyn Store,
    verifiers: &[Verifier],
    folder: &Path,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<Verdict, StoreError> {
    let mut verdict = Verdict::default();
    let claims = claims(store, verifiers, folder, &mut verdict).await?;
    let mut gone = Gone::default();
    log(store, &claims, &mut gone, &mut verdict, told).await?;
    gone.judge(store, &mut verdict).await?;
    gone.tell(&mut verdict);
    messages(store, &mut verdict, told).await?;
    Ok(verdict)
}

/// The roots that checkpoints state, by size.
type Claims = BTreeMap<u64, Hash>;

async fn claims(
    store: &dyn Store,
    verifiers: &[Verifier],
    folder: &Path,
    verdict: &mut Verdict,
) -> Result<Claims, StoreError> {
    let mut claims = Claims::new();
    let mut claim = |verdict: &mut Verdict, size: u64, note: &str, place: &str| {
        let opened = verifiers.iter().find_map(|verifier| Checkpoint::open(note, verifier).ok());
        match opened {
            None => {
                verdict
                    .find(format!("{place}: the checkpoint over {size} leaves is signed by no key that is believed"));
            }
            Some(checkpoint) if checkpoint.size != size => {
                verdict
                    .find(format!("{place}: a checkpoint over {} leaves stands as one over {size}", checkpoint.size));
            }
            Some(checkpoint) => {
                let root = *claims.entry(size).or_insert(checkpoint.root);
                if root != checkpoint.root {
                    verdict.find(format!(
                        "{place}: two checkpoints over {size} leaves say different things: the log was forked"
                    ));
                }
            }
        }
    };
    let mut after = 0;
    loop {
        let page = store.checkpoints(after, BATCH).await?;
        let Some(last) = page.last() else { break };
        after = last.size;
        for one in &page {
            claim(verdict, one.size, &one.note, "the store");
        }
    }
    match kept_in(folder) {
        Ok(lines) => {
            for line in lines {
                match line {
                    Ok(line) => claim(verdict, line.size, &line.note, "audit.dir"),
                    Err(place) => verdict.find(format!("{place}: is not a checkpoint")),
                }
            }
        }
        Err(error) => verdict.find(format!("audit.dir: {}: {error}", folder.display())),
    }
    Ok(claims)
}

/// The hashes that were kept, read tile by tile, as far as any were.
struct Kept {
    tile: Tile,
}

impl Kept {
    async fn hash(&mut self, store: &dyn Store, seq: u64) -> Result<Option<Hash>, StoreError> {
        let id = TileId { level: 0, number: seq / TILE_LEAVES };
        if self.tile.id != id {
            let found = store.tiles(vec![id]).await?.pop();
            self.tile = found.unwrap_or(Tile { id, hashes: Vec::new() });
        }
        let place = usize::try_from(seq % TILE_LEAVES).unwrap_or_default();
        Ok(self.tile.hashes.get(place).copied())
    }
}

/// Walks over all leaves, and over the checkpoints on the way.
async fn log(
    store: &dyn Store,
    claims: &Claims,
    gone: &mut Gone,
    verdict: &mut Verdict,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(), StoreError> {
    let signed = claims.keys().next_back().copied().unwrap_or(0);
    let mut kept = Kept { tile: store.tiles(vec![TileId { level: 0, number: 0 }]).await?.pop().unwrap_or(NO_TILE) };
    let mut walk = Walk { claims, edge: Edge::default(), fits: true, last_good: 0 };
    let mut read = Vec::new().into_iter();
    let mut next: Option<LoggedLeaf> = None;
    let mut seq = 0;
    loop {
        if next.is_none() {
            next = read.next();
        }
        if next.is_none() {
            read = store.logged_leaves(seq, BATCH).await?.into_iter();
            told(verdict.leaves);
            gone.judge(store, verdict).await?;
            next = read.next();
        }
        let hash = kept.hash(store, seq).await?;
        match next.take() {
            Some(leaf) if leaf.seq == seq => {
                verdict.leaves += 1;
                look(&leaf, hash, gone, verdict);
                walk.push(hash.unwrap_or_else(|| leaf_hash(&leaf.bytes)), verdict);
            }
            // The next one that there is stands further on, or there is none but there was.
            later if later.is_some() || seq < signed => {
                verdict.find(format!("leaf {seq} is missing"));
                if let Some(hash) = hash {
                    walk.push(hash, verdict);
                } else {
                    walk.fits = false;
                    if later.is_none() {
                        verdict.find(format!("the log ends before leaf {seq}, and {signed} leaves were signed"));
                        return Ok(());
                    }
                    walk.push(Hash::default(), verdict);
                }
                next = later;
            }
            _ => break,
        }
        seq += 1;
    }
    verdict.covered = walk.last_good;
    Ok(())
}

const NO_TILE: Tile = Tile { id: TileId { level: u8::MAX, number: 0 }, hashes: Vec::new() };

/// The tree as it grows, and the checkpoints that it passes.
struct Walk<'c> {
    claims: &'c Claims,
    edge: Edge,
    /// Whether everything fitted until now.
    fits: bool,
    last_good: u64,
}

impl Walk<'_> {
    fn push(&mut self, hash: Hash, verdict: &mut Verdict) {
        self.edge.push(hash);
        // Nobody keeps what grew here.
        _ = self.edge.grown();
        let size = self.edge.size();
        let Some(root) = self.claims.get(&size).filter(|_| self.fits) else { return };
        if self.edge.root() == *root {
            verdict.checkpoints += 1;
            self.last_good = size;
        } else {
            self.fits = false;
            let last = self.last_good;
            verdict.find(format!(
                "the checkpoint over {size} leaves is not that of this log: leaves {last} to {} or their hashes were changed",
                size - 1
            ));
        }
    }
}

/// Messages that are not in the store, and what the log says of such.
#[derive(Default)]
struct Gone {
    /// To be looked at.
    found: Vec<MessageId>,
    /// Those that had ended: when (milliseconds); the latest of them, as the others are rather covered by a purge.
    ended: BTreeSet<(i64, MessageId)>,
    /// Rows of what had ended before this (milliseconds) were purged.
    purged_before: Option<i64>,
}

impl Gone {
    fn heard(&mut self, purged: &Value) {
        let before = purged["endedBefore"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        self.purged_before = self.purged_before.max(before.map(jiff::Timestamp::as_millisecond));
    }

    /// What is purged has ended, as its leaves say.
    async fn judge(&mut self, store: &dyn Store, verdict: &mut Verdict) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.found) {
            let leaves = store.logged_of(id).await?;
            // What is said of it later, as that its recipient unsubscribed, does not make it end later.
            match last_change(leaves.iter().map(Vec::as_slice)) {
                Ok(Some((status, leaf))) => match at_of(&leaf) {
                    Some(at) if !status.is_live() => drop(self.ended.insert((at, id))),
                    _ => verdict.find(format!("{id} is not in the store, and the log says {status}")),
                },
                Ok(None) | Err(_) => verdict.find(format!("{id} is not in the store")),
            }
            if self.ended.len() > FINDINGS_MAX {
                self.ended.pop_first();
            }
        }
        Ok(())
    }

    fn tell(self, verdict: &mut Verdict) {
        for (_, id) in self.ended.iter().filter(|(at, _)| self.purged_before.is_none_or(|before| *at > before)) {
            verdict.find(format!("{id} is not in the store, and was not purged as the log says"));
        }
    }
}

/// The time of a leaf, in milliseconds.
fn at_of(leaf: &Value) -> Option<i64> {
    leaf["at"].as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Holds a leaf against its hash and its row.
fn look(leaf: &LoggedLeaf, hash: Option<Hash>, gone: &mut Gone, verdict: &mut Verdict) {
    let seq = leaf.seq;
    if hash.is_some_and(|hash| hash != leaf_hash(&leaf.bytes)) {
        verdict.find(format!("leaf {seq} is not what was logged"));
        return;
    }
    let Ok(read) = serde_json::from_slice::<Value>(&leaf.bytes) else {
        return verdict.find(format!("leaf {seq} is not JSON"));
    };
    let message = leaf.message.map(|message| message.to_string());
    let fits = read["seq"].as_u64() == Some(seq)
        && read["kind"].as_str() == Some(&leaf.kind)
        && read["tenant"].as_str().unwrap_or_default() == leaf.tenant
        && read["messageId"].as_str() == message.as_deref()
        && at_of(&read) == Some(leaf.at);
    if !fits {
        verdict.find(format!("leaf {seq} says something else than the columns of its row"));
    }
    // Each message begins with one of these.
    let begins = [Kind::Accepted, Kind::Suppressed].iter().any(|kind| kind.as_str() == leaf.kind);
    if begins && !leaf.is_kept {
        gone.found.extend(leaf.message);
    }
    if leaf.kind == Kind::MessagesPurged.as_str() {
        gone.heard(&read);
    }
}

/// Holds the state of each message against its leaves.
async fn messages(
    store: &dyn Store,
    verdict: &mut Verdict,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(), StoreError> {
    let mut after: Option<MessageId> = None;
    loop {
        let page = store.logged_messages(after, BATCH).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        for LoggedMessage { id, status, leaves } in &page {
            verdict.messages += 1;
            match status_after(leaves.iter().map(Vec::as_slice)) {
                Ok(Some(logged)) if logged.as_str() == status => {}
                Ok(Some(logged)) => verdict.find(format!("{id} stands as {status}, and the log says {logged}")),
                Ok(None) => verdict.find(format!("{id} stands as {status}, and the log does not know it")),
                Err(_) => verdict.find(format!("{id} stands as {status}, and its leaves cannot be read")),
            }
        }
        told(verdict.leaves + verdict.messages);
    }
}
