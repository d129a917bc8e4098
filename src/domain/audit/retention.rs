//! The leaves of what was kept long enough: how many, never whose.

use jiff::Timestamp;

use super::{Actor, Happening, Kind};
use crate::domain::ids::TenantId;
use crate::domain::time;

/// The leaf of contents that are gone, of `count` mails that had all ended before `ended_before`.
#[must_use]
pub fn contents_purged(at: Timestamp, tenant: &TenantId, count: usize, ended_before: Timestamp) -> Happening {
    purged(at, Kind::ContentPurged, tenant, count, ended_before)
}

/// The leaf of rows that are gone, of `count` mails that had all ended before `ended_before`.
#[must_use]
pub fn messages_purged(at: Timestamp, tenant: &TenantId, count: usize, ended_before: Timestamp) -> Happening {
    purged(at, Kind::MessagesPurged, tenant, count, ended_before)
}

fn purged(at: Timestamp, kind: Kind, tenant: &TenantId, count: usize, ended_before: Timestamp) -> Happening {
    let happening = Happening::new(at, kind, tenant, None, Actor::Gateway);
    happening.with("count", count).with("endedBefore", time::text(ended_before))
}
