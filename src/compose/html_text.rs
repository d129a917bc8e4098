//! The text part of a mail whose sender wrote only HTML: what a reader without HTML should see.
//!
//! It works on the stream of tags and builds no tree, so a body with a million nested elements costs neither stack
//! nor memory. What is promised: linear time, every entity decoded, at most one empty line in a row, a link's address
//! behind its words. What is not: columns, fonts, wrapping (the transfer encoding folds long lines).

use memchr::memchr2_iter;

use super::html_scan::{Scanner, Tag, Token};

/// Octets looked at together.
const BLOCK: usize = 16;

/// The readable text of `html`, with LF line ends, without one at the end.
#[must_use]
pub(super) fn html_to_text(html: &str) -> String {
    let mut text = Text { out: String::with_capacity(html.len()), ..Text::default() };
    let mut scanner = Scanner::new(html);
    while let Some(token) = scanner.next() {
        match token {
            Token::Text(characters) => text.characters(&characters),
            Token::End(name) => text.end(&name),
            Token::Start(tag) => match text.start(&tag) {
                Content::Markup => {}
                Content::Raw => scanner.skip_raw(&tag.name),
                Content::Plain => text.characters(scanner.take_rest()),
            },
        }
    }
    text.finish()
}

/// What is inside an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Markup,
    /// Never shown, up to its end tag.
    Raw,
    /// Shown as it is, up to the end of the document.
    Plain,
}

/// The text so far and what stands between it and the next word.
#[derive(Default)]
struct Text {
    out: String,
    /// Line breaks wanted before the next word: 2 is an empty line.
    breaks: u8,
    /// What is wanted before the next word when it stays on the line.
    gap: Gap,
    /// The next word begins a list item.
    bullet: bool,
    /// Open `<pre>` elements: white space counts.
    pre: u32,
    /// Open `<svg>` and `<math>` elements: there a `<style/>` closes itself.
    foreign: u32,
    /// The open link.
    link: Option<Link>,
    /// The element whose content is left out, and how many of its name are open.
    skipped: Option<(Box<str>, u32)>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Gap {
    #[default]
    None,
    Space,
    /// Between the cells of a table.
    Cell,
}

struct Link {
    address: String,
    /// Where its words begin in `out`.
    from: usize,
}

impl Text {
    fn start(&mut self, tag: &Tag<'_>) -> Content {
        let name: &str = &tag.name;
        if self.foreign > 0 && tag.self_closing {
            return Content::Markup;
        }
        let is_raw = is_raw(name);
        if let Some((skipped, open)) = &mut self.skipped {
            if **skipped == *name && !tag.self_closing {
                *open = open.saturating_add(1);
            } else if &**skipped == "p" && breaks_around(name) > 0 {
                // A paragraph ends where the next block begins.
                self.skipped = None;
            }
        }
        if self.skipped.is_none() && !is_void(name) && (is_raw || name == "template" || is_hidden(tag)) {
            self.skipped = Some((name.into(), 1));
        }
        if is_raw {
            return Content::Raw;
        }
        if name == "plaintext" {
            return Content::Plain;
        }
        if self.skipped.is_none() {
            self.open(name, tag);
        }
        Content::Markup
    }

