//! What was measured, as figures: percentiles of all samples, medians over runs, one JSON object or a table.

use serde::{Serialize, Serializer};

use super::super::output;
use super::super::output::table;

/// The value that `per_mille` of the samples do not exceed (nearest rank); 0 without samples. `sorted` is in order.
pub(super) fn percentile(sorted: &[u32], per_mille: usize) -> u32 {
    let rank = (sorted.len() * per_mille).div_ceil(1_000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// One JSON object: what was asked for, the medians of all runs, and each run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) messages: u32,
    /// How long each mail's HTML is; `None`: pass events were sent.
    pub(super) size_bytes: Option<u64>,
    pub(super) connections: u16,
    pub(super) sessions: u16,
    pub(super) relay: String,
    pub(super) file_system: Option<String>,
    #[serde(serialize_with = "to_the_thousandth")]
    pub(super) disk_sync_millis: f64,
    pub(super) cores: Option<usize>,
    pub(super) build: &'static str,
    #[serde(flatten)]
    pub(super) medians: Figures,
    pub(super) refused: u64,
    pub(super) not_relayed: u64,
    pub(super) runs: Vec<Run>,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// Answers that were not 202, and requests without any.
    pub(super) refused: u64,
    /// Accepted mails that did not end relayed in time.
    pub(super) not_relayed: u64,
    /// What our own inbox took.
    pub(super) captured: Option<u64>,
    /// What the load and the inbox took of the machine meanwhile.
    #[serde(serialize_with = "maybe_to_the_thousandth")]
    pub(super) load_cpu_seconds_per_1000: Option<f64>,
    #[serde(serialize_with = "maybe_to_the_thousandth")]
    pub(super) inbox_cpu_seconds_per_1000: Option<f64>,
}

/// What is measured.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    #[serde(serialize_with = "to_the_thousandth")]
    pub(super) accepts_per_second: f64,
    pub(super) accept_millis: AcceptMillis,
    /// `None` when not every mail was relayed.
    #[serde(serialize_with = "maybe_to_the_thousandth")]
    pub(super) end_to_end_per_second: Option<f64>,
    /// The gateway's alone; `None` where there is no `/proc`.
    #[serde(serialize_with = "maybe_to_the_thousandth")]
    pub(super) cpu_seconds_per_1000: Option<f64>,
    pub(super) peak_memory_bytes: Option<u64>,
}

/// From the first byte of a request to the last of its 202.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct AcceptMillis {
    #[serde(serialize_with = "to_the_thousandth")]
    pub(super) p50: f64,
    #[serde(serialize_with = "to_the_thousandth")]
    pub(super) p99: f64,
    #[serde(serialize_with = "to_the_thousandth")]
    pub(super) p999: f64,
    #[serde(serialize_with = "to_the_thousandth")]
    pub(super) max: f64,
}

impl AcceptMillis {
    pub(super) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let millis = |per_mille| f64::from(percentile(&micros, per_mille)) / 1e3;
        Self { p50: millis(500), p99: millis(990), p999: millis(999), max: millis(1_000) }
    }
}

impl Figures {
    /// The median of each figure by itself.
    pub(super) fn medians(runs: &[Run]) -> Self {
        let number = |figure: fn(&Self) -> Option<f64>| {
            median(runs.iter().filter_map(|run| figure(&run.figures)).collect(), f64::midpoint)
        };
        let always = |figure| number(figure).unwrap_or_default();
        Self {
            accepts_per_second: always(|run| Some(run.accepts_per_second)),
            accept_millis: AcceptMillis {
                p50: always(|run| Some(run.accept_millis.p50)),
                p99: always(|run| Some(run.accept_millis.p99)),
                p999: always(|run| Some(run.accept_millis.p999)),
                max: always(|run| Some(run.accept_millis.max)),
            },
            end_to_end_per_second: number(|run| run.end_to_end_per_second),
            cpu_seconds_per_1000: number(|run| run.cpu_seconds_per_1000),
            peak_memory_bytes: median(
                runs.iter().filter_map(|run| run.figures.peak_memory_bytes).collect(),
                u64::midpoint,
            ),
        }
    }

