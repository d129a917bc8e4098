//! One file becomes a compiled template: looked through for what may not be in one, and made to be watched.
//!
//! Compiling and looking through walk into blocks and expressions recursively, so both happen on a thread with a large
//! stack (`threads`), and a text that obviously nests too deep is not even parsed.

use handlebars::template::{DecoratorTemplate, HelperTemplate, Parameter, TemplateElement};
use handlebars::{Path, Template, TemplateErrorReason};
use serde_json::Value;

use super::verbs;
use super::watch::{TICK, WATCHED};

/// Values in one `{{…}}`, those of inner expressions too: each may be a copy of a piece of the data.
const VALUES_MAX: usize = 64;
/// Brackets in brackets in a text, before it is parsed: the parser would follow them.
const BRACKETS_DEPTH_MAX: usize = 200;

/// A problem of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) line: Option<usize>,
    pub(super) detail: String,
}

/// A compiled template, and what it calls.
pub(super) struct Compiled {
    pub(super) template: Template,
    pub(super) calls: Vec<Call>,
    /// Blocks in blocks.
    pub(super) depth: usize,
    pub(super) inlines: Vec<Inline>,
}

/// A partial that is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) line: Option<usize>,
    /// Blocks around it.
    pub(super) depth: usize,
    /// Whether its block stands in for it when there is no such partial.
    pub(super) has_fallback: bool,
}

/// A partial that is defined where it is used, and what it calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inline {
    pub(super) name: String,
    pub(super) calls: Vec<Call>,
    /// Blocks in blocks, with those around it.
    pub(super) depth: usize,
}

/// Compiles a text under a name.
pub(super) fn compile(name: &str, text: &str, depth_max: usize) -> Result<Compiled, Vec<Flaw>> {
    if let Some(line) = too_deep(text, depth_max) {
        return Err(vec![Flaw { line: Some(line), detail: too_deep_text(depth_max) }]);
    }
    let mut template = Template::compile_with_name(text, name.to_owned()).map_err(|error| {
        let detail = match error.reason() {
            // The parser's drawing of the place repeats the text.
            TemplateErrorReason::InvalidSyntax(_) => match open_block(text) {
                Some((block, line)) => format!("is not handlebars here: {{{{#{block}}}}} of line {line} is open"),
                None => "is not handlebars here".to_owned(),
            },
            reason => reason.to_string(),
        };
        vec![Flaw { line: error.pos().map(|(line, _)| line), detail }]
    })?;
    let mut survey = Survey { depth_max, flaws: Vec::new(), calls: vec![Vec::new()], inlines: Vec::new(), deepest: 0 };
    survey.body(&template, 0);
    let calls = survey.calls.pop().unwrap_or_default();
    if !survey.flaws.is_empty() {
        return Err(survey.flaws);
    }
    Pieces::new().map(|pieces| pieces.watch(&mut template)).ok_or_else(Vec::new)?;
    Ok(Compiled { template, calls, depth: survey.deepest, inlines: survey.inlines })
}

