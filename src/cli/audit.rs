//! `postern audit`: the log of what happened, out of the store, and the proof that it is what was logged.

use std::fs;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::keys::unknown_tenant;
use super::{Context, Done, Failure};
use crate::app::parts;
use crate::audit::verify::{Verdict, verify};
use crate::audit::{Auditor, public_of};
use crate::audit_log::checkpoint::Checkpoint;
use crate::audit_log::growth::{self, Growth};
use crate::audit_log::note::Verifier;
use crate::audit_log::receipt::{ProvenLeaf, Receipt};
use crate::audit_log::tiles::Edge;
use crate::audit_log::tree::leaf_hash;
use crate::config::Config;
use crate::domain::ids::{MessageId, TenantId};
use crate::store::sqlite::Role;
use crate::store::{Leaf, LeafFilter, Store};

/// Leaves that are read at once.
const BATCH: usize = 1_000;

#[derive(clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  postern audit verify                                         hold the store against its log
  postern audit proof msg_0199… --tenant demo > receipt.json   what happened to one mail, provable
  postern audit verify --receipt receipt.json --public-key audit.key.pub
  postern audit export > log.ndjson"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write the leaves as lines of JSON, with what proves them
    #[command(after_help = "\
Examples:
  postern audit export > log.ndjson
  postern audit export --tenant demo --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z

The first line holds the checkpoint. All of the log is proven by it as a whole; leaves that were
chosen have a proof each.")]
    Export {
        /// Only leaves of this tenant
        #[arg(long, value_name = "T")]
        tenant: Option<TenantId>,
        /// Only leaves not before this
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
        /// Only leaves not after this
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
    /// Find every place where the log, its checkpoints and the mails' states do not fit
    #[command(after_help = "\
Examples:
  postern audit verify
  postern audit verify --public-key kept-elsewhere.pub
  postern audit verify --receipt receipt.json --public-key audit.key.pub     needs nothing else
  postern audit verify --export log.ndjson --public-key audit.key.pub        needs nothing else

Exit code 0 if all fits, 1 if anything does not.")]
    Verify {
        /// A file that audit export wrote, in the place of the store
        #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
        export: Option<PathBuf>,
        /// A receipt, in the place of the store
        #[arg(long, value_name = "FILE")]
        receipt: Option<PathBuf>,
        /// What audit consistency wrote, in the place of the store
        #[arg(long, value_name = "FILE", conflicts_with_all = ["receipt", "export"])]
        consistency: Option<PathBuf>,
        /// Whom to believe; without it the key of this configuration. More than one after the key was changed
        #[arg(long, value_name = "FILE")]
        public_key: Vec<PathBuf>,
    },
    /// That nothing was changed since a checkpoint that you kept: the consistency proof to the log as it is now
    #[command(after_help = "\
Examples:
  postern audit consistency kept-elsewhere.txt > grown.json
  postern audit verify --consistency grown.json --public-key audit.key.pub    needs nothing else

A checkpoint: GET /v1/audit/checkpoint, or what audit.push_url was sent.")]
    Consistency {
        /// The checkpoint, as it was signed
        #[arg(value_name = "FILE")]
        old: PathBuf,
        /// Whom to believe; without it the key of this configuration
        #[arg(long, value_name = "FILE")]
        public_key: Vec<PathBuf>,
    },
    /// The public half of the key that signs
    #[command(after_help = "Examples:\n  postern audit public-key > postern.pub")]
    PublicKey,
    /// The receipt of one mail: what happened to it, with the proof
    #[command(after_help = "Examples:\n  postern audit proof msg_01990000000070008000000000000001 --tenant demo")]
    Proof {
        /// The mail
        #[arg(value_name = "ID")]
        id: MessageId,
        /// Whose it is
        #[arg(long, value_name = "T")]
        tenant: TenantId,
    },
}

