//! The leaves of brakes: which stream is out of line, what became of it, and what it holds.

use jiff::Timestamp;

use super::{Actor, Happening, Kind, held};
use crate::domain::brake::{Decision, Effect, NewBrake};
use crate::domain::ids::{BrakeId, MessageId, TenantId};
use crate::domain::message::Reason;
use crate::domain::verb::Because;

/// The leaf of a message that a brake holds.
#[must_use]
pub fn held_by_brake(at: Timestamp, tenant: &TenantId, id: MessageId, brake: BrakeId) -> Happening {
    held(at, tenant, id, Reason::Brake).with("brakeId", brake.to_string())
}

/// The leaf of a stream that is out of line.
#[must_use]
pub fn brake_engaged(brake: &NewBrake) -> Happening {
    let NewBrake { id, stream, excess, effect, at } = brake;
    let happening = Happening::new(*at, Kind::BrakeEngaged, &stream.tenant, None, Actor::Gateway)
        .with("brakeId", id.to_string())
        .with("keyId", stream.key.to_string())
        .with("cause", excess.cause.as_str())
        .with("seen", excess.seen)
        .with("allowed", excess.allowed)
        .with("holds", *effect == Effect::Hold);
    match stream.template_named() {
        Some(template) => happening.with("template", template),
        None => happening,
    }
}

/// The leaf of a brake's end.
#[must_use]
pub fn brake_decided(
    at: Timestamp,
    tenant: &TenantId,
    id: BrakeId,
    decision: Decision,
    actor: Actor,
    because: Option<&Because>,
) -> Happening {
    let kind = match decision {
        Decision::Release => Kind::BrakeReleased,
        Decision::Cancel => Kind::BrakeCancelled,
    };
    let happening = Happening::new(at, kind, tenant, None, actor).with("brakeId", id.to_string());
    match because {
        Some(because) => happening.with("because", because.as_str()),
        None => happening,
    }
}
