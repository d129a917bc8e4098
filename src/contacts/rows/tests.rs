//! Files as people make them.
#![expect(clippy::unwrap_used, reason = "a test may stop at once")]
use super::*;
use crate::domain::contact::{NewContact, Origin};
use serde_json::json;

fn now() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

fn rows(text: &[u8], form: Form) -> Result<Vec<Row<NewContact>>, Unreadable> {
    let mut rows = Rows::open(text, form, Sheet::CONTACTS, now())?;
    let mut all = Vec::new();
    while let Some(row) = rows.next_row()? {
        all.push(row);
    }
    Ok(all)
}

fn csv(text: &str) -> Vec<Row<NewContact>> {
    rows(text.as_bytes(), Form::Csv(b',')).unwrap()
}

/// Line, field and reason of everything that is wrong.
fn wrong(rows: &[Row<NewContact>]) -> Vec<String> {
    let of = |row: &Row<NewContact>| {
        let errors = row.said.as_ref().err().cloned().unwrap_or_default();
        errors.iter().map(|error| format!("{}{}: {}", row.line, error.pointer, error.detail)).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of).collect()
}

#[test]
fn a_csv_file_is_read_whatever_its_line_ends_its_mark_and_the_case_of_its_header() {
    let text = "\u{feff}Customer_ID,EMAIL,Name,consent.News,CONSENT.News.At,Fields.Tier,culture\r\n\
                C1,ann@customer.example,\"Ann\"\"s, \",yes,2026-01-01T00:00:00Z,gold,fr_ca\r\n\
                \r\n\
                C2,bob@customer.example,,,,,\r\n\
                C3,\"cid@customer.example\"";
    let rows = csv(text);
    assert_eq!(wrong(&rows), Vec::<String>::new());
    let contacts: Vec<&NewContact> = rows.iter().map(|row| row.said.as_ref().unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4, 5]);
    assert_eq!((contacts[0].name.as_deref(), contacts[0].origin), (Some("Ann\"s,"), Origin::Import));
    assert!(contacts[0].consent["News"].granted && contacts[0].consent["News"].at.is_some());
    assert_eq!(json!(contacts[0].fields), json!({"Tier": "gold"}));
    assert_eq!((contacts[1].name.as_ref(), contacts[1].consent.len()), (None, 0));
    assert_eq!(contacts[2].email.as_str(), "cid@customer.example");
    let other = b"customerid;email\nC1;ann@customer.example\n";
    assert!(super::tests::rows(other, Form::Csv(b';')).unwrap()[0].said.is_ok());
}

#[test]
fn a_row_that_is_wrong_is_told_by_the_line_it_begins_in_and_keeps_no_other_back() {
    let text = "customerId,email,consent.news,fields.note\n\
                C1,ann@customer.example,true,\"two\nlines\"\n\
                ,zq,perhaps,\n\
                C2,zq,true,\n\
                C3,cid@customer.example,true,x,y\n\
                C4,dan@customer.example,true,x\n";
    let rows = csv(text);
    assert_eq!(
        wrong(&rows),
        [
            "4/consent/news/granted: must be true or false (yes, no, 1, 0)",
            "5/email: not an address of the form a@b or Name <a@b>",
            "6: 5 fields, but 4 columns",
        ]
    );
    assert_eq!(rows.iter().filter(|row| row.said.is_ok()).count(), 2);
    assert_eq!(json!(rows[0].said.as_ref().unwrap().fields), json!({"note": "two\nlines"}));
    let bytes = [b"customerId,email,name\nC1,ann@customer.example,\xff\n".as_slice()].concat();
    let latin = super::tests::rows(&bytes, Form::Csv(b',')).unwrap();
    assert_eq!(wrong(&latin), ["2/name: not UTF-8"]);
}

#[test]
fn a_header_that_is_not_one_is_refused_without_repeating_it() {
    for (text, told) in [
        ("customerId,email,zq\n", "line 1: column 3 is not known"),
        ("zq@customer.example,Zq\n", "line 1: column 1 is not known"),
        ("customerId,email,Email\n", "line 1: column 3 is there twice"),
        ("customerId,name\n", "line 1: there is no column email"),
        ("", "line 1: there is no column customerId"),
        ("customerId,email,fields.\n", "line 1: column 3 is not known"),
    ] {
        let error = rows(text.as_bytes(), Form::Csv(b',')).unwrap_err().to_string();
        assert!(error.starts_with(told) && !error.to_lowercase().contains("zq"), "{text:?}: {error}");
    }
}

