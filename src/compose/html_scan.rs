//! Cuts HTML into tags and text in one pass over the bytes, for the text part of a mail.
//!
//! The rules are those of the HTML standard's tokenizer (section 13.2.5), less what a text part cannot show. It is our
//! own because every mail pays for it: html5ever's tokenizer takes 200 µs for 10 KiB, and quadratic time for a tag with
//! many attributes. html5ever gives the table of entities, and in the tests it is the judge of this one.

use std::borrow::Cow;

use html5ever::data::{C1_REPLACEMENTS, NAMED_ENTITIES};
use memchr::{memchr, memchr2};

/// Longest name of an entity with its semicolon (`CounterClockwiseContourIntegral;`).
const ENTITY_NAME_MAX: usize = 32;
/// What most entities are, so that they need no look into the table.
const COMMON_ENTITIES: [(&str, char); 5] =
    [("nbsp;", '\u{a0}'), ("amp;", '&'), ("eacute;", 'é'), ("lt;", '<'), ("gt;", '>')];

/// A piece of HTML.
#[derive(Debug)]
pub(super) enum Token<'a> {
    Start(Tag<'a>),
    End(Cow<'a, str>),
    /// Characters, entities decoded.
    Text(Cow<'a, str>),
}

/// A start tag with the attributes that matter here.
#[derive(Debug, Default)]
pub(super) struct Tag<'a> {
    /// In lower case.
    pub(super) name: Cow<'a, str>,
    pub(super) self_closing: bool,
    pub(super) href: Option<Cow<'a, str>>,
    pub(super) alt: Option<Cow<'a, str>>,
    pub(super) style: Option<Cow<'a, str>>,
    pub(super) hidden: bool,
}

/// What is left of the HTML.
pub(super) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(html: &'a str) -> Self {
        Self { rest: html.strip_prefix('\u{feff}').unwrap_or(html) }
    }

    /// Leaves out everything up to the end tag `name`, or to the end of the document: the content is no markup.
    pub(super) fn skip_raw(&mut self, name: &str) {
        let mut from = 0;
        while let Some(at) = self.rest[from..].find("</").map(|at| from + at) {
            let after = &self.rest[at + 2..];
            let is_name = after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
            if is_name && after[name.len()..].starts_with(|c: char| is_space(c) || c == '/' || c == '>') {
                self.rest = &self.rest[at..];
                return;
            }
            from = at + 2;
        }
        self.rest = "";
    }

    /// All that is left, as text.
    pub(super) fn take_rest(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    /// Text up to the next thing that begins with `<` and is markup.
    fn text(&mut self) -> &'a str {
        let mut from = 0;
        while let Some(at) = memchr(b'<', &self.rest.as_bytes()[from..]).map(|at| from + at) {
            let next = self.rest.as_bytes().get(at + 1);
            if next.is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'!' | b'?'))
                && self.rest.len() > at + 2 - usize::from(next != Some(&b'/'))
            {
                let text = &self.rest[..at];
                self.rest = &self.rest[at..];
                return text;
            }
            from = at + 1;
        }
        self.take_rest()
    }

    /// Goes behind a comment, doctype or processing instruction.
    fn skip_comment(&mut self) {
        let Some(comment) = self.rest.strip_prefix("<!--") else {
            let end = self.rest.find('>').map_or(self.rest.len(), |at| at + 1);
            self.rest = &self.rest[end..];
            return;
        };
        let empty = [">", "->"].iter().find_map(|end| comment.strip_prefix(end));
        let closes = |at: &usize| comment[..*at].ends_with("--") || comment[..*at].ends_with("--!");
        let end = comment.match_indices('>').map(|(at, _)| at).find(closes).map(|at| &comment[at + 1..]);
        self.rest = empty.or(end).unwrap_or_default();
    }

    /// The tag at `<` or `</`; `None` when the document ends in it.
    fn tag(&mut self, from: usize) -> Option<Tag<'a>> {
        let all = std::mem::take(&mut self.rest);
        let name_end = end_of(all, from, |b| is_space(char::from(b)) || matches!(b, b'/' | b'>'));
        let mut tag = Tag { name: lower(&all[from..name_end]), ..Tag::default() };
        let bytes = all.as_bytes();
        let mut at = name_end;
        loop {
            match bytes.get(at)? {
                b'>' => {
                    self.rest = &all[at + 1..];
                    return Some(tag);
                }
                b'/' => {
                    tag.self_closing = bytes.get(at + 1) == Some(&b'>');
                    at += 1;
                }
                b if is_space(char::from(*b)) => at += 1,
                _ => at = attribute(&mut tag, all, at)?,
            }
        }
    }
}

