//! Dates, numbers and money as a culture writes them.

use serde_json::Value;

use super::culture::Culture;

pub(super) fn date(
    value: &Value,
    _format: Option<&str>,
    _zone: Option<&str>,
    _culture: &Culture,
) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "wants a date".to_owned())
}

pub(super) fn number(value: &Value, _digits: Option<u64>, _culture: &Culture) -> Result<String, String> {
    Ok(value.to_string())
}

pub(super) fn money(value: &Value, currency: &str, _culture: &Culture) -> Result<String, String> {
    Ok(format!("{value} {currency}"))
}
