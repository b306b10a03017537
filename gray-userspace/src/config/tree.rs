//! YAML text -> a tree of nodes that know where they stand. Must not know what a policy is.
//! Hostile documents end at `limits`: depth, number of nodes, alias bombs.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, StructureStyle, Tag};

use super::{
    limits,
    report::{Draft, Report, Span, quoted},
};

#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    pub span: Span,
    pub kind: Kind<'t>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind<'t> {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar as written: `1.0` stays `1.0`. `plain`: without quotes.
    Text {
        text: Cow<'t, str>,
        plain: bool,
    },
    List(Vec<Node<'t>>),
    /// In document order, keys unique.
    Map(Vec<(Key<'t>, Node<'t>)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key<'t> {
    pub text: Cow<'t, str>,
    pub span: Span,
}

/// A list or map that is not closed yet.
struct Frame<'t> {
    span: Span,
    anchor: usize,
    flow: bool,
    body: Body<'t>,
}

enum Body<'t> {
    List(Vec<Node<'t>>),
    /// `key`: the key that waits for its value; its inside is empty when the key was no text.
    Map {
        pairs: Vec<(Key<'t>, Node<'t>)>,
        key: Option<Option<Key<'t>>>,
    },
}

struct Builder<'t, 'r, 's> {
    file: u32,
    report: &'r mut Report<'s>,
    stack: Vec<Frame<'t>>,
    roots: Vec<Node<'t>>,
    anchors: HashMap<usize, Node<'t>>,
    nodes: usize,
    alias_nodes: usize,
}

/// The file cannot be read any further; the problem is in the report.
struct Stop;

/// The documents of one file. `None`: not readable to its end, the one problem is in the report.
pub(super) fn parse<'t>(file: u32, text: &'t str, report: &mut Report<'_>) -> Option<Vec<Node<'t>>> {
    let mut options = granit_parser::options! {
        // Higher than ours: the parser looks ahead, and our error says more.
        flow_nesting_limit: 2 * limits::TREE_DEPTH,
        block_nesting_limit: 2 * limits::TREE_DEPTH,
        emit_unresolved_aliases: true,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        file,
        report,
        stack: Vec::new(),
        roots: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        alias_nodes: 0,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => {
                let span = place(file, &span);
                if builder.on(event, span).is_err() {
                    return None;
                }
            }
            Err(error) => {
                builder.syntax(text, &error);
                return None;
            }
        }
    }
    Some(builder.roots)
}

fn place(file: u32, span: &granit_parser::Span) -> Span {
    let to_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let bytes = span.byte_range().unwrap_or_default();
    Span {
        file,
        line: to_u32(span.start.line()),
        column: to_u32(span.start.col() + 1),
        start: to_u32(bytes.start),
        end: to_u32(bytes.end),
    }
}