/// Reads the attribute at `from` and says where it ends; `None` when the document ends in it.
fn attribute<'a>(tag: &mut Tag<'a>, all: &'a str, from: usize) -> Option<usize> {
    let bytes = all.as_bytes();
    let space = |b: u8| is_space(char::from(b));
    // A name may begin with an equals sign.
    let name_end = end_of(all, from + 1, |b| space(b) || matches!(b, b'/' | b'>' | b'='));
    let name = &all[from..name_end];
    let sign = end_of(all, name_end, |b| !space(b));
    let (value, end) = if bytes.get(sign) == Some(&b'=') {
        let start = end_of(all, sign + 1, |b| !space(b));
        if let quote @ (b'"' | b'\'') = *bytes.get(start)? {
            let end = start + 1 + memchr(quote, &bytes[start + 1..])?;
            (&all[start + 1..end], end + 1)
        } else {
            let end = end_of(all, start, |b| space(b) || b == b'>');
            (&all[start..end], end)
        }
    } else {
        ("", sign)
    };
    let wanted = match name.len() {
        3 if name.eq_ignore_ascii_case("alt") => &mut tag.alt,
        4 if name.eq_ignore_ascii_case("href") => &mut tag.href,
        5 if name.eq_ignore_ascii_case("style") => &mut tag.style,
        6 => {
            tag.hidden |= name.eq_ignore_ascii_case("hidden");
            return Some(end);
        }
        _ => return Some(end),
    };
    // Of an attribute that is given twice, the first counts.
    wanted.get_or_insert_with(|| decoded(value, Place::Attribute));
    Some(end)
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        while !self.rest.is_empty() {
            let text = self.text();
            if !text.is_empty() {
                return Some(Token::Text(decoded(text, Place::Text)));
            }
            let bytes = self.rest.as_bytes();
            if bytes[1].is_ascii_alphabetic() {
                return self.tag(1).map(Token::Start);
            }
            if bytes[1] == b'/' && bytes[2].is_ascii_alphabetic() {
                return self.tag(2).map(|tag| Token::End(tag.name));
            }
            self.skip_comment();
        }
        None
    }
}

/// White space between the parts of a tag.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')
}

/// Where, at or after `from`, the first byte stands that `is_end` accepts; the end when there is none.
fn end_of(text: &str, from: usize, is_end: impl Fn(u8) -> bool) -> usize {
    // Ends are ASCII, so this is between two characters; `from` may stand inside of the first.
    text.as_bytes().iter().skip(from).position(|b| is_end(*b)).map_or(text.len(), |at| from + at)
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Where an entity stands: in an attribute, `&copy=1` is no entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Attribute,
}

