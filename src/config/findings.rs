//! What is wrong with a configuration, and where: collected while it is read, reported all at once.

use std::cell::RefCell;

use serde::Serialize;

use super::excerpt::Excerpt;
use super::mask::mask_message;
use super::source::Sources;
use crate::hcl::Span;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One culprit. Its text form is [`render_text`](super::render_text)'s.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// `None`: it came from the command line or the environment, or is about what is missing.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// The key it is about, with the blocks around it: `vault.address`.
    pub key: Option<String>,
    pub message: String,
    /// The nearest known key.
    pub suggestion: Option<String>,
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

impl Finding {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// Index into [`Sources`].
    pub(super) source: usize,
    pub(super) span: Span,
}

impl At {
    pub(super) fn contains(self, other: Self) -> bool {
        self.source == other.source
            && self.span.start <= other.span.start
            && other.span.end <= self.span.end
    }
}

/// A value somebody gave, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given<T> {
    pub(super) value: T,
    /// `None`: by a flag or the environment.
    pub(super) at: Option<At>,
}

/// In this order a reader wants to hear of it: what Vault would refuse comes before what we have not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// A file cannot be read, or says something impossible by itself.
    Load,
    /// The whole does not make sense.
    Validate,
    /// This version cannot do it, or it has no effect. Blocks that a later file replaced do not count.
    Build,
}

/// A finding before its place is looked up.
#[derive(Debug, Clone)]
pub(super) struct Note {
    severity: Severity,
    phase: Phase,
    at: Option<At>,
    key: Option<String>,
    message: String,
    suggestion: Option<String>,
    related: Option<(At, String)>,
}

impl Note {
    pub(super) fn error(phase: Phase, at: Option<At>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            phase,
            at,
            key: None,
            message: message.into(),
            suggestion: None,
            related: None,
        }
    }

    pub(super) fn warning(phase: Phase, at: Option<At>, message: impl Into<String>) -> Self {
        Self::error(phase, at, message).severity(Severity::Warning)
    }

    pub(super) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(super) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// The other place that has to do with it, and what is there.
    pub(super) fn related(mut self, at: Option<At>, what: impl Into<String>) -> Self {
        self.related = at.map(|at| (at, what.into()));
        self
    }
}

/// Where everybody who reads the configuration leaves what they found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    notes: RefCell<Vec<Note>>,
}

impl Findings {
    pub(super) fn add(&self, note: Note) {
        self.notes.borrow_mut().push(note);
    }

    pub(super) fn error(&self, phase: Phase, at: Option<At>, message: impl Into<String>) {
        self.add(Note::error(phase, at, message));
    }

    pub(super) fn warn(&self, phase: Phase, at: Option<At>, message: impl Into<String>) {
        self.add(Note::warning(phase, at, message));
    }

    /// Errors first, then by phase and place. `replaced` are the blocks that do not take effect.
    pub(super) fn into_list(self, sources: &Sources, replaced: &[At]) -> Vec<Finding> {
        let mut notes = self.notes.into_inner();
        notes.retain(|note| {
            note.phase != Phase::Build
                || !note
                    .at
                    .is_some_and(|at| replaced.iter().any(|block| block.contains(at)))
        });
        notes.sort_by_key(|note| {
            let place = note.at.map(|at| (at.source, at.span.start));
            (note.severity, note.phase, place.is_none(), place)
        });
        notes.dedup_by(|a, b| a.at == b.at && a.message == b.message);
        if notes.len() > MOST {
            let message = format!("and {} findings more", notes.len() - MOST);
            notes.truncate(MOST);
            notes.push(Note::error(Phase::Build, None, message));
        }
        notes
            .into_iter()
            .map(|note| finding(note, sources))
            .collect()
    }
}

/// More than this nobody reads, and looking up the places of a million would take for ever.
const MOST: usize = 500;

fn finding(note: Note, sources: &Sources) -> Finding {
    let excerpt = note
        .at
        .and_then(|at| Excerpt::new(sources, at, note.related));
    let place = note.at.and_then(|at| sources.place(at));
    Finding {
        severity: note.severity,
        file: note.at.and_then(|at| sources.name(at)),
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        key: note.key,
        message: mask_message(&note.message),
        suggestion: note.suggestion,
        excerpt,
    }
}
