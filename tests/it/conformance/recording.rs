//! The shapes of a real server's answers, one file for each scenario in `tests/conformance/`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

pub(super) struct Recording {
    /// What `bao version` said.
    pub(super) server: String,
    pub(super) steps: Vec<Value>,
}

impl Recording {
    /// # Errors
    /// There is none, or it is not one.
    pub(super) fn read(scenario: &str) -> Result<Self, String> {
        let path = path(scenario);
        let told = |why: &str| format!("{}: {why}; {HOW}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| told(&error.to_string()))?;
        let read: Value = serde_json::from_str(&text).map_err(|error| told(&error.to_string()))?;
        let server = read["server"].as_str().map(str::to_owned);
        let steps = read["steps"].as_array().cloned();
        let (Some(server), Some(steps)) = (server, steps) else {
            return Err(told("no server or no steps"));
        };
        Ok(Self { server, steps })
    }

    /// One line for each step, so that a change is seen as one.
    pub(super) fn write(&self, scenario: &str) {
        let steps: Vec<String> = self.steps.iter().map(Value::to_string).collect();
        let text = format!(
            "{{\n\"server\": {},\n\"steps\": [\n{}\n]}}\n",
            json!(self.server),
            steps.join(",\n")
        );
        let path = path(scenario);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn path(scenario: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    folder.join(format!("{scenario}.json"))
}

/// How recordings are made.
pub(super) const HOW: &str =
    "LEASEHOLD_RECORD=1 cargo test --test it conformance records anew, with bao or vault on PATH";
