//! The data of a mail, before any template sees it: not too much, not too deep.

use std::io;

use serde_json::Value;

/// What is wrong with data, in words that say nothing of it.
pub(super) fn check(data: &Value, bytes_max: usize, depth_max: usize) -> Result<(), String> {
    if !data.is_object() {
        return Err("is not an object".to_owned());
    }
    if is_deeper(data, depth_max) {
        return Err(format!("nests deeper than {depth_max}: see templates.depth_max"));
    }
    let mut counting = Counting { left: bytes_max };
    serde_json::to_writer(&mut counting, data)
        .map_err(|_| format!("is larger than {bytes_max} bytes: see templates.data_bytes_max"))
}

/// Walks no deeper than asked.
fn is_deeper(value: &Value, than: usize) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) if than == 0 => true,
        Value::Array(values) => values.iter().any(|value| is_deeper(value, than - 1)),
        Value::Object(values) => values.values().any(|value| is_deeper(value, than - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Counts what is written, up to an end.
struct Counting {
    left: usize,
}

impl io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("too much"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
