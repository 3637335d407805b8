//! The command line. The only room that prints.

pub mod args;
pub mod flags;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use flags::{Command, Invocation, UsageError};

/// Reads the command line. Help, warnings and what is wrong with it are printed here; `Err` is the code to
/// end with. A closed pipe is nobody's error.
pub fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    match flags::parse(argv) {
        Ok(Invocation::Run { command, warnings }) => {
            for warning in warnings {
                writeln!(io::stderr(), "warning: {warning}").ok();
            }
            Ok(command)
        }
        Ok(Invocation::Help(text)) => {
            write!(io::stdout(), "{text}").ok();
            Err(ExitCode::SUCCESS)
        }
        Err(UsageError { message, exit_code }) => {
            writeln!(io::stderr(), "error: {message}").ok();
            Err(ExitCode::from(exit_code))
        }
    }
}