pub(super) async fn run(context: Context, arguments: Arguments) -> Done {
    match arguments.verb {
        Verb::Verify { receipt: Some(receipt), public_key, .. } => {
            verify_receipt(&context, &receipt, &believed(&context, &public_key)?)
        }
        Verb::Verify { export: Some(export), public_key, .. } => {
            verify_export(&context, &export, &believed(&context, &public_key)?)
        }
        Verb::Verify { consistency: Some(growth), public_key, .. } => {
            verify_growth(&context, &growth, &believed(&context, &public_key)?)
        }
        Verb::Consistency { old, public_key } => {
            let verifiers = believed(&context, &public_key)?;
            let (config, store) = open(&context)?;
            let auditor = auditor(&context, &config, &store)?;
            let grown = growth_since(&auditor, &old, &verifiers).await;
            store.close().await;
            let grown = grown?;
            context
                .output
                .piece(&(serde_json::to_string(&grown)? + "\n"), &(serde_json::to_string_pretty(&grown)? + "\n"));
            Ok(())
        }
        Verb::Verify { export: None, receipt: None, consistency: None, public_key } => {
            let verifiers = believed(&context, &public_key)?;
            let (config, store) = open(&context)?;
            let verdict = verify_store(&*store, &verifiers, &config.audit.dir).await;
            store.close().await;
            tell(&context, &verdict?)
        }
        Verb::PublicKey => {
            let key = public_of(&context.config()?.audit.key_file)?.to_string();
            context.output.answer(&json!({ "publicKey": key }), |_| key.clone())?;
            Ok(())
        }
        Verb::Proof { id, tenant } => {
            let (config, store) = open(&context)?;
            if !config.tenants.contains_key(&tenant) {
                return Err(unknown_tenant(&tenant, &config));
            }
            let receipt = auditor(&context, &config, &store)?.receipt(&tenant, id).await;
            store.close().await;
            let receipt = receipt?.ok_or_else(|| anyhow!("{tenant} has no mail {id}"))?;
            // A receipt is a file for others, whatever the format of answers.
            context
                .output
                .piece(&(serde_json::to_string(&receipt)? + "\n"), &(serde_json::to_string_pretty(&receipt)? + "\n"));
            Ok(())
        }
        Verb::Export { tenant, since, until } => {
            let (config, store) = open(&context)?;
            let auditor = auditor(&context, &config, &store)?;
            let filter = LeafFilter { since, until, limit: BATCH, ..LeafFilter::default() };
            let done = export(&context, &auditor, &*store, tenant, filter).await;
            store.close().await;
            Ok(done?)
        }
    }
}

fn open(context: &Context) -> Result<(Config, Arc<dyn Store>), Failure> {
    let config = context.config()?;
    let store = parts::open_store(&config.store, Role::Command)?;
    Ok((config, store))
}

fn auditor(context: &Context, config: &Config, store: &Arc<dyn Store>) -> anyhow::Result<Auditor> {
    let signer = parts::signer(config)?;
    Ok(Auditor::new(Arc::clone(store), Arc::clone(&context.clock), signer, config.audit.clone()))
}

/// Whom to believe: those of the files, or whoever signs here.
fn believed(context: &Context, files: &[PathBuf]) -> Result<Vec<Verifier>, Failure> {
    if files.is_empty() {
        return Ok(vec![public_of(&context.config()?.audit.key_file)?]);
    }
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Verifier::read(&text).with_context(|| format!("reading {}", path.display()))
    };
    Ok(files.iter().map(read).collect::<anyhow::Result<_>>()?)
}

/// A bar on the terminal, or nothing.
fn progress(leaves: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} leaves, {eta} left");
    ProgressBar::new(leaves).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

// --- verifying ---

async fn verify_store(store: &dyn Store, verifiers: &[Verifier], folder: &Path) -> anyhow::Result<Verdict> {
    // While messages are held against their leaves, after that, the bar stands at its end.
    let leaves = store.log_standing().await.context("reading the log")?.leaves;
    let bar = progress(leaves);
    let verdict = verify(store, verifiers, folder, &mut |read| bar.set_position(read.min(leaves))).await;
    bar.finish_and_clear();
    verdict.context("reading the log")
}

fn tell(context: &Context, verdict: &Verdict) -> Done {
    context.output.answer(verdict, |verdict| {
        let Verdict { leaves, covered, checkpoints, messages, findings } = verdict;
        let read = format!("{leaves} leaves, {covered} of them under {checkpoints} checkpoints, {messages} mails");
        match findings.as_slice() {
            [] => format!("All is as it was logged: {read}."),
            findings => format!("{}\n{} findings in {read}.", findings.join("\n"), findings.len()),
        }
    })?;
    if verdict.is_good() { Ok(()) } else { Err(Failure::Said(1)) }
}