/// `text` with its entities decoded and without NUL.
fn decoded(text: &str, place: Place) -> Cow<'_, str> {
    let next = |text: &str| memchr2(b'&', 0, text.as_bytes());
    if next(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = next(rest) {
        out.push_str(&rest[..at]);
        let entity = &rest[at..];
        rest = if let Some(after) = entity.strip_prefix('\0') {
            after
        } else if let Some(after) = numbered(entity, &mut out).or_else(|| named(entity, place, &mut out)) {
            after
        } else {
            out.push('&');
            &entity[1..]
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `&#233;` or `&#xe9;`, with or without its semicolon.
fn numbered<'a>(entity: &'a str, out: &mut String) -> Option<&'a str> {
    let digits = entity.strip_prefix("&#")?;
    let (digits, radix) = digits.strip_prefix(['x', 'X']).map_or((digits, 10), |digits| (digits, 16));
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let number = u32::from_str_radix(&digits[..end], radix).unwrap_or(u32::MAX);
    let replaced = number.checked_sub(0x80).and_then(|at| C1_REPLACEMENTS.get(at as usize).copied().flatten());
    let found = replaced.or_else(|| char::from_u32(number).filter(|c| *c != '\0'));
    out.push(found.unwrap_or(char::REPLACEMENT_CHARACTER));
    Some(digits[end..].strip_prefix(';').unwrap_or(&digits[end..]))
}

/// `&eacute;`; some old names need no semicolon, and of these the longest counts.
fn named<'a>(entity: &'a str, place: Place, out: &mut String) -> Option<&'a str> {
    let name = &entity[1..];
    if let Some((common, c)) = COMMON_ENTITIES.iter().find(|(common, _)| name.starts_with(common)) {
        out.push(*c);
        return Some(&name[common.len()..]);
    }
    let letters = name.bytes().take(ENTITY_NAME_MAX).take_while(u8::is_ascii_alphanumeric).count();
    let longest = letters + usize::from(name[letters..].starts_with(';'));
    let (end, (first, second)) = (2..=longest).rev().find_map(|end| {
        // The table also holds the beginnings of names, with nothing behind them.
        NAMED_ENTITIES.get(&name[..end]).filter(|(first, _)| *first != 0).map(|found| (end, *found))
    })?;
    let after = &name[end..];
    let goes_on = after.starts_with(|c: char| c == '=' || c.is_ascii_alphanumeric());
    if place == Place::Attribute && !name[..end].ends_with(';') && goes_on {
        return None;
    }
    out.extend(char::from_u32(first));
    // Most entities are one character.
    if second != 0 {
        out.extend(char::from_u32(second));
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use html5ever::tendril::StrTendril;
    use html5ever::tokenizer as judge;
    use proptest::prelude::*;

    use super::*;

    /// What the judge says, in the words of `ours`.
    struct Judge(RefCell<Vec<String>>);

    impl judge::TokenSink for Judge {
        type Handle = ();

        fn process_token(&self, token: judge::Token, _line: u64) -> judge::TokenSinkResult<()> {
            let mut said = self.0.borrow_mut();
            match token {
                judge::Token::TagToken(tag) if tag.kind == judge::TagKind::EndTag => {
                    said.push(format!("</{}", tag.name));
                }
                judge::Token::TagToken(tag) => {
                    let find =
                        |name: &str| tag.attrs.iter().find(|a| &*a.name.local == name).map(|a| a.value.to_string());
                    let (href, alt, style) = (find("href"), find("alt"), find("style"));
                    let hidden = find("hidden").is_some();
                    said.push(format!("<{} {} {href:?} {alt:?} {style:?} {hidden}", tag.name, tag.self_closing));
                }
                judge::Token::CharacterTokens(text) => add_text(&mut said, &text),
                _ => {}
            }
            judge::TokenSinkResult::Continue
        }
    }

    fn add_text(said: &mut Vec<String>, text: &str) {
        match said.last_mut() {
            Some(last) if last.starts_with('=') => last.push_str(text),
            _ => said.push(format!("={text}")),
        }
    }

    fn judged(html: &str) -> Vec<String> {
        let tokenizer = judge::Tokenizer::new(Judge(RefCell::default()), judge::TokenizerOpts::default());
        let input = judge::BufferQueue::default();
        input.push_back(StrTendril::from_slice(html));
        let _ = tokenizer.feed(&input);
        tokenizer.end();
        tokenizer.sink.0.into_inner()
    }

    fn ours(html: &str) -> Vec<String> {
        let mut said = Vec::new();
        for token in Scanner::new(html) {
            match token {
                Token::Start(Tag { name, self_closing, href, alt, style, hidden }) => {
                    said.push(format!("<{name} {self_closing} {href:?} {alt:?} {style:?} {hidden}"));
                }
                Token::End(name) => said.push(format!("</{name}")),
                Token::Text(text) => add_text(&mut said, &text),
            }
        }
        said
    }

    fn agree(html: &str) -> Result<(), TestCaseError> {
        prop_assert_eq!(ours(html), judged(html), "{}", html);
        Ok(())
    }

    #[test]
    fn a_real_mail_is_cut_as_html5ever_cuts_it() {
        let html = include_str!("../../tests/mime/wallet.html");
        assert_eq!(ours(html), judged(html));
    }

    #[test]
    fn every_entity_is_the_one_html5ever_knows() {
        for name in NAMED_ENTITIES.keys() {
            for html in
                [format!("&{name}"), format!("&{name}x"), format!("<a href='&{name}' alt=&{name}= style=\"&{name}z\">")]
            {
                assert_eq!(ours(&html), judged(&html), "{html}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_comes_is_cut_as_html5ever_cuts_it(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[<>/!?= \"'&;#a-bA-B\u{e9}\n-]{1,8}",
                    "<[a-d]{1,3}( (href|alt|style|hidden|x)(=(\"[^\"\0\r]{0,5}\"|'[^'\0\r]{0,5}'|[a-z&;#0-9]{0,5}))?){0,3} ?/?>",
                    "&(#x?[0-9a-fA-F]{0,7}|[a-zA-Z]{1,6});?",
                    "</[a-d ]{0,3}>?",
                    "<!--[->! a]{0,6}(-->|--!>|-)?",
                    "<![a-z>-]{0,4}",
                ],
                0..10,
            )
        ) {
            agree(&pieces.concat())?;
        }
    }
}
