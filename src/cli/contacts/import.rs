//! `contacts import`: what becomes of the contacts of a file.

use anyhow::Context as _;
use serde::Serialize;

use super::super::import::Import;
use super::super::{Context, Done};
use crate::contacts::rows::Sheet;
use crate::domain::audit::Actor;
use crate::domain::contact::{NewContact, Set};
use crate::store::Store;

#[derive(Debug, Default, Serialize)]
struct Counts {
    created: u64,
    changed: u64,
    unchanged: u64,
}

pub(super) async fn run(import: &Import, context: &Context, store: &dyn Store) -> Done {
    let keep = async |contacts: Vec<NewContact>, counts: &mut Counts| {
        let kept = store.set_contacts(&import.tenant, Actor::Command("contacts"), contacts).await;
        let so_far = counts.created + counts.changed + counts.unchanged;
        for set in
            kept.with_context(|| format!("keeping contacts stopped; {so_far} are kept, say it again to go on"))?
        {
            match set {
                Set::Created => counts.created += 1,
                Set::Changed => counts.changed += 1,
                // A file is the brand's own word: nothing stands above it.
                Set::Unchanged | Set::Kept => counts.unchanged += 1,
            }
        }
        Ok(())
    };
    let in_words = |counts: &Counts| {
        let Counts { created, changed, unchanged } = counts;
        format!("{created} new, {changed} changed, {unchanged} as known")
    };
    import.run(context, Sheet::CONTACTS, keep, in_words).await
}
