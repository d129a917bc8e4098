//! Whose fault a lost connection was: the relay's, or the mail's.
//!
//! A relay that dies takes the mails it was being told with it, and that must cost them nothing. A mail that makes the
//! relay drop its connection must not be tried for ever. From one loss nobody can tell. So a first loss is the relay's
//! fault; a further one of the same mail is the mail's if the relay has answered others since, or, when nobody else asks
//! it anything, if the mail was lost several times and the relay greeted us in between.
//!
//! Either way a mail that was lost does not stand in the way of others: what was lost in its content comes back
//! after the first of its lane's delays, what was lost before that goes behind the others of its domain, and while a relay is in doubt others are
//! tried there first.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::ids::MessageId;

/// Mails remembered at most; what is lost beyond them is spent.
const LOSSES_MAX: usize = 10_000;
/// So many losses of one mail may go by while nobody but a greeting speaks for the relay.
const UNSPENT_MAX: u32 = 3;
/// A mail that is not lost again within this is forgotten.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Mails that were lost and not charged.
#[derive(Debug, Default)]
pub struct Losses(HashMap<MessageId, Loss>);

#[derive(Debug, Clone, Copy)]
struct Loss {
    at: Timestamp,
    count: u32,
}

/// When a relay last spoke.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// It answered a mail.
    pub answered_at: Timestamp,
    /// It greeted us.
    pub greeted_at: Timestamp,
}

/// Whose fault a loss was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The mail is given back, unspent.
    Relays,
    /// The attempt is spent.
    Mails,
}

impl Losses {
    /// A mail was lost at a relay that spoke like this before.
    pub fn judge(&mut self, id: MessageId, heard: Heard, now: Timestamp) -> Fault {
        let before = self.0.get(&id).copied();
        let is_the_mails = match before {
            Some(loss) => heard.answered_at > loss.at || (loss.count >= UNSPENT_MAX && heard.greeted_at > loss.at),
            None => self.0.len() >= LOSSES_MAX,
        };
        if is_the_mails {
            self.0.remove(&id);
            return Fault::Mails;
        }
        let count = before.map_or(0, |loss| loss.count) + 1;
        self.0.insert(id, Loss { at: now, count });
        Fault::Relays
    }

    /// Whether it was lost lately, and not charged.
    pub fn knows(&self, id: MessageId) -> bool {
        self.0.contains_key(&id)
    }

    /// Something else became of the mail.
    pub fn forget(&mut self, id: MessageId) {
        if !self.0.is_empty() {
            self.0.remove(&id);
        }
    }

    /// Forgets what was long ago.
    pub fn tidy(&mut self, now: Timestamp) {
        self.0.retain(|_, loss| now.duration_since(loss.at).unsigned_abs() < REMEMBERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn heard(answered: i64, greeted: i64) -> Heard {
        Heard { answered_at: at(answered), greeted_at: at(greeted) }
    }

    fn mail(number: u128) -> MessageId {
        MessageId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn a_relay_that_dies_again_and_again_costs_a_mail_nothing() {
        let mut losses = Losses::default();
        assert_eq!(losses.judge(mail(1), heard(10, 10), at(10)), Fault::Relays, "others were answered before it");
        assert_eq!(losses.judge(mail(1), heard(10, 12), at(13)), Fault::Relays, "it greets, and dies");
        assert_eq!(losses.judge(mail(2), heard(15, 12), at(16)), Fault::Relays, "another mail's first loss");
    }

    #[test]
    fn a_mail_that_is_lost_again_while_others_are_answered_pays() {
        let mut losses = Losses::default();
        assert_eq!(losses.judge(mail(1), heard(9, 0), at(10)), Fault::Relays);
        assert_eq!(losses.judge(mail(1), heard(11, 0), at(12)), Fault::Mails);
        assert_eq!(losses.judge(mail(1), heard(13, 0), at(50)), Fault::Relays, "and begins anew");
    }

    #[test]
    fn a_mail_alone_at_a_relay_that_greets_well_pays_in_the_end() {
        let mut losses = Losses::default();
        for second in [10, 20, 30] {
            assert_eq!(losses.judge(mail(1), heard(0, second - 1), at(second)), Fault::Relays, "{second}");
        }
        assert_eq!(losses.judge(mail(1), heard(0, 29), at(40)), Fault::Relays, "it did not greet since");
        assert_eq!(losses.judge(mail(1), heard(0, 41), at(42)), Fault::Mails);
    }

    #[test]
    fn what_became_of_a_mail_otherwise_and_what_is_long_ago_is_forgotten() {
        let mut losses = Losses::default();
        losses.judge(mail(1), heard(0, 0), at(10));
        losses.forget(mail(1));
        assert_eq!(losses.judge(mail(1), heard(11, 0), at(12)), Fault::Relays);
        losses.tidy(at(12 + 3_600));
        assert!(losses.0.is_empty());
        for number in 0..10_000 {
            losses.judge(mail(number), heard(0, 0), at(1));
        }
        assert_eq!(losses.judge(mail(20_000), heard(0, 0), at(1)), Fault::Mails, "memory is bounded");
    }
}