/// The innermost block that nothing closes, and its line; as far as can be told of a text that cannot be parsed.
fn open_block(text: &str) -> Option<(&str, usize)> {
    let mut open = Vec::new();
    for (at, _) in text.match_indices("{{") {
        let inside = text[at + 2..].trim_start_matches(['{', '~']);
        let (mark, rest) = inside.split_at_checked(1)?;
        let name = rest.trim_start_matches(['*', '>', ' ']);
        let name = &name[..name.find([' ', '}', '~', '\n', '\r']).unwrap_or(name.len())];
        match mark {
            "#" => open.push((name, memchr::memchr_iter(b'\n', &text.as_bytes()[..at]).count() + 1)),
            "/" if open.last().is_some_and(|(last, _)| *last == name) => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

fn too_deep_text(depth_max: usize) -> String {
    format!("nests deeper than {depth_max} blocks or expressions: see templates.depth_max")
}

/// The line at which the text nests too deep, as far as can be told without parsing it.
fn too_deep(text: &str, depth_max: usize) -> Option<usize> {
    let (mut blocks, mut brackets, mut line) = (0_usize, 0_usize, 1);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => line += 1,
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b'{' if bytes[at..].starts_with(b"{{#") || bytes[at..].starts_with(b"{{~#") => blocks += 1,
            b'{' if bytes[at..].starts_with(b"{{/") || bytes[at..].starts_with(b"{{~/") => {
                blocks = blocks.saturating_sub(1);
            }
            _ => {}
        }
        if blocks > depth_max || brackets > BRACKETS_DEPTH_MAX {
            return Some(line);
        }
    }
    None
}

struct Survey {
    depth_max: usize,
    flaws: Vec<Flaw>,
    /// Calls of the file itself, then of the inline partials that are being walked through.
    calls: Vec<Vec<Call>>,
    inlines: Vec<Inline>,
    deepest: usize,
}

impl Survey {
    fn say(&mut self, line: Option<usize>, detail: impl Into<String>) {
        let flaw = Flaw { line, detail: detail.into() };
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }

    fn body(&mut self, template: &Template, depth: usize) {
        self.deepest = self.deepest.max(depth);
        for (index, element) in template.elements.iter().enumerate() {
            let line = template.mapping.get(index).map(|mapping| mapping.0);
            if depth > self.depth_max {
                return self.say(line, too_deep_text(self.depth_max));
            }
            match element {
                TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
                TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => {
                    self.helper(helper, line, depth);
                }
                TemplateElement::HelperBlock(helper) => {
                    self.helper(helper, line, depth);
                    for inner in [&helper.template, &helper.inverse].into_iter().flatten() {
                        self.body(inner, depth + 1);
                    }
                }
                TemplateElement::DecoratorExpression(_) => {
                    self.say(line, "decorators ({{*…}}) are not known here");
                }
                TemplateElement::DecoratorBlock(decorator) => self.inline(decorator, line, depth),
                TemplateElement::PartialExpression(partial) | TemplateElement::PartialBlock(partial) => {
                    self.partial(partial, line, depth);
                }
                _ => self.say(line, "is something that is not known here"),
            }
        }
    }

    fn helper(&mut self, helper: &HelperTemplate, line: Option<usize>, depth: usize) {
        let is_plain = !helper.block && helper.params.is_empty() && helper.hash.is_empty();
        match helper.name.as_name() {
            Some(name) if is_plain || verbs::is_known(name) => {}
            Some(name) => self.say(line, format!("there is no helper {name}")),
            None if is_plain => {}
            None => self.say(line, "a helper's name must be written out"),
        }
        let parameters = std::iter::once(&helper.name).chain(&helper.params).chain(helper.hash.values());
        self.parameters(parameters, line, depth);
    }

    fn parameters<'a>(&mut self, parameters: impl Iterator<Item = &'a Parameter>, line: Option<usize>, depth: usize) {
        let mut count = 0;
        let mut open: Vec<(&Parameter, usize)> = parameters.map(|parameter| (parameter, depth)).collect();
        while let Some((parameter, depth)) = open.pop() {
            count += 1;
            if depth > self.depth_max {
                return self.say(line, too_deep_text(self.depth_max));
            }
            let Parameter::Subexpression(inner) = parameter else { continue };
            let TemplateElement::Expression(helper) = inner.as_element() else { continue };
            match helper.name.as_name() {
                Some(name) if verbs::is_known(name) => {}
                Some(name) => self.say(line, format!("there is no helper {name}")),
                None => self.say(line, "a helper's name must be written out"),
            }
            open.extend(helper.params.iter().chain(helper.hash.values()).map(|inner| (inner, depth + 1)));
        }
        if count > VALUES_MAX {
            self.say(line, format!("more than {VALUES_MAX} values in one expression"));
        }
    }

    fn partial(&mut self, partial: &DecoratorTemplate, line: Option<usize>, depth: usize) {
        let parameters = partial.params.iter().chain(partial.hash.values());
        self.parameters(parameters, line, depth);
        match partial.name.as_name() {
            Some("@partial-block") => {}
            Some(name) => {
                let name = name.to_owned();
                let call = Call { name, line, depth, has_fallback: partial.template.is_some() };
                self.calls.last_mut().into_iter().for_each(|calls| calls.push(call.clone()));
            }
            None => self.say(line, "a partial's name must be written out, not come from an expression"),
        }
        if let Some(inner) = &partial.template {
            self.body(inner, depth + 1);
        }
    }

    fn inline(&mut self, decorator: &DecoratorTemplate, line: Option<usize>, depth: usize) {
        if decorator.name.as_name() != Some("inline") {
            return self.say(line, "decorators other than {{#*inline \"name\"}} are not known here");
        }
        let name = match decorator.params.as_slice() {
            [Parameter::Literal(Value::String(name))] => name.clone(),
            _ => return self.say(line, "{{#*inline}} wants one name, in quotes"),
        };
        self.calls.push(Vec::new());
        if let Some(inner) = &decorator.template {
            self.body(inner, depth + 1);
        }
        let calls = self.calls.pop().unwrap_or_default();
        self.inlines.push(Inline { name, calls, depth: self.deepest });
    }
}

/// The elements that watch, to be copied. They are taken from a compiled template because their types have no other
/// maker.
struct Pieces {
    tick: TemplateElement,
    watched: Box<HelperTemplate>,
}

