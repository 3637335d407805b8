//! Log lines to standard error, standard output or a file; text or JSON, one event per line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{Log, LogLevel};
use crate::error::{Error, Kind, Result};

/// Starts logging for the whole process. Only Leasehold's own events are written: those of libraries
/// may quote what they carry.
///
/// # Errors
/// `Kind::File` when the log file cannot be opened, `Internal` when logging was started before.
pub fn start(log: &Log) -> Result<()> {
    let file = log.file.as_deref().map(LogFile::open).transpose()?;
    let filter = Targets::new().with_target("leasehold", level(log.level));
    let writer = Destination {
        to_stdout: log.to_stdout,
        file,
    };
    let layer = if log.json {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed()
    } else {
        fmt::layer().with_ansi(false).with_writer(writer).boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_| Error::new(Kind::Internal, "logging was started twice"))
}

/// A log file, appended to, created with mode 0640 as the peers do.
#[derive(Debug, Clone)]
pub struct LogFile {
    path: Arc<PathBuf>,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    pub fn open(path: &Path) -> Result<Self> {
        let file = append(path).map_err(|error| {
            Error::new(Kind::File, format!("log_file {}: {error}", path.display()))
        })?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            file: Arc::new(Mutex::new(file)),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of the standard streams, and the file where there is one. It is its own writer, one per event.
#[derive(Debug, Clone)]
struct Destination {
    to_stdout: bool,
    file: Option<LogFile>,
}

impl<'a> MakeWriter<'a> for Destination {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            // A full disk must not silence the other stream.
            let _lost = file.write_all(bytes);
        }
        // Nor may a reader that is gone end the process: an error here would be told to standard error by
        // the subscriber, with a panic where that fails.
        let _lost = if self.to_stdout {
            io::stdout().write_all(bytes)
        } else {
            io::stderr().write_all(bytes)
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}
