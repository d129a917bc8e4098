//! How deep and how much, before a library that has no limits of its own is given it.
//!
//! Measured with the very parsers those libraries use (htmlparser for mrml, html5ever for css-inline): an element that
//! one of them sees and we do not would be the one that overflows.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use super::watch;
use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::{Attribute, ExpandedName, QualName, local_name, ns};
use htmlparser::{ElementEnd, Token, Tokenizer};

/// Elements times the bytes of their styles: what the inliner would hold.
const STYLING_MAX: usize = 64 << 20;
/// Elements times the bytes of the attributes they may inherit: what MJML would write.
const INHERITED_MAX: usize = 64 << 20;
/// Pictures of carousels: MJML writes rules for each pair.
const CAROUSEL_IMAGES_MAX: usize = 100;
/// Bytes of HTML that are parsed before we look again.
const PIECE: usize = 4 << 10;
/// Brackets in brackets in styles.
const STYLE_DEPTH_MAX: usize = 32;

/// Too much, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooMuch {
    pub(super) line: Option<usize>,
    pub(super) why: String,
}

impl TooMuch {
    fn new(why: impl fmt::Display) -> Self {
        Self { line: None, why: why.to_string() }
    }

    fn too_deep(depth_max: usize) -> Self {
        Self::new(format_args!("its elements nest deeper than {depth_max}: see templates.depth_max"))
    }
}

/// Looks at MJML.
pub(super) fn mjml(text: &str, depth_max: usize) -> Result<(), TooMuch> {
    let (mut depth, mut elements, mut images) = (0_usize, 0_usize, 0_usize);
    let (mut longest, mut own, mut of_head) = (0_usize, 0_usize, 0_usize);
    let mut in_attributes = 0_usize;
    for token in Tokenizer::from(text) {
        let Ok(token) = token else { return Err(TooMuch::new("its MJML cannot be read")) };
        match token {
            Token::ElementStart { local, .. } => {
                (depth, elements, own) = (depth + 1, elements + 1, 0);
                images += usize::from(local.as_str() == "mj-carousel-image");
                if in_attributes > 0 || local.as_str() == "mj-attributes" {
                    in_attributes += 1;
                }
                if depth > depth_max {
                    return Err(TooMuch::too_deep(depth_max));
                }
            }
            Token::Attribute { span, .. } => {
                own += span.as_str().len();
                longest = longest.max(own);
                of_head += if in_attributes > 0 { span.as_str().len() } else { 0 };
            }
            Token::ElementEnd { end: ElementEnd::Close(..) | ElementEnd::Empty, .. } => {
                depth = depth.saturating_sub(1);
                in_attributes = in_attributes.saturating_sub(1);
            }
            _ => {}
        }
    }
    if images > CAROUSEL_IMAGES_MAX {
        return Err(TooMuch::new(format_args!("has more than {CAROUSEL_IMAGES_MAX} pictures in carousels")));
    }
    if elements.saturating_mul(longest + of_head) > INHERITED_MAX {
        return Err(TooMuch::new("has too many elements for attributes so long"));
    }
    Ok(())
}

/// Looks at HTML.
pub(super) fn html(text: &str, depth_max: usize) -> Result<(), TooMuch> {
    let mut parser = html5ever::parse_document(Tree::default(), html5ever::ParseOpts::default());
    // Piece by piece: the parser's own work grows with the square of the depth, and of a tag's attributes.
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE.min(rest.len())));
        rest = after;
        parser.process(StrTendril::from_slice(piece));
        if parser.tokenizer.sink.sink.deepest.get() > depth_max {
            return Err(TooMuch::too_deep(depth_max));
        }
        watch::look().map_err(|_| TooMuch::new("takes too long to be read"))?;
    }
    let tree = parser.finish();
    if tree.depth() > depth_max {
        return Err(TooMuch::too_deep(depth_max));
    }
    let styles = tree.styles.into_inner();
    if tree.nodes.into_inner().len().saturating_mul(styles.len()) > STYLING_MAX {
        return Err(TooMuch::new("has too many elements for styles so long"));
    }
    if style_depth(&styles) > STYLE_DEPTH_MAX {
        return Err(TooMuch::new(format_args!("its styles nest deeper than {STYLE_DEPTH_MAX} brackets")));
    }
    Ok(())
}

