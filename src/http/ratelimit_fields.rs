//! `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-11 has them: the one place to change when it
//! becomes an RFC.
//!
//! Both are lists of strings with parameters (RFC 9651): in the first `q` is a quota and `w` the seconds in which all of it
//! comes back, in the second `r` is what is left and `t` the seconds until there is more. After a refusal `t` says the
//! same as `Retry-After`. The partition key `pk` is left out: a caller knows which key it uses.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// One quota and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name: letters and hyphens.
    pub name: &'static str,
    /// How many at most,
    pub quota: u32,
    /// within this.
    pub window: Duration,
    /// How many are left.
    pub remaining: u32,
    /// When there is more.
    pub reset: Duration,
}

/// Whole seconds, rounded up: whoever waits as long does not come too early.
pub(super) fn seconds(length: Duration) -> u64 {
    length.as_secs() + u64::from(length.subsec_nanos() > 0)
}

/// The two headers of these quotas; none for none.
pub(super) fn headers(fields: &[Field]) -> Vec<(HeaderName, HeaderValue)> {
    let (mut policy, mut state) = (String::new(), String::new());
    for field in fields {
        let separator = if policy.is_empty() { "" } else { ", " };
        let Field { name, quota, window, remaining, reset } = field;
        // Writing to a string cannot fail.
        _ = write!(policy, "{separator}\"{name}\";q={quota};w={}", seconds(*window).max(1));
        _ = write!(state, "{separator}\"{name}\";r={remaining};t={}", seconds(*reset));
    }
    let named = [(RATELIMIT_POLICY, policy), (RATELIMIT, state)];
    let full = named.into_iter().filter(|(_, text)| !text.is_empty());
    full.filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_written_as_the_draft_has_them() {
        let millis = Duration::from_millis;
        let burst = Field { name: "per-key", quota: 400, window: millis(2_000), remaining: 399, reset: millis(5) };
        let hour =
            Field { name: "per-recipient", quota: 20, window: millis(3_600_000), remaining: 0, reset: millis(7_001) };
        let written: Vec<_> =
            headers(&[burst, hour]).into_iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        let wanted = [
            r#"ratelimit-policy: "\"per-key\";q=400;w=2, \"per-recipient\";q=20;w=3600""#,
            r#"ratelimit: "\"per-key\";r=399;t=1, \"per-recipient\";r=0;t=8""#,
        ];
        assert_eq!(written, wanted);
        assert!(headers(&[]).is_empty());
    }
}
