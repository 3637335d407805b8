//! The `log_*` keys as typed.

use super::super::findings::{At, Given};
use super::super::forms::{self, Form};
use super::super::read::Fields;
use super::silent;

#[derive(Debug, Default)]
pub(in super::super) struct Log {
    pub(in super::super) level: Option<Given<String>>,
    pub(in super::super) format: Option<Given<String>>,
    pub(in super::super) file: Option<Given<String>>,
    /// The keys that ask for rotation.
    pub(in super::super) rotation: Vec<(&'static str, At)>,
}

impl Log {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        fields.others(&[
            silent("log_rotate_bytes", Form::Int),
            silent("log_rotate_duration", Form::Duration),
            silent("log_rotate_max_files", Form::Int),
        ]);
        let asked = |name| {
            let given = fields.raw(name)?;
            let at = given.at?;
            (!forms::is_neutral(given.value)).then_some((name, at))
        };
        Self {
            level: fields.text("log_level"),
            format: fields.text("log_format"),
            file: fields.text("log_file"),
            rotation: [
                "log_rotate_bytes",
                "log_rotate_duration",
                "log_rotate_max_files",
            ]
            .into_iter()
            .filter_map(asked)
            .collect(),
        }
    }
}