impl<'t> Builder<'t, '_, '_> {
    fn on(&mut self, event: Event<'t>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                let node = Node { span, kind: scalar(text, style) };
                self.done(node, anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.open(span, anchor, style, Body::List(Vec::new()))
            }
            Event::MappingStart(style, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.open(span, anchor, style, Body::Map { pairs: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                let text = format!("nothing above is called {}", quoted(&format!("&{name}")));
                self.stop(Draft::new(span, text).help("text that starts with `*` needs quotes"))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, style: StructureStyle, body: Body<'t>) -> Result<(), Stop> {
        if self.stack.len() >= limits::TREE_DEPTH {
            return self.too_deep(span);
        }
        self.stack.push(Frame { span, anchor, flow: style == StructureStyle::Flow, body });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let Some(Frame { mut span, anchor, flow, body }) = self.stack.pop() else { return Ok(()) };
        if flow {
            span.end = end.end;
        }
        let kind = match body {
            Body::List(items) => Kind::List(items),
            Body::Map { pairs, .. } => {
                // A block map starts at its first key and underlines just that.
                if let (false, Some((key, _))) = (flow, pairs.first()) {
                    span = key.span;
                }
                Kind::Map(self.unique(pairs))
            }
        };
        self.done(Node { span, kind }, anchor)
    }

    /// A finished node goes where it belongs: into its list, its map, or the documents.
    fn done(&mut self, node: Node<'t>, anchor: usize) -> Result<(), Stop> {
        self.nodes += 1;
        if self.nodes > limits::TREE_NODES {
            let text = format!("the file has more than {} values", limits::TREE_NODES);
            return self.stop(Draft::new(node.span, text).help("give long lists with `gray cohort load`"));
        }
        if anchor != 0 {
            let _depth = self.copied(&node, node.span)?;
            let _ = self.anchors.insert(anchor, node.clone());
        }
        self.attach(node);
        Ok(())
    }

    fn attach(&mut self, node: Node<'t>) {
        match self.stack.last_mut().map(|f| &mut f.body) {
            None => self.roots.push(node),
            Some(Body::List(items)) => items.push(node),
            Some(Body::Map { pairs, key }) => match key.take() {
                Some(Some(k)) => pairs.push((k, node)),
                Some(None) => {}
                None => {
                    let Node { span, kind } = node;
                    *key = Some(match kind {
                        Kind::Text { text, .. } => Some(Key { text, span }),
                        Kind::Null => Some(Key { text: Cow::Borrowed("null"), span }),
                        Kind::List(_) | Kind::Map(_) => None,
                    });
                    if matches!(key, Some(None)) {
                        self.report.error(
                            Draft::new(span, "a key is a list or a map")
                                .expected("a name")
                                .help("quote text that starts with `{` or `[`"),
                        );
                    }
                }
            },
        }
    }

    fn unique(&mut self, pairs: Vec<(Key<'t>, Node<'t>)>) -> Vec<(Key<'t>, Node<'t>)> {
        let mut seen: HashMap<Cow<'t, str>, Span> = HashMap::with_capacity(pairs.len());
        let mut out = Vec::with_capacity(pairs.len());
        for (key, node) in pairs {
            match seen.entry(key.text.clone()) {
                Entry::Occupied(first) => self.report.error(
                    Draft::new(key.span, format!("{} is given twice", quoted(&key.text)))
                        .also(*first.get(), "first given here")
                        .help("remove one of them"),
                ),
                Entry::Vacant(free) => {
                    let _ = free.insert(key.span);
                    out.push((key, node));
                }
            }
        }
        out
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return self.stop(Draft::new(span, "an alias stands inside the value that it names"));
        };
        let depth = self.copied(&node, span)?;
        if self.stack.len() + depth > limits::TREE_DEPTH {
            return self.too_deep(span);
        }
        self.done(node, 0)
    }

    /// Counts what anchors and aliases copy; the node's depth.
    fn copied(&mut self, node: &Node<'t>, span: Span) -> Result<usize, Stop> {
        let (nodes, depth) = measure(node);
        self.alias_nodes += nodes;
        if self.alias_nodes > limits::ALIAS_NODES {
            let text = format!("anchors and aliases repeat more than {} values", limits::ALIAS_NODES);
            self.stop(Draft::new(span, text).help("write the values out, or use fewer aliases"))?;
        }
        Ok(depth)
    }

    fn tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema()) {
            let text = format!("the tag {} means nothing here", quoted(&tag.original()));
            self.report.error(Draft::new(span, text).help("remove the tag"));
        }
    }

    fn too_deep(&mut self, span: Span) -> Result<(), Stop> {
        let text = format!("lists and maps are nested deeper than {}", limits::TREE_DEPTH);
        self.stop(Draft::new(span, text).help("a policy needs about 10 levels"))
    }

    fn stop(&mut self, draft: Draft) -> Result<(), Stop> {
        self.report.error(draft);
        self.report.incomplete = true;
        Err(Stop)
    }

    fn syntax(&mut self, text: &str, error: &ScanError) {
        let marker = error.marker();
        let to_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let start = to_u32(marker.byte_offset().unwrap_or(text.len()));
        let span = Span {
            file: self.file,
            line: to_u32(marker.line()),
            column: to_u32(marker.col() + 1),
            start,
            end: start.saturating_add(1),
        };
        if *error.kind() == ErrorKind::RecursionLimitExceeded {
            let _ = self.too_deep(span);
            return;
        }
        let draft = Draft::new(span, format!("this is not YAML: {}", error.info()))
            .help("look at this line and the one above: indentation, a missing `:`, quote or bracket");
        let _ = self.stop(draft);
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Kind<'_> {
    let plain = style == ScalarStyle::Plain;
    if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Kind::Null;
    }
    Kind::Text { text, plain }
}

/// Nodes and depth. Recursion is bounded by `TREE_DEPTH`.
fn measure(node: &Node<'_>) -> (usize, usize) {
    let add = |(n, d): (usize, usize), child: &Node<'_>| {
        let (cn, cd) = measure(child);
        (n + cn, d.max(cd))
    };
    let (nodes, depth) = match &node.kind {
        Kind::Null => return (1, 0),
        // Long text weighs more: an alias may have to copy it.
        Kind::Text { text, .. } => return (1 + text.len() / 64, 0),
        Kind::List(items) => items.iter().fold((0, 0), add),
        Kind::Map(pairs) => pairs.iter().map(|(_, v)| v).fold((0, 0), add),
    };
    (nodes + 1, depth + 1)
}

impl Node<'_> {
    /// What it is, for "`x` is ...".
    pub(super) fn is(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "empty",
            Kind::Text { .. } => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}
