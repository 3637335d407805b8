//! Reading one block of a file: whoever asks for a key makes it known, and what nobody asked for is a finding.

use std::cell::RefCell;
use std::time::Duration;

use super::findings::{At, Findings, Given, Note, Phase, Severity};
use super::forms::{self, Form};
use super::source::Source;
use super::{Product, UseAutoAuthToken};
use crate::hcl::{Item, Key, Object, Span, Value, ValueKind};

/// What the reading of one file needs to know everywhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    /// The source's place in `Sources`.
    pub(super) id: usize,
    pub(super) product: Product,
    /// What an unknown key is.
    pub(super) unknown: Severity,
    pub(super) found: &'a Findings,
}

/// One block as it stands in the file: `listener "tcp" { ... }`, or one object of a JSON list.
#[derive(Clone)]
pub(super) struct Block<'a> {
    pub(super) labels: Vec<Given<String>>,
    pub(super) items: Vec<&'a Item>,
    /// Its head: `listener "tcp"`.
    pub(super) at: At,
    /// Head and body.
    pub(super) whole: At,
}

/// How the objects of a JSON file become blocks.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// `cache`: the members are its keys.
    Plain,
    /// `listener`: `{"tcp": {...}}` says the label as a member; the blocks named here are no labels.
    Labelled(&'static [&'static str]),
}