impl Pieces {
    fn new() -> Option<Self> {
        let mut template = Template::compile("{{tick}}{{#watched}}{{/watched}}").ok()?;
        let (block, tick) = (template.elements.pop(), template.elements.pop());
        let (Some(TemplateElement::Expression(mut tick)), Some(TemplateElement::HelperBlock(mut watched))) =
            (tick, block)
        else {
            return None;
        };
        tick.name = Parameter::Name(TICK.to_owned());
        watched.name = Parameter::Name(WATCHED.to_owned());
        watched.template = None;
        Some(Self { tick: TemplateElement::Expression(tick), watched })
    }

    fn watch(&self, template: &mut Template) {
        let elements = std::mem::take(&mut template.elements);
        let mut mapping = std::mem::take(&mut template.mapping).into_iter();
        for mut element in elements {
            let place = mapping.next();
            self.watch_inside(&mut element);
            if !matches!(element, TemplateElement::RawString(_) | TemplateElement::Comment(_)) {
                template.elements.push(self.tick.clone());
                template.mapping.extend(place.clone());
            }
            template.elements.push(element);
            template.mapping.extend(place);
        }
        if template.elements.is_empty() {
            // An empty block in a loop still takes time.
            template.elements.push(self.tick.clone());
        }
    }

    fn watch_inside(&self, element: &mut TemplateElement) {
        match element {
            TemplateElement::HelperBlock(helper) => {
                for inner in [&mut helper.template, &mut helper.inverse].into_iter().flatten() {
                    self.watch(inner);
                }
            }
            TemplateElement::DecoratorBlock(inline) => inline.template.iter_mut().for_each(|inner| self.watch(inner)),
            TemplateElement::PartialBlock(partial) => {
                if let Some(mut inner) = partial.template.take() {
                    self.watch(&mut inner);
                    let mut watched = self.watched.clone();
                    watched.template = Some(inner);
                    let mut outer = Template::default();
                    outer.elements.push(TemplateElement::HelperBlock(watched));
                    partial.template = Some(outer);
                }
            }
            TemplateElement::Expression(value) | TemplateElement::HtmlExpression(value) => mean_the_data(value),
            // They hold nothing inside.
            _ => {}
        }
    }
}

/// `{{date}}` alone is the data's `date`, though there is a helper of that name: every helper wants a value.
fn mean_the_data(value: &mut HelperTemplate) {
    let is_plain = value.params.is_empty() && value.hash.is_empty();
    let Some(name) = value.name.as_name().filter(|name| is_plain && verbs::is_known(name)) else { return };
    if let Ok(path) = Path::parse(&format!("this.{name}")) {
        value.name = Parameter::Path(path);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at once")]
    use super::*;

    fn flaws(text: &str) -> Vec<String> {
        let found = compile("t", text, 8).err().unwrap_or_default();
        found.into_iter().map(|flaw| format!("{}: {}", flaw.line.unwrap_or_default(), flaw.detail)).collect()
    }

    #[test]
    fn every_flaw_of_a_file_is_found_with_its_line() {
        let text = "{{a}}\n{{nope 1}}\n{{> (lookup this \"x\")}}\n{{*deco}}\n{{#*inline x}}{{/inline}}\n{{#if (what a)}}{{/if}}";
        assert_eq!(
            flaws(text),
            [
                "2: there is no helper nope",
                "3: a partial's name must be written out, not come from an expression",
                "4: decorators ({{*…}}) are not known here",
                "5: {{#*inline}} wants one name, in quotes",
                "6: there is no helper what",
            ]
        );
        let open = "a\nb {{#if x}}\n{{#each y}} {{/each}} {{#*inline \"z\"}}{{/inline}}\n c";
        assert_eq!(flaws(open), ["4: is not handlebars here: {{#if}} of line 2 is open"]);
        assert_eq!(flaws("a\n{{x"), ["2: is not handlebars here"]);
    }

    #[test]
    fn calls_are_found_where_they_stand_and_those_of_inline_partials_apart() {
        let text =
            "{{> a}}{{#if x}}{{#> b}}{{> c}}{{/b}}{{/if}}{{#*inline \"d\"}}{{> e}}{{/inline}}{{> @partial-block}}";
        let compiled = compile("t", text, 8).map_err(|flaws| format!("{flaws:?}")).unwrap();
        let of = |calls: &[Call]| calls.iter().map(|call| (call.name.clone(), call.depth)).collect::<Vec<_>>();
        assert_eq!(of(&compiled.calls), [("a".to_owned(), 0), ("b".to_owned(), 1), ("c".to_owned(), 2)]);
        assert_eq!(compiled.inlines[0].name, "d");
        assert_eq!(of(&compiled.inlines[0].calls), [("e".to_owned(), 1)]);
    }
}