fn verify_receipt(context: &Context, file: &Path, verifiers: &[Verifier]) -> Done {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let receipt: Receipt = serde_json::from_str(&text).with_context(|| format!("{} is no receipt", file.display()))?;
    let mut refused = None;
    for verifier in verifiers {
        match receipt.verify(verifier) {
            Ok((checkpoint, leaves)) => {
                let answer = json!({ "messageId": receipt.message_id, "log": checkpoint.origin, "size": checkpoint.size,
                    "leaves": leaves });
                context.output.answer(&answer, |_| {
                    let lines = leaves.iter().map(|leaf| {
                        let word = |name: &str| leaf[name].as_str().unwrap_or_default().to_owned();
                        format!("  {}  {}", word("at"), word("kind"))
                    });
                    let lines = lines.collect::<Vec<_>>().join("\n");
                    format!("{} in the log {}:\n{lines}", receipt.message_id, checkpoint.origin)
                })?;
                return Ok(());
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or_else(|| anyhow!("no key is believed"), anyhow::Error::from).into())
}

/// The proof that the log grew from the checkpoint in this file; it is held against both before anybody gets it.
async fn growth_since(auditor: &Auditor, file: &Path, verifiers: &[Verifier]) -> anyhow::Result<Growth> {
    let note = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let old = growth::open(&note, verifiers).with_context(|| format!("{}", file.display()))?;
    let shorter = || anyhow!("the log has fewer than the {} leaves that were signed: it was cut", old.size);
    let grown = auditor.growth(&old, note).await?.ok_or_else(shorter)?;
    grown.verify(verifiers)?;
    Ok(grown)
}

fn verify_growth(context: &Context, file: &Path, verifiers: &[Verifier]) -> Done {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let growth: Growth =
        serde_json::from_str(&text).with_context(|| format!("{} is no consistency proof", file.display()))?;
    let (old, new) = growth.verify(verifiers).map_err(anyhow::Error::from)?;
    let answer = json!({ "log": new.origin, "old": old.size, "new": new.size });
    context.output.answer(&answer, |_| {
        format!("The log {} grew from {} to {} leaves, and nothing before was changed.", new.origin, old.size, new.size)
    })?;
    Ok(())
}

// --- exporting ---

/// The first line of an export.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The signed note over what follows.
    checkpoint: String,
    /// Whether all leaves follow that it covers.
    complete: bool,
}

async fn export(
    context: &Context,
    auditor: &Auditor,
    store: &dyn Store,
    tenant: Option<TenantId>,
    mut filter: LeafFilter,
) -> anyhow::Result<()> {
    let checkpoint = auditor.checkpoint().await?.ok_or_else(|| anyhow!("the log is empty"))?;
    let complete = tenant.is_none() && filter.since.is_none() && filter.until.is_none();
    let line = |value: String| {
        let value = value + "\n";
        context.output.piece(&value, &value);
    };
    line(serde_json::to_string(&Head { checkpoint: checkpoint.note.clone(), complete })?);
    let bar = progress(checkpoint.size);
    loop {
        let page = store.list_leaves(tenant.as_ref(), filter.clone()).await?;
        let covered: Vec<Leaf> = page.leaves.into_iter().filter(|leaf| leaf.seq < checkpoint.size).collect();
        let leaves = if complete {
            let unproven =
                |leaf: Leaf| ProvenLeaf::new(leaf.seq, String::from_utf8_lossy(&leaf.bytes).into_owned(), &[]);
            covered.into_iter().map(unproven).collect()
        } else {
            auditor.prove(&checkpoint, covered).await?
        };
        for leaf in leaves {
            line(serde_json::to_string(&leaf)?);
        }
        let Some(next) = page.next.filter(|next| *next < checkpoint.size) else {
            bar.finish_and_clear();
            return Ok(());
        };
        bar.set_position(next);
        filter.from = next;
    }
}

fn verify_export(context: &Context, file: &Path, verifiers: &[Verifier]) -> Done {
    let shown = file.display();
    let opened = fs::File::open(file).with_context(|| format!("reading {shown}"))?;
    let mut lines = BufReader::new(opened).lines();
    let head = lines.next().ok_or_else(|| anyhow!("{shown} is empty"))?.with_context(|| format!("reading {shown}"))?;
    let head: Head = serde_json::from_str(&head).with_context(|| format!("{shown} is no export"))?;
    let checkpoint = verifiers.iter().find_map(|verifier| Checkpoint::open(&head.checkpoint, verifier).ok());
    let checkpoint =
        checkpoint.ok_or_else(|| anyhow!("{shown}: its checkpoint is signed by no key that is believed"))?;
    let mut verdict = Verdict { covered: checkpoint.size, checkpoints: 1, ..Verdict::default() };
    let mut edge = Edge::default();
    for (number, line) in (2_u64..).zip(lines) {
        let line = line.with_context(|| format!("reading {shown}"))?;
        let Ok(leaf) = serde_json::from_str::<ProvenLeaf>(&line) else {
            verdict.find(format!("line {number} is no leaf"));
            continue;
        };
        verdict.leaves += 1;
        if head.complete {
            if leaf.seq != edge.size() {
                verdict.find(format!("line {number}: leaf {} stands where leaf {} is wanted", leaf.seq, edge.size()));
            }
            edge.push(leaf_hash(leaf.leaf.as_bytes()));
            _ = edge.grown();
        } else if !leaf.is_in(&checkpoint) {
            verdict.find(format!("line {number}: leaf {} is not what was logged", leaf.seq));
        }
    }
    if head.complete && (edge.size(), edge.root()) != (checkpoint.size, checkpoint.root) {
        let Checkpoint { size, .. } = checkpoint;
        verdict.find(format!("its {} leaves are not the {size} that were signed", edge.size()));
    }
    tell(context, &verdict)
}
