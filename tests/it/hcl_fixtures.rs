//! `tests/fixtures/hcl1`: inputs, and what Go's HCL1 reader makes of them (`expected.tsv`: name, verdict,
//! value decoded into a map without a schema, as JSON).

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use leasehold::hcl::{Item, Object, Value, ValueKind, parse, position, print};
use serde_json::{Map, Value as Json, json};

#[test]
fn every_fixture_has_gos_verdict_and_value() {
    let expected = fs::read_to_string(folder().join("expected.tsv")).unwrap();
    let mut inputs = 0;
    for line in expected.lines() {
        let [name, verdict, value] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("expected.tsv: {line}");
        };
        let text = fs::read_to_string(folder().join(name)).unwrap();
        inputs += 1;
        match (parse(&text), verdict) {
            (Ok(object), "OK") => {
                let wanted: Json = serde_json::from_str(value).unwrap();
                assert_eq!(as_go_decodes(&object), wanted, "{name}");
                let again = parse(&print(&object)).unwrap();
                assert!(again.same_value(&object), "{name}: printed and parsed");
            }
            (Err(_), "ERR") => {}
            (Ok(_), _) => panic!("{name}: accepted, Go says {value}"),
            (Err(error), _) => {
                let at = position(&text, error.span.start);
                panic!("{name}:{}:{}: {}", at.line, at.column, error.message);
            }
        }
    }
    let files = fs::read_dir(folder()).unwrap().count();
    assert_eq!(inputs, files - 1, "every file has its line in expected.tsv");
}

proptest! {
    /// Whatever happens to a file in an editor: read or refused, and what is read survives printing.
    #[test]
    fn a_damaged_fixture_never_panics(
        file in any::<Index>(),
        damage in prop::collection::vec((any::<Index>(), 0..6_usize, "[{}=,\"$<#\\\\\n\ra-c0-9:\\[\\] ]{0,4}"), 1..5),
    ) {
        let mut text = file.get(&texts()).clone();
        for (at, len, insert) in damage {
            let at = floor(&text, at.index(text.len() + 1));
            let end = floor(&text, (at + len).min(text.len()));
            text.replace_range(at..end, &insert);
        }
        match parse(&text) {
            Ok(object) => {
                let again = parse(&print(&object));
                prop_assert!(again.is_ok_and(|again| again.same_value(&object)));
            }
            Err(error) => prop_assert!(text.get(error.span.start..error.span.end).is_some()),
        }
    }
}

fn texts() -> Vec<String> {
    let files = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "hcl"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at).rfind(|at| text.is_char_boundary(*at)).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hcl1")
}

/// Go without a schema: every block or object is an element of a list, lists of one key are joined, and of
/// repeated scalars the last one wins.
fn as_go_decodes(object: &Object) -> Json {
    let mut map = Map::new();
    for Item { keys, value } in &object.items {
        let labels = keys.iter().skip(1).rev();
        let value = labels.fold(
            as_go_decodes_value(value),
            |inner, label| json!([{ label.text.clone(): inner }]),
        );
        match (map.get_mut(&keys[0].text), value) {
            (Some(Json::Array(earlier)), Json::Array(more)) => earlier.extend(more),
            (_, value) => {
                map.insert(keys[0].text.clone(), value);
            }
        }
    }
    Json::Object(map)
}

fn as_go_decodes_value(value: &Value) -> Json {
    match &value.kind {
        ValueKind::Null => Json::Null,
        ValueKind::Bool(value) => json!(value),
        ValueKind::Int(number) => json!(number),
        ValueKind::Float(number) => json!(number),
        ValueKind::String(text) => json!(text),
        ValueKind::List(values) => values.iter().map(element).collect(),
        ValueKind::Object(object) => json!([as_go_decodes(object)]),
    }
}

/// An object that stands in a list already is not put into one more.
fn element(value: &Value) -> Json {
    if let ValueKind::Object(object) = &value.kind {
        as_go_decodes(object)
    } else {
        as_go_decodes_value(value)
    }
}
