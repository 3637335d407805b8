//! What was seen and what was wanted, as a Markdown table.

use std::fmt;

#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    what: String,
    measured: f64,
    wanted: Option<Wanted>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    AtMost(f64),
    Exactly(f64),
}

impl Report {
    pub(crate) fn note(&mut self, what: impl Into<String>, measured: f64) {
        self.add(what, measured, None);
    }

    pub(crate) fn want(&mut self, what: impl Into<String>, measured: f64, wanted: Wanted) {
        self.add(what, measured, Some(wanted));
    }

    pub(crate) fn is_good(&self) -> bool {
        self.lines.iter().all(Line::is_good)
    }

    #[expect(
        clippy::print_stderr,
        reason = "it takes minutes: say what is known already"
    )]
    fn add(&mut self, what: impl Into<String>, measured: f64, wanted: Option<Wanted>) {
        let what = what.into();
        eprintln!("{what}: {measured:.1}");
        self.lines.push(Line {
            what,
            measured,
            wanted,
        });
    }
}

impl Line {
    fn is_good(&self) -> bool {
        match self.wanted {
            None => true,
            Some(Wanted::AtMost(most)) => self.measured <= most,
            Some(Wanted::Exactly(value)) => (self.measured - value).abs() < 0.5,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | measured | wanted | |\n|---|---|---|---|")?;
        for line in &self.lines {
            let wanted = match line.wanted {
                None => String::new(),
                Some(Wanted::AtMost(most)) => format!("≤ {most:.1}"),
                Some(Wanted::Exactly(value)) => format!("{value:.0}"),
            };
            let verdict = match (line.wanted, line.is_good()) {
                (None, _) => "",
                (Some(_), true) => "met",
                (Some(_), false) => "**not met**",
            };
            let (what, measured) = (&line.what, line.measured);
            writeln!(f, "| {what} | {measured:.1} | {wanted} | {verdict} |")?;
        }
        Ok(())
    }
}
