//! `tests/fixtures/hcl1`: inputs, and what Go's HCL1 reader makes of them (`expected.tsv`: name, verdict,
//! value decoded into a map without a schema, as JSON).

use std::fs;
use std::path::{Path, PathBuf};

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
    match &value.kind {
        ValueKind::Object(object) => as_go_decodes(object),
        _ => as_go_decodes_value(value),
    }
}