/// Brackets in brackets, outside of comments and strings.
fn style_depth(styles: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = styles.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'/' if bytes.peek() == Some(&b'*') => {
                let mut last = 0;
                bytes.next();
                for byte in bytes.by_ref() {
                    if (last, byte) == (b'*', b'/') {
                        break;
                    }
                    last = byte;
                }
            }
            b'\\' => drop(bytes.next()),
            b'"' | b'\'' => {
                // A string ends at its quote, or, broken, at the end of the line.
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => drop(bytes.next()),
                        b'\n' | b'\r' | 0x0c => break,
                        _ if inner == byte => break,
                        _ => {}
                    }
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Which element is in which; nothing else of the document is kept but its styles.
#[derive(Default)]
struct Tree {
    nodes: RefCell<Vec<Place>>,
    styles: RefCell<String>,
    /// As far as is known: what was moved as a whole is not counted again.
    deepest: Cell<usize>,
}

#[derive(Default)]
struct Place {
    parent: Option<usize>,
    /// When it was put here.
    depth: usize,
    /// Some of them may have moved away since: their own parent is what counts.
    children: Vec<usize>,
}

#[derive(Clone)]
struct Node {
    place: usize,
    name: Rc<QualName>,
}

impl Tree {
    fn add(&self, name: QualName) -> Node {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Place::default());
        Node { place: nodes.len() - 1, name: Rc::new(name) }
    }

    fn nothing() -> QualName {
        QualName::new(None, ns!(), local_name!(""))
    }

    fn put(&self, parent: Option<usize>, child: &Node) {
        let mut nodes = self.nodes.borrow_mut();
        nodes[child.place].parent = parent;
        if let Some(parent) = parent {
            nodes[parent].children.push(child.place);
            nodes[child.place].depth = nodes[parent].depth + 1;
            self.deepest.set(self.deepest.get().max(nodes[child.place].depth));
        }
    }

    fn parent(&self, node: &Node) -> Option<usize> {
        self.nodes.borrow()[node.place].parent
    }

    /// Elements in elements.
    fn depth(&self) -> usize {
        let nodes = self.nodes.borrow();
        let mut known: Vec<Option<usize>> = vec![None; nodes.len()];
        let mut deepest = 0;
        for first in 0..nodes.len() {
            let mut way = vec![first];
            let mut depth = loop {
                let last = way[way.len() - 1];
                match (known[last], nodes[last].parent) {
                    (Some(depth), _) => break depth,
                    (None, Some(parent)) if way.len() <= nodes.len() => way.push(parent),
                    (None, _) => break 0,
                }
            };
            if known[way[way.len() - 1]].is_some() {
                way.pop();
            }
            for place in way.into_iter().rev() {
                depth += 1;
                known[place] = Some(depth);
            }
            deepest = deepest.max(depth);
        }
        deepest
    }
}

impl TreeSink for Tree {
    type Handle = Node;
    type Output = Self;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: std::borrow::Cow<'static, str>) {}

    fn get_document(&self) -> Node {
        if self.nodes.borrow().is_empty() {
            return self.add(Self::nothing());
        }
        Node { place: 0, name: Rc::new(Self::nothing()) }
    }

    fn elem_name<'a>(&'a self, target: &'a Node) -> ExpandedName<'a> {
        target.name.expanded()
    }

    fn create_element(&self, name: QualName, _: Vec<Attribute>, _: ElementFlags) -> Node {
        self.add(name)
    }

    fn create_comment(&self, _: StrTendril) -> Node {
        self.add(Self::nothing())
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Node {
        self.add(Self::nothing())
    }

    fn append(&self, parent: &Node, child: NodeOrText<Node>) {
        match child {
            NodeOrText::AppendNode(child) => self.put(Some(parent.place), &child),
            NodeOrText::AppendText(text) if parent.name.local == local_name!("style") => {
                self.styles.borrow_mut().push_str(&text);
            }
            NodeOrText::AppendText(_) => {}
        }
    }

    fn append_based_on_parent_node(&self, element: &Node, previous: &Node, child: NodeOrText<Node>) {
        if self.parent(element).is_some() {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Node) -> Node {
        let contents = self.add(Self::nothing());
        self.put(Some(target.place), &contents);
        contents
    }

    fn same_node(&self, one: &Node, other: &Node) -> bool {
        one.place == other.place
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Node, child: NodeOrText<Node>) {
        if let NodeOrText::AppendNode(child) = child {
            self.put(self.parent(sibling), &child);
        }
    }

    fn add_attrs_if_missing(&self, _: &Node, _: Vec<Attribute>) {}

    fn remove_from_parent(&self, target: &Node) {
        self.nodes.borrow_mut()[target.place].parent = None;
    }

    fn reparent_children(&self, node: &Node, new_parent: &Node) {
        let mut nodes = self.nodes.borrow_mut();
        for child in std::mem::take(&mut nodes[node.place].children) {
            if nodes[child].parent == Some(node.place) {
                nodes[child].parent = Some(new_parent.place);
                nodes[new_parent.place].children.push(child);
            }
        }
    }
}