/// A key that is known but not used: what form it has and what becomes of it.
pub(super) struct Other {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// Nothing is lost without it.
    Silent,
    /// The peers do nothing with it either, or nothing that matters: a warning with the reason.
    Idle(&'static str),
    /// Ignoring it would do something else than was asked for: an error with the advice.
    Refused(&'static str),
}

/// The keys of one block.
pub(super) struct Fields<'a> {
    reader: Reader<'a>,
    /// For messages and the `key` of findings: `auto_auth.method`.
    name: String,
    items: Vec<&'a Item>,
    /// In a method's or sink's `config` the case of a key counts.
    exact: bool,
    /// Unknown keys are errors here at all times.
    strict: bool,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(reader: Reader<'a>, name: impl Into<String>, items: Vec<&'a Item>) -> Self {
        Self {
            reader,
            name: name.into(),
            items,
            exact: false,
            strict: false,
            known: RefCell::default(),
        }
    }

    pub(super) fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    pub(super) fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    pub(super) fn key(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.name)
        }
    }

    pub(super) fn text(&self, name: &'static str) -> Option<Given<String>> {
        self.scalar(name, forms::text)
    }

    pub(super) fn strict_bool(&self, name: &'static str) -> Option<Given<bool>> {
        self.scalar(name, forms::strict_bool)
    }

    pub(super) fn boolish(&self, name: &'static str) -> Option<Given<bool>> {
        self.scalar(name, forms::boolish)
    }

    pub(super) fn auto_auth_use(&self, name: &'static str) -> Option<Given<UseAutoAuthToken>> {
        self.scalar(name, forms::auto_auth_use)
    }

    pub(super) fn int(&self, name: &'static str) -> Option<Given<i64>> {
        self.scalar(name, forms::int)
    }

    pub(super) fn float(&self, name: &'static str) -> Option<Given<f64>> {
        self.scalar(name, forms::float)
    }

    pub(super) fn duration(&self, name: &'static str) -> Option<Given<Duration>> {
        self.scalar(name, forms::duration)
    }

    pub(super) fn size(&self, name: &'static str) -> Option<Given<u64>> {
        self.scalar(name, forms::size)
    }

    pub(super) fn limit(&self, name: &'static str) -> Option<Given<i64>> {
        self.scalar(name, forms::limit)
    }

    pub(super) fn mode(&self, name: &'static str) -> Option<Given<u32>> {
        let mode = self.scalar(name, |value| forms::mode(value, self.reader.source))?;
        let raw = mode
            .at
            .map_or("", |at| at.span.of(&self.reader.source.text));
        if !self.reader.source.is_json() && raw.starts_with(|c| matches!(c, '1'..='9')) {
            let message = format!(
                "{raw} is a decimal number and means the mode 0{0:o}: write \"0{0:o}\"",
                mode.value
            );
            let note = Note::warning(Phase::Load, mode.at, message);
            self.reader.found.add(note.key(self.key(name)));
        }
        Some(mode)
    }

    pub(super) fn list(&self, name: &'static str) -> Option<Vec<Given<String>>> {
        let value = self.value(name)?;
        match forms::list(value) {
            Ok(_) => Some(forms::places(value, self.reader.id)),
            Err(message) => {
                self.wrong(name, value, &message);
                None
            }
        }
    }

    /// Any value, type unchecked.
    pub(super) fn raw(&self, name: &'static str) -> Option<Given<&'a Value>> {
        self.value(name).map(|value| Given {
            value,
            at: Some(self.at(value.span)),
        })
    }

    /// Is the key there at all? The place is its head's.
    pub(super) fn has(&self, name: &'static str) -> Option<At> {
        self.named(name).last().map(|item| self.head(item))
    }

    /// Checks the forms of keys that are not used, and says what becomes of them.
    pub(super) fn others(&self, others: &[Other]) {
        for other in others {
            for item in self.named(other.name) {
                self.other(other, item);
            }
        }
    }

    /// At most one block of this name.
    pub(super) fn block(&self, name: &'static str, shape: Shape) -> Option<Block<'a>> {
        let mut blocks = self.blocks(name, shape).into_iter();
        let first = blocks.next()?;
        for more in blocks {
            let message = format!("only one {name:?} block is allowed here");
            let note = Note::error(Phase::Load, Some(more.at), message)
                .related(Some(first.at), "the first one")
                .key(self.key(name));
            self.reader.found.add(note);
        }
        if matches!(shape, Shape::Plain)
            && let Some(label) = first.labels.first()
        {
            let message = format!(
                "a {name:?} block has no label: {:?} has no effect",
                label.value
            );
            let note = Note::warning(Phase::Load, label.at, message);
            self.reader.found.add(note.key(self.key(name)));
        }
        Some(first)
    }

    pub(super) fn blocks(&self, name: &'static str, shape: Shape) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        for item in self.named(name) {
            let head = self.head(item);
            let labels = item.keys.get(1..).unwrap_or_default();
            let labels: Vec<_> = labels.iter().map(|key| self.given(key)).collect();
            for (object, at) in self.objects(name, &item.value, head) {
                let block = Block {
                    labels: labels.clone(),
                    items: object.items.iter().collect(),
                    at,
                    whole: At {
                        source: at.source,
                        span: Span {
                            start: at.span.start,
                            end: object.span.end.max(at.span.end),
                        },
                    },
                };
                match shape {
                    Shape::Labelled(inner) if block.labels.is_empty() => {
                        blocks.extend(self.labels_inside(block, inner));
                    }
                    Shape::Labelled(_) | Shape::Plain => blocks.push(block),
                }
            }
        }
        blocks
    }

    /// The free-form `config` of a method or sink; several are one.
    pub(super) fn config(&self) -> Self {
        let blocks = self.blocks("config", Shape::Plain);
        let items = blocks.into_iter().flat_map(|block| block.items).collect();
        Self::new(self.reader, self.key("config"), items).exact()
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for item in &self.items {
            let Some(key) = item.keys.first() else {
                continue;
            };
            let known = self.known.borrow();
            if known.iter().any(|name| self.is(name, key)) {
                continue;
            }
            let nearest = nearest(&key.text, &known);
            let block = if self.name.is_empty() {
                "at the top level".to_owned()
            } else {
                format!("in {}", self.name)
            };
            let mut message = format!("unknown key {:?} {block}", key.text);
            if let Some(nearest) = nearest {
                message.push_str(&format!("; did you mean {nearest:?}?"));
                if self.exact && nearest.eq_ignore_ascii_case(&key.text) {
                    message.push_str(" Upper and lower case count here.");
                }
            }
            let severity = if self.strict {
                Severity::Error
            } else {
                self.reader.unknown
            };
            let note = Note::error(Phase::Load, Some(self.at(key.span)), message)
                .severity(severity)
                .suggest(nearest.map(str::to_owned))
                .key(self.key(&key.text));
            self.reader.found.add(note);
        }
    }

    fn other(&self, other: &Other, item: &Item) {
        let (name, found) = (other.name, self.reader.found);
        if let Err(message) = forms::check(other.form, &item.value, self.reader.source) {
            self.wrong(name, &item.value, &message);
        }
        if forms::is_neutral(&item.value) && other.form != Form::Block {
            return;
        }
        let at = Some(self.head(item));
        let key = self.key(name);
        match other.fate {
            Fate::Silent => {}
            Fate::Idle(reason) => {
                let message = format!("{name} has no effect: {reason}");
                found.add(Note::warning(Phase::Build, at, message).key(key));
            }
            Fate::Refused(advice) => {
                let message = format!("this version of Leasehold has no {name}: {advice}");
                found.add(Note::error(Phase::Build, at, message).key(key));
            }
        }
    }

    fn scalar<T>(
        &self,
        name: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<Given<T>> {
        let value = self.value(name)?;
        match read(value) {
            Ok(read) => Some(Given {
                value: read,
                at: Some(self.at(value.span)),
            }),
            Err(message) => {
                self.wrong(name, value, &message);
                None
            }
        }
    }

    /// The last value of that name counts, as in Vault; JSON's null is as good as none.
    fn value(&self, name: &'static str) -> Option<&'a Value> {
        let items = self.named(name);
        let (last, earlier) = items.split_last()?;
        for item in earlier {
            let message = format!("{name} is given again further down, and only that counts");
            let note = Note::warning(Phase::Load, Some(self.head(item)), message)
                .related(Some(self.head(last)), "the one that counts")
                .key(self.key(name));
            self.reader.found.add(note);
        }
        if last.keys.len() > 1 {
            let message = format!("{name} is a value, not a block: write {name} = ...");
            let note = Note::error(Phase::Load, Some(self.head(last)), message);
            self.reader.found.add(note.key(self.key(name)));
            return None;
        }
        (!matches!(last.value.kind, ValueKind::Null)).then_some(&last.value)
    }

    fn named(&self, name: &'static str) -> Vec<&'a Item> {
        self.known.borrow_mut().push(name);
        let items = self.items.iter().copied();
        items
            .filter(|item| item.keys.first().is_some_and(|key| self.is(name, key)))
            .collect()
    }

    fn is(&self, name: &str, key: &Key) -> bool {
        if self.exact {
            key.text == name
        } else {
            key.text.eq_ignore_ascii_case(name)
        }
    }

    /// The objects behind a name: one, or those of a list. Anything else is a finding.
    fn objects(&self, name: &str, value: &'a Value, head: At) -> Vec<(&'a Object, At)> {
        match &value.kind {
            ValueKind::Object(object) => vec![(object, head)],
            ValueKind::List(values) if !values.is_empty() => values
                .iter()
                .flat_map(|value| {
                    let start = value.span.start;
                    let end = (start + 1).min(value.span.end);
                    let brace = self.at(Span { start, end });
                    self.objects(name, value, brace)
                })
                .collect(),
            ValueKind::List(_)
            | ValueKind::Null
            | ValueKind::Bool(_)
            | ValueKind::Int(_)
            | ValueKind::Float(_)
            | ValueKind::String(_) => {
                let message = format!("{name} {}", forms::wanted("a block: { ... }", value));
                let note = Note::error(Phase::Load, Some(head), message);
                self.reader.found.add(note.key(self.key(name)));
                Vec::new()
            }
        }
    }

    /// `"listener": {"tcp": {...}, "unix": {...}}` in a JSON file: each member is a block with a label.
    fn labels_inside(&self, block: Block<'a>, inner: &[&str]) -> Vec<Block<'a>> {
        let is_label = |item: &&Item| {
            let key = item.keys.first();
            is_block(&item.value)
                && key.is_some_and(|key| !inner.iter().any(|name| self.is(name, key)))
        };
        if !self.reader.source.is_json()
            || block.items.is_empty()
            || !block.items.iter().all(is_label)
        {
            return vec![block];
        }
        let mut blocks = Vec::new();
        for item in &block.items {
            let Some(key) = item.keys.first() else {
                continue;
            };
            for (object, _) in self.objects(&key.text, &item.value, self.head(item)) {
                blocks.push(Block {
                    labels: vec![self.given(key)],
                    items: object.items.iter().collect(),
                    at: self.at(key.span),
                    whole: block.whole,
                });
            }
        }
        blocks
    }

    fn wrong(&self, name: &str, value: &Value, message: &str) {
        let at = Some(self.at(value.span));
        let note = Note::error(Phase::Load, at, format!("{name}: {message}"));
        self.reader.found.add(note.key(self.key(name)));
    }

    fn head(&self, item: &Item) -> At {
        let first = item.keys.first().map_or(item.value.span, |key| key.span);
        let last = item.keys.last().map_or(item.value.span, |key| key.span);
        self.at(Span {
            start: first.start,
            end: last.end,
        })
    }

    fn given(&self, key: &Key) -> Given<String> {
        Given {
            value: key.text.clone(),
            at: Some(self.at(key.span)),
        }
    }

    fn at(&self, span: Span) -> At {
        At {
            source: self.reader.id,
            span,
        }
    }
}

/// An object, or a list of nothing but objects.
fn is_block(value: &Value) -> bool {
    let is_object = |value: &Value| matches!(value.kind, ValueKind::Object(_));
    match &value.kind {
        ValueKind::List(values) => !values.is_empty() && values.iter().all(is_object),
        ValueKind::Object(_) => true,
        ValueKind::Null
        | ValueKind::Bool(_)
        | ValueKind::Int(_)
        | ValueKind::Float(_)
        | ValueKind::String(_) => false,
    }
}

/// The known key that a typing error most likely meant.
pub(super) fn nearest<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    if typed.len() > 64 {
        return None;
    }
    let typed = typed.to_ascii_lowercase();
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&typed, name), *name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}