    /// The columns of the table, of which the last two are not figures.
    fn cells(&self, name: String, refused: u64, not_relayed: u64) -> [String; 11] {
        let maybe = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let AcceptMillis { p50, p99, p999, max } = self.accept_millis;
        [
            name,
            format!("{:.0}", self.accepts_per_second),
            format!("{p50:.1}"),
            format!("{p99:.1}"),
            format!("{p999:.1}"),
            format!("{max:.1}"),
            maybe(self.end_to_end_per_second.map(|value| format!("{value:.0}"))),
            maybe(self.cpu_seconds_per_1000.map(|value| format!("{value:.3}"))),
            maybe(self.peak_memory_bytes.map(mebibytes)),
            refused.to_string(),
            not_relayed.to_string(),
        ]
    }
}

/// The middle one, or between the middle two.
fn median<T: Copy + PartialOrd>(mut values: Vec<T>, between: fn(T, T) -> T) -> Option<T> {
    values.sort_unstable_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(between(values[values.len() / 2 - 1], upper)) }
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn to_the_thousandth<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((value * 1e3).round() / 1e3)
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn maybe_to_the_thousandth<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    value.map(|value| (value * 1e3).round() / 1e3).serialize(to)
}

impl Report {
    /// The same for people.
    pub(super) fn for_people(&self) -> String {
        const HEADINGS: [&str; 11] = [
            "RUN",
            "ACCEPTS/S",
            "P50 MS",
            "P99 MS",
            "P99.9 MS",
            "MAX MS",
            "END TO END/S",
            "CPU S/1000",
            "PEAK MIB",
            "REFUSED",
            "NOT RELAYED",
        ];
        let Self { messages, connections, sessions, relay, .. } = self;
        let numbered = self.runs.iter().enumerate();
        let mut rows: Vec<_> =
            numbered.map(|(at, run)| run.figures.cells((at + 1).to_string(), run.refused, run.not_relayed)).collect();
        if rows.len() > 1 {
            rows.push(self.medians.cells("median".to_owned(), self.refused, self.not_relayed));
        }
        let file_system = self.file_system.as_deref().unwrap_or("an unknown file system");
        format!(
            "{messages} {} from {connections} connections; relay: {relay}, {sessions} sessions\n\
             store on {file_system}, where a sync takes {:.1} ms; {} cores; {} build\n\n{}\n\n\
             CPU and memory are the gateway's alone; it shares the machine with the load{}.",
            match self.size_bytes {
                Some(bytes) => format!("mails of {bytes} bytes"),
                None => "pass events".to_owned(),
            },
            self.disk_sync_millis,
            self.cores.map_or_else(|| "?".to_owned(), |cores| cores.to_string()),
            self.build,
            table(HEADINGS, &rows),
            if relay == super::OWN_INBOX { " and the inbox" } else { "" },
        )
    }

    /// Tells on standard error what makes the figures worth less than they look.
    pub(super) fn warn(&self) {
        if matches!(self.file_system.as_deref(), Some("tmpfs" | "ramfs")) {
            output::complain(
                "warning: the store is in memory, where nothing is durable: give --dir a folder on a disk",
            );
        }
        if cfg!(debug_assertions) {
            output::complain("warning: this is a debug build: its figures say nothing about the gateway");
        }
        if self.medians.cpu_seconds_per_1000.is_none() {
            output::complain("warning: without /proc, CPU and memory cannot be measured");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample_by_nearest_rank() {
        let hundred: Vec<u32> = (1..=100).collect();
        for (per_mille, value) in [(500, 50), (990, 99), (991, 100), (999, 100), (1_000, 100), (1, 1), (0, 1)] {
            assert_eq!(percentile(&hundred, per_mille), value, "{per_mille}");
        }
        assert_eq!(percentile(&[7], 500), 7);
        assert_eq!(percentile(&[], 990), 0);
    }

    #[test]
    fn samples_may_come_in_any_order() {
        let shuffled = (0..2_000).map(|number| (number * 7_919) % 2_000 + 1).collect();
        assert_eq!(AcceptMillis::of(shuffled), AcceptMillis { p50: 1.0, p99: 1.98, p999: 1.998, max: 2.0 });
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0], f64::midpoint), Some(2.0));
        assert_eq!(median(vec![4, 1, 3, 9], u64::midpoint), Some(3));
        assert_eq!(median(Vec::new(), u64::midpoint), None);
    }

    #[test]
    fn memory_is_shown_in_mebibytes() {
        assert_eq!(mebibytes((85 << 20) + (1 << 18)), "85.2");
    }
}
