//! What is logged, and where to.

use std::path::PathBuf;

use super::super::file;
use super::super::findings::{Note, Phase};
use super::super::{Log, LogLevel};
use super::Check;

impl Check<'_> {
    pub(super) fn log(&self, typed: &file::Log) -> Log {
        let flags = self.overrides;
        let level = self.text(
            ("log-level", flags.log_level.as_ref()),
            "LOG_LEVEL",
            "log_level",
            typed.level.as_ref(),
        );
        let format = self.text(
            ("log-format", flags.log_format.as_ref()),
            "LOG_FORMAT",
            "log_format",
            typed.format.as_ref(),
        );
        let file = flags
            .log_file
            .as_ref()
            .or(typed.file.as_ref().map(|given| &given.value))
            .filter(|file| !file.is_empty())
            .map(|file| log_file(file));
        self.rotation(typed, file.is_some());
        Log {
            to_stdout: self.overrides.combine_logs,
            level: level.map_or(LogLevel::Info, |setting| {
                parse_level(&setting.value).unwrap_or_else(|message| {
                    self.wrong(&setting, message);
                    LogLevel::Info
                })
            }),
            json: format.is_some_and(|setting| {
                match setting.value.trim().to_ascii_lowercase().as_str() {
                    "json" => true,
                    "" | "standard" => false,
                    _ => {
                        let message = format!(
                            "{:?} is not a log format: it can be \"standard\" or \"json\"",
                            setting.value
                        );
                        self.wrong(&setting, message);
                        false
                    }
                }
            }),
            file,
        }
    }

    fn rotation(&self, typed: &file::Log, to_file: bool) {
        for (key, at) in &typed.rotation {
            let note = if to_file {
                let message = format!(
                    "this version of Leasehold does not rotate its log: remove {key}, and let logrotate \
                     do it (copytruncate), or the log would grow without end"
                );
                Note::error(Phase::Build, Some(*at), message)
            } else {
                let message = format!("{key} has no effect: there is no log_file");
                Note::warning(Phase::Build, Some(*at), message)
            };
            self.found.add(note.key(*key));
        }
        for (flag, value) in self.overrides.log_rotation() {
            if value != "0" && to_file {
                let message =
                    format!("the flag -{flag}: this version of Leasehold does not rotate its log");
                self.found.error(Phase::Build, None, message);
            }
        }
    }
}

/// `trace`, `debug`, `info`, `warn`, `error` and the peers' other words for them.
pub fn parse_level(text: &str) -> Result<LogLevel, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "trace" => Ok(LogLevel::Trace),
        "debug" => Ok(LogLevel::Debug),
        "" | "info" | "notice" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "err" | "error" => Ok(LogLevel::Error),
        _ => Err(format!(
            "{text:?} is not a log level: it can be trace, debug, info, warn or error"
        )),
    }
}

/// A path that ends in a slash is a directory.
fn log_file(text: &str) -> PathBuf {
    if text.ends_with('/') {
        PathBuf::from(format!("{text}leasehold.log"))
    } else {
        PathBuf::from(text)
    }
}
