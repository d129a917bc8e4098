//! `suppressions import`: what becomes of the suppressions of a file.

use anyhow::Context as _;
use serde::Serialize;

use super::super::import::Import;
use super::super::{Context, Done};
use super::ACTOR;
use crate::contacts::rows::Sheet;
use crate::domain::suppression::{Change, NewSuppression};
use crate::store::Store;

#[derive(Debug, Default, Serialize)]
struct Counts {
    added: u64,
    known: u64,
}

pub(super) async fn run(import: &Import, context: &Context, store: &dyn Store) -> Done {
    let keep = async |suppressions: Vec<NewSuppression>, counts: &mut Counts| {
        let kept = store.suppress(&import.tenant, ACTOR, suppressions).await;
        let so_far = counts.added + counts.known;
        for one in
            kept.with_context(|| format!("adding suppressions stopped; {so_far} are kept, say it again to go on"))?
        {
            match one.change {
                Change::Added => counts.added += 1,
                Change::Known => counts.known += 1,
            }
        }
        Ok(())
    };
    let in_words = |Counts { added, known }: &Counts| format!("{added} new, {known} as known");
    import.run(context, Sheet::SUPPRESSIONS, keep, in_words).await
}