#[test]
fn lines_of_json_are_read_as_the_door_reads_them() {
    let text = "\u{feff}{\"customerId\":\"C1\",\"email\":\"ann@customer.example\",\"consent\":{\"news\":{\"granted\":true}}}\r\n\
                \n\
                {\"customerId\":17,\"email\":\"bob@customer.example\"}\n\
                [1]\n\
                {\"email\":\"zq\",\"colour\":\"zq\"}";
    let rows = rows(text.as_bytes(), Form::Ndjson).unwrap();
    assert_eq!(rows[1].said.as_ref().unwrap().customer.as_str(), "17");
    assert_eq!(
        wrong(&rows),
        [
            "4: not a JSON object in UTF-8",
            "5/customerId: required",
            "5/colour: unknown; a contact has email, name, culture, timezone, consent and fields",
            "5/email: not an address of the form a@b or Name <a@b>",
        ]
    );
}

#[test]
fn a_number_that_would_become_another_and_a_key_that_stands_twice_are_refused() {
    let row = |rest: &str| format!("{{\"email\":\"ann@customer.example\",{rest}}}\n");
    let text = [
        "\"customerId\":18446744073709551615",
        "\"customerId\":18446744073709551616",
        "\"customerId\":1e3",
        "\"customerId\":\"C1\",\"customerId\":\"C2\"",
        "\"customerId\":\"C1\",\"fields\":{\"a\":[{\"b\":1,\"b\":1}]}",
        "\"customerId\":\"C1\",\"fields\":{\"a\":\"a key\"}",
    ];
    let rows = rows(text.map(row).concat().as_bytes(), Form::Ndjson).unwrap();
    assert_eq!(rows[0].said.as_ref().unwrap().customer.as_str(), "18446744073709551615");
    assert!(rows[5].said.is_ok());
    assert_eq!(
        wrong(&rows),
        [
            "2/customerId: is a number that cannot be kept as it is: write it as text",
            "3/customerId: is a number that cannot be kept as it is: write it as text",
            "4: a key stands there twice",
            "5: a key stands there twice",
        ]
    );
}

#[test]
fn a_quote_that_is_never_closed_is_told_by_the_line_its_row_begins_in_and_nothing_of_it_is_read() {
    let head = "customerId,email,name\n";
    for (rest, line) in [
        ("C1,\"ann@customer.example,Ann\nC2,bob@customer.example,Bob\n", 2),
        ("C1,\"ann@customer.example,Ann\nC2,bob@customer.example,Bob", 2),
        ("C1,ann@customer.example,Ann\n\n\"C2,bob@customer.example,Bob\r\nC3,c@customer.example,\r\n", 4),
        ("C1,ann@customer.example,\"", 2),
        ("C1,ann@customer.example,\"\n\0\n", 2),
    ] {
        let error = rows(format!("{head}{rest}").as_bytes(), Form::Csv(b',')).unwrap_err().to_string();
        let told = format!("line {line}: a quote that is opened in this row is never closed");
        assert!(error.starts_with(&told), "{rest:?}: {error}");
    }
    // Closed at the very end, by quotes that look as if they were not, or by a quote that opens nothing.
    for rest in
        ["C1,ann@customer.example,\"a\nb\n\"", "C1,ann@customer.example,\"a\n\0\n\"\n", "C1,ann@customer.example,a\"b"]
    {
        let rows = csv(&format!("{head}{rest}"));
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2], "{rest:?}");
    }
}

#[test]
fn a_row_without_an_end_does_not_fill_the_memory() {
    let endless = |start: &'static [u8]| {
        let file = start.chain(io::repeat(b'x'));
        let form = if start.starts_with(b"{") { Form::Ndjson } else { Form::Csv(b',') };
        let mut rows = Rows::open(file, form, Sheet::CONTACTS, now()).unwrap();
        rows.next_row().unwrap_err().to_string()
    };
    assert!(endless(b"customerId,email\nC1,\"").starts_with("line 2: a row is longer than"));
    assert!(endless(b"{\"a\":\"").starts_with("line 1: a row is longer than"));
}
