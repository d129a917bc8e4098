//! Lines of CSV (RFC 4180).

/// Adds a line with these cells.
pub fn line<'c>(cells: impl IntoIterator<Item = &'c str>, text: &mut String) {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        if cell.contains([',', '"', '\r', '\n']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(cell);
        }
    }
    text.push_str("\r\n");
}

/// What a spreadsheet takes for the beginning of a formula.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// A text from outside, so that a spreadsheet shows it and does not run it: with an apostrophe before what would begin a
/// formula, as OWASP advises. For people; what programs read is exact.
#[must_use]
pub fn shown(text: &str) -> String {
    let guard = if text.starts_with(FORMULA) { "'" } else { "" };
    format!("{guard}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_quotes_what_would_break_it() {
        let mut text = String::new();
        line(["a,\"b\"\r\nc", "", "d"], &mut text);
        assert_eq!(text, "\"a,\"\"b\"\"\r\nc\",,d\r\n");
    }

    #[test]
    fn no_text_becomes_a_formula() {
        for (text, safe) in
            [("=1+1", "'=1+1"), ("+x@y.example", "'+x@y.example"), ("\t=1", "'\t=1"), ("a=1", "a=1"), ("", "")]
        {
            assert_eq!(shown(text), safe);
        }
    }
}
