//! Findings as a person reads them: `error: file:line:column: message`, the line, a caret.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::findings::{At, Finding, Severity};
use super::mask::mask;
use super::source::Sources;

/// All findings, one after the other, each ending in a newline.
pub fn render_text(findings: &[Finding]) -> String {
    findings.iter().map(render).collect()
}

/// The line a finding is about, cut out, so that a finding lives without its file.
#[derive(Debug, Clone)]
pub(super) struct Excerpt {
    line: Line,
    other: Option<(String, Line, String)>,
}

#[derive(Debug, Clone)]
struct Line {
    number: usize,
    text: String,
    /// Bytes of `text` under the caret.
    start: usize,
    end: usize,
}

impl Excerpt {
    pub(super) fn new(sources: &Sources, at: At, related: Option<(At, String)>) -> Option<Self> {
        let other = related.and_then(|(at, what)| {
            let name = sources.name(at)?;
            Some((name, Line::new(sources, at)?, what))
        });
        Some(Self {
            line: Line::new(sources, at)?,
            other,
        })
    }
}

impl Line {
    fn new(sources: &Sources, at: At) -> Option<Self> {
        let whole = sources.text(at)?;
        let start = floor(whole, at.span.start);
        let begin = whole.get(..start)?.rfind('\n').map_or(0, |i| i + 1);
        let length = whole.get(begin..)?.find('\n');
        let end = length.map_or(whole.len(), |length| begin + length);
        let text = whole.get(begin..end)?.trim_end_matches('\r');
        let from = (start - begin).min(text.len());
        let to = floor(whole, at.span.end).saturating_sub(begin);
        let (number, _) = sources.place(at)?;
        Some(Self {
            number,
            start: from,
            end: to.clamp(from, text.len()),
            text: mask(text),
        })
    }

    fn snippet(&self) -> Snippet<'_, Annotation<'_>> {
        Snippet::source(self.text.as_str())
            .line_start(self.number)
            .annotation(AnnotationKind::Primary.span(self.start..self.end))
    }
}

fn render(finding: &Finding) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = title(finding);
    let head = level.primary_title(title.as_str());
    let report = match &finding.excerpt {
        None => vec![Group::with_title(head)],
        Some(Excerpt { line, other: None }) => vec![head.element(line.snippet())],
        Some(Excerpt {
            line,
            other: Some((file, other, what)),
        }) => {
            let note = Level::NOTE.secondary_title(what.as_str());
            vec![
                head.element(line.snippet()),
                note.element(other.snippet().path(file.as_str())),
            ]
        }
    };
    let mut text = Renderer::plain().render(&report);
    text.push('\n');
    text
}

fn title(finding: &Finding) -> String {
    let mut title = String::new();
    if let Some(file) = &finding.file {
        title.push_str(file);
        title.push(':');
    }
    if let (Some(line), Some(column)) = (finding.line, finding.column) {
        title.push_str(&format!("{line}:{column}:"));
    }
    if !title.is_empty() {
        title.push(' ');
    }
    // A title is one line, whatever a key or a value of the file brought into the message.
    title.push_str(&finding.message.replace(['\n', '\r'], " "));
    title
}

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::findings::{Findings, Phase};
    use super::*;
    use crate::hcl::Span;

    fn rendered(text: &str, start: usize, end: usize, message: &str) -> String {
        let sources = Sources::of([(PathBuf::from("a.hcl"), text.to_owned())]);
        let findings = Findings::default();
        let span = Span { start, end };
        findings.error(Phase::Load, Some(At { source: 0, span }), message);
        render_text(&findings.into_list(&sources, &[]))
    }

    #[test]
    fn shows_place_line_and_caret() {
        let text = "vault {\n  adress = \"x\"\n}\n";
        let expected = "error: a.hcl:2:3: no such key\n  |\n2 |   adress = \"x\"\n  |   ^^^^^^\n";
        assert_eq!(rendered(text, 10, 16, "no such key"), expected);
    }

    #[test]
    fn columns_are_characters_and_the_caret_stands_under_wide_ones() {
        let text = "k = \"日本\" zz\n";
        let at = text.find("zz").unwrap();
        let shown = rendered(text, at, at + 2, "no");
        assert!(shown.starts_with("error: a.hcl:1:10: no\n"), "{shown}");
        assert!(shown.contains("\n  |          "), "{shown}");
    }

    #[test]
    fn a_finding_at_the_end_or_beyond_it_is_shown() {
        for offset in [0, 3, 4, 99] {
            assert!(rendered("abc\n", offset, offset, "cut").starts_with("error: a.hcl:"));
        }
        assert_eq!(
            rendered("", 0, 0, "empty").lines().next(),
            Some("error: a.hcl:1:1: empty")
        );
    }
}
