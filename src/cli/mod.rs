//! The command line: what is typed, what is printed, and with which code the process ends. The only room
//! that prints.

pub mod args;
mod check;
#[cfg(feature = "dev")]
mod dev;
pub mod flags;
mod open_files;
mod process;
mod run;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use flags::{Command, Invocation, UsageError};

use crate::config::Product;

/// The whole program.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    process::harden();
    match read(argv) {
        Ok(Command::Agent(flags)) => run::run(&flags, Product::Agent),
        Ok(Command::Proxy(flags)) => run::run(&flags, Product::Proxy),
        Ok(Command::Check(flags)) => check::check(&flags),
        #[cfg(feature = "dev")]
        Ok(Command::Dev(flags)) => dev::dev(&flags),
        Ok(Command::Version) => {
            say(concat!("leasehold ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Reads the command line. Help, warnings and what is wrong with it are printed here; `Err` is the code to
/// end with.
pub fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    match flags::parse(argv) {
        Ok(Invocation::Run { command, warnings }) => {
            for warning in warnings {
                complain(format_args!("warning: {warning}"));
            }
            Ok(command)
        }
        Ok(Invocation::Help(text)) => {
            say(text.trim_end());
            Err(ExitCode::SUCCESS)
        }
        Err(UsageError { message, exit_code }) => {
            complain(format_args!("error: {message}"));
            Err(ExitCode::from(exit_code))
        }
    }
}

/// A line to standard output. A closed pipe is nobody's error.
fn say(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

/// A line to standard error.
fn complain(line: impl Display) {
    writeln!(io::stderr(), "{line}").ok();
}
