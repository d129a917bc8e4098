//! From what handlebars wrote to what a mail carries: MJML becomes HTML, styles move to where they apply.
//!
//! Both libraries follow elements in elements recursively and have no clock, so what they are given is measured first
//! (`measure`). Neither is given a way to fetch or read anything.

use css_inline::{CSSInliner, InlineError, StylesheetResolver};
use mrml::prelude::parser::ParserOptions;
use mrml::prelude::parser::noop_loader::NoopIncludeLoader;
use mrml::prelude::render::RenderOptions;
use std::sync::Arc;

use super::error::{Fault, Why};
use super::measure;
use super::watch::{self, Sheet};

/// HTML of MJML.
pub(super) fn mjml(text: &str, file: &str, depth_max: usize) -> Result<String, Fault> {
    late(file)?;
    measure::mjml(text, depth_max).map_err(|wrong| Fault { line: wrong.line, ..Fault::said(file, wrong.why) })?;
    let options = ParserOptions { include_loader: Box::new(NoopIncludeLoader) };
    let parsed = mrml::parse_with_options(text, &options).map_err(|error| mjml_fault(&error, file))?;
    late(file)?;
    // No fonts of others: nothing in a mail of ours is loaded unless its author wrote so.
    let options = RenderOptions { fonts: std::collections::HashMap::new(), ..RenderOptions::default() };
    parsed.element.render(&options).map_err(|_| Fault::said(file, "its MJML cannot be rendered"))
}

fn mjml_fault(error: &mrml::prelude::parser::Error, file: &str) -> Fault {
    use mrml::prelude::parser::Error;
    let why = match error {
        Error::UnexpectedElement { .. } => "its MJML has an element where it may not be",
        Error::UnexpectedToken { .. } => "its MJML has something where it may not be",
        Error::MissingAttribute { .. } => "its MJML has an element without an attribute that it needs",
        Error::InvalidAttribute { .. } => "its MJML has an attribute that may not be there",
        Error::EndOfStream { .. } => "its MJML ends before its elements are closed",
        Error::NoRootNode => "its MJML has no <mjml> around it",
        Error::IncludeLoaderError { .. } => "mj-include is not possible here: use a partial",
        Error::InvalidFormat { .. } | Error::SizeLimit { .. } | Error::ParserError { .. } => "its MJML cannot be read",
    };
    Fault::said(file, why)
}

/// The HTML with its styles where they apply. What cannot be inlined (`@media`, `:hover`) stays in its `<style>`.
pub(super) fn inline(html: String, file: &str, depth_max: usize) -> Result<String, Fault> {
    late(file)?;
    measure::html(&html, depth_max).map_err(|wrong| match watch::stopped() {
        Some(_) => Fault { why: Why::Late, ..Fault::said(file, "") },
        None => Fault { line: wrong.line, ..Fault::said(file, wrong.why) },
    })?;
    if !has_style(&html) {
        return Ok(html);
    }
    let inliner = CSSInliner::options()
        .load_remote_stylesheets(false)
        .resolver(Arc::new(Nothing))
        .keep_style_tags(false)
        .keep_at_rules(true)
        .keep_link_tags(true)
        .remove_inlined_selectors(true)
        .build();
    let mut sheet = Sheet::new();
    inliner.inline_to(&html, &mut sheet).map_err(|_| match watch::stopped() {
        Some(watch::Stop::Late) => Fault { why: Why::Late, ..Fault::said(file, "") },
        Some(watch::Stop::Full) => Fault::said(file, "more comes out than templates.output_bytes_max"),
        None => Fault::said(file, "its styles cannot be inlined"),
    })?;
    late(file)?;
    Ok(sheet.into_text())
}

fn late(file: &str) -> Result<(), Fault> {
    watch::look().map_err(|_| Fault { why: Why::Late, ..Fault::said(file, "") })
}

fn has_style(html: &str) -> bool {
    let bytes = html.as_bytes();
    memchr::memchr_iter(b'<', bytes)
        .any(|at| bytes.get(at + 1..at + 6).is_some_and(|name| name.eq_ignore_ascii_case(b"style")))
}

/// Finds no stylesheet anywhere.
struct Nothing;

impl StylesheetResolver for Nothing {
    fn retrieve(&self, _: &str) -> Result<String, InlineError> {
        Err(InlineError::IO(std::io::Error::other("nothing is fetched")))
    }
}
