//! `[templates]`: where a brand's own templates are, and what one of them may cost.

use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

use crate::domain::quantity::{ByteSize, HumanDuration};

/// The folder that may be missing: nobody asked for it.
pub const DIR_DEFAULT: &str = "templates";

/// `[templates]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, expecting = "a table")]
pub struct TemplateSettings {
    /// The folder laid over the shipped templates, file by file; empty: none.
    pub dir: String,
    /// Files in it.
    pub files_max: NonZeroU32,
    /// The largest of them.
    pub file_bytes_max: ByteSize,
    /// Blocks in blocks, expressions in expressions, partials in partials, elements in elements, data in data.
    pub depth_max: NonZeroU8,
    /// The largest data of one mail, written as JSON.
    pub data_bytes_max: ByteSize,
    /// The largest part of a mail (its HTML, its text) that may come out.
    pub output_bytes_max: ByteSize,
    /// How long rendering one mail may take, in time of a processor; on the clock it is given up after three times that and
    /// half a second.
    pub render_timeout: HumanDuration,
    /// How long a mail waits for a thread that renders.
    pub wait_max: HumanDuration,
    /// Threads that render.
    pub threads: NonZeroU8,
    /// The stack of each; only what is used of it costs memory.
    pub stack: ByteSize,
    /// Mails that wait for a thread, a quarter of them at most of one tenant; further ones wait to be let in.
    pub queue_max: NonZeroU16,
    /// Threads given up because a render did not stop; with so many of them no mail is rendered until one does.
    pub lost_threads_max: NonZeroU8,
}

/// A thread's stack at least, and for each step of depth.
const STACK_MIN: u64 = 16 << 20;
const STACK_PER_DEPTH: u64 = 256 << 10;
/// A thread's stack at most.
const STACK_MAX: u64 = 4 << 30;

impl TemplateSettings {
    /// What is wrong with `stack`: it must hold what `depth_max` allows.
    #[must_use]
    pub fn stack_problem(&self) -> Option<String> {
        let least = STACK_MIN.max(u64::from(self.depth_max.get()) * STACK_PER_DEPTH);
        let fits = (least..=STACK_MAX).contains(&self.stack.0);
        (!fits).then(|| format!("must be {} to 4GiB for templates.depth_max = {}", ByteSize(least), self.depth_max))
    }
}

impl Default for TemplateSettings {
    fn default() -> Self {
        Self {
            dir: DIR_DEFAULT.to_owned(),
            files_max: NonZeroU32::MIN.saturating_add(1_999),
            file_bytes_max: ByteSize(256 << 10),
            depth_max: NonZeroU8::MIN.saturating_add(99),
            data_bytes_max: ByteSize(256 << 10),
            output_bytes_max: ByteSize(1 << 20),
            render_timeout: HumanDuration::from_secs(2),
            wait_max: HumanDuration::from_secs(10),
            threads: NonZeroU8::MIN.saturating_add(1),
            stack: ByteSize(256 << 20),
            queue_max: NonZeroU16::MIN.saturating_add(255),
            lost_threads_max: NonZeroU8::MIN.saturating_add(7),
        }
    }
}
