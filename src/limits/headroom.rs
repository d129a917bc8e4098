//! Whether there is room for more mail: in the queue, and on the disk.
//!
//! Nothing is counted while a mail is accepted. A task counts the live mails now and then and asks how much room the
//! disk has; in between, the mails accepted since its count began are added to what it found. What has left the queue
//! meanwhile is not known until the next count, so the queue may be called full a little early; late only before the
//! first count, in the first second.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::settings::LimitsSettings;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// As many live mails as `limits.queue_max`.
    Queue,
    /// Less room on the disk than `limits.disk_free_min`.
    Disk,
}

/// The room there is.
#[derive(Debug)]
pub struct Headroom {
    queue_max: AtomicI64,
    disk_free_min: AtomicU64,
    /// Mails accepted since the start.
    accepted: AtomicU64,
    /// Live mails when they were last counted, less those accepted until then; far below nothing before the first count.
    counted: AtomicI64,
    disk_is_low: AtomicBool,
}

/// A count that has begun.
#[derive(Debug)]
pub struct Counting {
    accepted: u64,
}

impl Headroom {
    pub(super) fn new(settings: &LimitsSettings) -> Self {
        Self {
            queue_max: AtomicI64::new(signed(settings.queue_max.get())),
            disk_free_min: AtomicU64::new(settings.disk_free_min.0),
            accepted: AtomicU64::new(0),
            counted: AtomicI64::new(i64::MIN),
            disk_is_low: AtomicBool::new(false),
        }
    }

    /// Other settings hold from now on, for the disk from the next look.
    pub(super) fn change(&self, settings: &LimitsSettings) {
        self.queue_max.store(signed(settings.queue_max.get()), Ordering::Relaxed);
        self.disk_free_min.store(settings.disk_free_min.0, Ordering::Relaxed);
    }

    /// What speaks against taking a mail now. The disk first: it harms more.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        if self.disk_is_low.load(Ordering::Relaxed) {
            return Some(Shortage::Disk);
        }
        self.queue_is_full().then_some(Shortage::Queue)
    }

    /// Whether the queue is full.
    #[must_use]
    pub fn queue_is_full(&self) -> bool {
        let accepted = signed(self.accepted.load(Ordering::Relaxed));
        self.counted.load(Ordering::Relaxed).saturating_add(accepted) >= self.queue_max.load(Ordering::Relaxed)
    }

    /// Whether the disk has too little room.
    #[must_use]
    pub fn disk_is_low(&self) -> bool {
        self.disk_is_low.load(Ordering::Relaxed)
    }

    /// A mail was accepted.
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Live mails are going to be counted.
    #[must_use]
    pub fn begin_count(&self) -> Counting {
        Counting { accepted: self.accepted.load(Ordering::Relaxed) }
    }

    /// So many were there.
    pub fn counted(&self, counting: &Counting, live: u64) {
        self.counted.store(signed(live).saturating_sub(signed(counting.accepted)), Ordering::Relaxed);
    }

    /// So many bytes may still be written; `None`: nobody knows, and the disk is trusted until it fails.
    pub fn disk_has(&self, free: Option<u64>) {
        let least = self.disk_free_min.load(Ordering::Relaxed);
        self.disk_is_low.store(free.is_some_and(|free| free < least), Ordering::Relaxed);
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;
    use crate::domain::quantity::ByteSize;
    use std::num::NonZeroU64;

    fn headroom() -> Headroom {
        let queue_max = NonZeroU64::new(10).unwrap();
        Headroom::new(&LimitsSettings { queue_max, disk_free_min: ByteSize(100), ..LimitsSettings::default() })
    }

    #[test]
    fn the_queue_is_full_when_what_was_counted_and_what_came_since_reach_the_limit() {
        let room = headroom();
        room.accepted();
        assert_eq!(room.shortage(), None, "not counted yet");
        let counting = room.begin_count();
        room.accepted();
        room.counted(&counting, 8);
        assert_eq!(room.shortage(), None, "8, and 1 that may or may not be among them");
        room.accepted();
        assert_eq!(room.shortage(), Some(Shortage::Queue));
        room.counted(&room.begin_count(), 9);
        assert_eq!(room.shortage(), None, "one has left");
        room.change(&LimitsSettings { queue_max: NonZeroU64::MIN, ..LimitsSettings::default() });
        assert_eq!(room.shortage(), Some(Shortage::Queue), "a lower limit holds at once");
    }

    #[test]
    fn the_disk_is_low_below_its_limit_and_trusted_when_nobody_knows() {
        let room = headroom();
        for (free, low) in
            [(Some(100), false), (Some(99), true), (None, false), (Some(0), true), (Some(u64::MAX), false)]
        {
            room.disk_has(free);
            assert_eq!(room.disk_is_low(), low, "{free:?}");
        }
        let unbounded = Headroom::new(&LimitsSettings { disk_free_min: ByteSize(0), ..LimitsSettings::default() });
        unbounded.disk_has(Some(0));
        assert_eq!(unbounded.shortage(), None, "no limit, and the disk is left to fail by itself");
    }
}