    fn open(&mut self, name: &str, tag: &Tag<'_>) {
        self.want_breaks(breaks_around(name));
        match name {
            "br" => self.breaks = (self.breaks + 1).min(2),
            "hr" => {
                self.word("---");
                self.want_breaks(2);
            }
            "li" => self.bullet = true,
            "td" | "th" => self.gap = Gap::Cell,
            "pre" => self.pre += 1,
            "svg" | "math" => self.foreign += 1,
            "img" => {
                if let Some(words) = &tag.alt {
                    self.characters(words);
                }
            }
            "a" => {
                self.close_link();
                let address = tag.href.as_deref().map(without_breaks);
                self.link = address.map(|address| Link { address, from: self.out.len() });
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if let Some((skipped, open)) = &mut self.skipped {
            if **skipped == *name {
                *open -= 1;
                if *open == 0 {
                    self.skipped = None;
                }
            }
            return;
        }
        match name {
            "a" => self.close_link(),
            "pre" => self.pre = self.pre.saturating_sub(1),
            "svg" | "math" => self.foreign = self.foreign.saturating_sub(1),
            "li" => self.bullet = false,
            // `</br>` is a line break too (HTML section 13.2.6.4.7).
            "br" => self.breaks = (self.breaks + 1).min(2),
            _ => {}
        }
        self.want_breaks(breaks_around(name));
    }

    fn want_breaks(&mut self, breaks: u8) {
        self.breaks = self.breaks.max(breaks);
    }

    fn characters(&mut self, characters: &str) {
        if self.skipped.is_some() {
            return;
        }
        if self.pre > 0 {
            return self.preformatted(characters);
        }
        let mut rest = characters;
        loop {
            let words = rest.trim_start_matches(is_space);
            if words.len() < rest.len() && self.gap == Gap::None {
                self.gap = Gap::Space;
            }
            if words.is_empty() {
                return;
            }
            let (run, after) = words.split_at(run_of_words(words));
            self.word(run);
            rest = after;
        }
    }

    fn preformatted(&mut self, characters: &str) {
        let characters = characters.replace("\r\n", "\n");
        for (index, line) in characters.split(['\n', '\r']).enumerate() {
            if index > 0 {
                self.breaks = (self.breaks + 1).min(2);
            }
            if !line.is_empty() {
                self.word(line);
            }
        }
    }

    fn word(&mut self, word: &str) {
        if self.out.is_empty() {
            self.breaks = 0;
        } else if self.breaks > 0 {
            self.out.truncate(self.out.trim_end_matches(' ').len());
            for _ in 0..self.breaks {
                self.out.push('\n');
            }
        } else {
            self.out.push_str(match self.gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Cell => "  ",
            });
        }
        if std::mem::take(&mut self.bullet) {
            self.out.push_str("- ");
        }
        (self.breaks, self.gap) = (0, Gap::None);
        self.out.push_str(word);
    }

    /// Writes the link's address behind its words, unless they say it already.
    fn close_link(&mut self) {
        let Some(link) = self.link.take() else { return };
        let words = self.out.get(link.from..).unwrap_or_default().trim();
        let Some(shown) = shown_address(&link.address) else { return };
        if words.is_empty() {
            self.word(shown);
        } else if !says(words, shown) {
            let (breaks, gap, bullet) = (self.breaks, self.gap, self.bullet);
            (self.breaks, self.gap, self.bullet) = (0, Gap::Space, false);
            self.word("(");
            self.out.push_str(shown);
            self.out.push(')');
            (self.breaks, self.gap, self.bullet) = (breaks, gap, bullet);
        }
    }

    fn finish(mut self) -> String {
        self.close_link();
        self.out.truncate(self.out.trim_end().len());
        self.out
    }
}

/// White space that collapses; a no-break space is shown as a space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c' | '\u{a0}')
}

/// How long the words at the beginning are that stand with one space between two, as they will be written.
fn run_of_words(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_space_at = |at: usize| match bytes.get(at) {
        None | Some(b' ' | b'\t' | b'\n' | b'\r' | b'\x0c') => true,
        // The no-break space is C2 A0.
        Some(0xc2) => bytes.get(at + 1) == Some(&0xa0),
        Some(_) => false,
    };
    let ends = |at: &usize| is_space_at(*at) && (bytes[*at] != b' ' || is_space_at(*at + 1));
    // Whole blocks in which no run can end, looked at without a way out: so the processor can take all of a block at once.
    let may_be_space = |b: u8| matches!(b, 0..=b' ' | 0xc2);
    let may_end = |b: u8, next: u8| may_be_space(b) & ((b != b' ') | may_be_space(next));
    let mut at = 0;
    while let Some(block) = bytes.get(at..=at + BLOCK)
        && !block.iter().zip(&block[1..]).fold(false, |found, (b, next)| found | may_end(*b, *next))
    {
        at += BLOCK;
    }
    (at..bytes.len()).find(ends).unwrap_or(bytes.len())
}

/// How many line breaks stand before and after an element.
fn breaks_around(name: &str) -> u8 {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "blockquote" | "pre" | "table" | "hr"
        | "figure" | "form" | "fieldset" => 2,
        "div" | "section" | "article" | "header" | "footer" | "main" | "nav" | "aside" | "address" | "center"
        | "li" | "dt" | "dd" | "tr" | "caption" | "figcaption" | "body" | "legend" | "details" | "summary"
        | "option" => 1,
        _ => 0,
    }
}

/// Elements whose content is no markup, and is not shown.
fn is_raw(name: &str) -> bool {
    matches!(name, "script" | "style" | "title" | "textarea" | "noscript" | "xmp" | "iframe" | "noembed" | "noframes")
}

fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Whether the element is hidden by itself, as preheaders are.
fn is_hidden(tag: &Tag<'_>) -> bool {
    let by_style = tag.style.as_deref().filter(|style| names_display(style)).is_some_and(|style| {
        style.split(';').filter_map(|rule| rule.split_once(':')).any(|(property, value)| {
            let value = value.trim();
            property.trim().eq_ignore_ascii_case("display")
                && value.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("none"))
        })
    });
    by_style || tag.hidden
}

/// Whether a style holds the word at all; most do not, which is seen fast by the rarest of its letters.
fn names_display(style: &str) -> bool {
    let ends_at = |at: usize| {
        style.as_bytes()[..at].last_chunk().is_some_and(|word: &[u8; 6]| word.eq_ignore_ascii_case(b"displa"))
    };
    memchr2_iter(b'y', b'Y', style.as_bytes()).any(ends_at)
}

/// An address without the white space that URLs lose (tabs and line breaks; spaces at both ends).
fn without_breaks(address: &str) -> String {
    address.trim().replace(['\t', '\n', '\r'], "")
}

/// The part of a link worth showing; `None` for what leads nowhere outside the mail.
fn shown_address(address: &str) -> Option<&str> {
    let scheme = address.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("javascript" | "data" | "cid" | "about" | "vbscript") => None,
        Some("mailto" | "tel" | "sms") => {
            let bare = address.split_once(':').map_or(address, |(_, bare)| bare);
            Some(bare.split_once('?').map_or(bare, |(bare, _)| bare)).filter(|bare| !bare.is_empty())
        }
        _ if address.is_empty() || address.starts_with('#') => None,
        _ => Some(address),
    }
}

/// Whether words say an address: without scheme, closing slash, case and, for telephone numbers, spaces.
fn says(words: &str, address: &str) -> bool {
    let bare = |text| {
        let text: &str = text;
        let scheme = ["https://", "http://", "mailto:", "tel:"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let bare = scheme.unwrap_or(text).trim_end_matches('/');
        bare.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase())
    };
    bare(words).eq(bare(address))
}

#[cfg(test)]
mod tests;
