//! Which files a configuration is made of.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::findings::{At, Findings, Phase};
use crate::hcl;

/// The texts of all files, in the order of merging.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<Source>,
    /// Everything that was named could be read.
    pub(super) complete: bool,
}

#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    pub(super) text: String,
}

impl Sources {
    /// Reads every file that the `-config` paths name; what cannot be read is a finding each.
    pub(super) fn read(paths: &[PathBuf], found: &Findings) -> Self {
        let mut sources = Self {
            files: Vec::new(),
            complete: true,
        };
        for path in paths {
            match files_of(path) {
                Ok(files) => {
                    for file in files {
                        sources.add(file, found);
                    }
                }
                Err(message) => {
                    found.error(Phase::Load, None, message);
                    sources.complete = false;
                }
            }
        }
        sources
    }

    #[cfg(test)]
    pub(super) fn of(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let files = files.into_iter();
        Self {
            files: files.map(|(path, text)| Source { path, text }).collect(),
            complete: true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Source)> {
        self.files.iter().enumerate()
    }

    pub(super) fn text(&self, at: At) -> Option<&str> {
        Some(self.files.get(at.source)?.text.as_str())
    }

    pub(super) fn name(&self, at: At) -> Option<String> {
        Some(self.files.get(at.source)?.path.display().to_string())
    }

    /// Line and column, from 1, the column in characters.
    pub(super) fn place(&self, at: At) -> Option<(usize, usize)> {
        let position = hcl::position(self.text(at)?, at.span.start);
        Some((position.line, position.column))
    }

    fn add(&mut self, path: PathBuf, found: &Findings) {
        let message = match read(&path) {
            Ok(bytes) if bytes.len() > MOST_BYTES => {
                format!("too large for a configuration: the most is {MOST_BYTES} bytes")
            }
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    self.files.push(Source { path, text });
                    return;
                }
                Err(_) => "not a text file: it is not UTF-8".to_owned(),
            },
            Err(error) => format!("cannot be read: {error}"),
        };
        self.complete = false;
        found.error(Phase::Load, None, format!("{}: {message}", path.display()));
    }
}

impl Source {
    /// By content, as Vault decides it: the name does not matter.
    pub(super) fn is_json(&self) -> bool {
        let text = self.text.trim_start_matches('\u{feff}');
        text.trim_start().starts_with('{')
    }
}

/// A directory stands for its `.hcl` and `.json` files, not those below it, in the order of their names.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("{}: cannot be read: {error}", path.display());
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if is_configuration(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!(
            "{}: no .hcl or .json file in this directory",
            path.display()
        ));
    }
    Ok(files)
}

fn is_configuration(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let of_an_editor = name.ends_with('~')
        || name.starts_with(".#")
        || (name.starts_with('#') && name.ends_with('#'));
    (name.ends_with(".hcl") || name.ends_with(".json")) && !of_an_editor
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Nobody writes a longer one, and a device or a log given by mistake is not read into memory.
const MOST_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_configurations_sorted() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.hcl", "a.json", "c.txt", "x.hcl~", ".#b.hcl", "#b.hcl", "#b.hcl#", "10.hcl", "2.hcl",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("deeper.hcl")).unwrap();
        let files = files_of(dir.path()).unwrap();
        let names: Vec<_> = files
            .iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["#b.hcl", "10.hcl", "2.hcl", "a.json", "b.hcl"]);
    }

    #[test]
    fn what_cannot_be_read_is_reported_each() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("binary.hcl"), [0xff, 0xfe]).unwrap();
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let found = Findings::default();
        let paths = [
            dir.path().join("binary.hcl"),
            dir.path().join("none"),
            empty,
        ];
        let sources = Sources::read(&paths, &found);
        let findings = found.into_list(&sources, &[]);
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}
