//! A value as text that parses back to the same value.

use super::lex::is_letter;
use super::value::{Item, Key, Object, Value, ValueKind};

/// HCL1; or JSON if there is a null somewhere, which HCL1 cannot say.
pub fn print(object: &Object) -> String {
    let mut out = String::new();
    if has_null(object) {
        json_object(&mut out, object);
    } else {
        items(&mut out, object, 0);
    }
    out
}

fn items(out: &mut String, object: &Object, depth: usize) {
    for item in &object.items {
        indent(out, depth);
        for key in &item.keys {
            word(out, &key.text);
            out.push(' ');
        }
        if !matches!(item.value.kind, ValueKind::Object(_)) {
            out.push_str("= ");
        }
        value(out, &item.value, depth);
        out.push('\n');
    }
}

fn value(out: &mut String, value: &Value, depth: usize) {
    match &value.kind {
        ValueKind::Null => out.push_str("null"),
        ValueKind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        ValueKind::Int(number) => out.push_str(&number.to_string()),
        ValueKind::Float(number) => out.push_str(&format!("{number:?}")),
        ValueKind::String(text) => quoted(out, text),
        ValueKind::List(values) => list(out, values, depth),
        ValueKind::Object(object) if object.items.is_empty() => out.push_str("{}"),
        ValueKind::Object(object) => {
            out.push_str("{\n");
            items(out, object, depth + 1);
            indent(out, depth);
            out.push('}');
        }
    }
}

fn list(out: &mut String, values: &[Value], depth: usize) {
    out.push('[');
    for (at, element) in values.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        value(out, element, depth);
    }
    out.push(']');
}

fn word(out: &mut String, text: &str) {
    let bare = text.starts_with(is_letter)
        && text
            .chars()
            .all(|c| is_letter(c) || c.is_numeric() || matches!(c, '-' | '.'))
        && !matches!(text, "true" | "false");
    if bare {
        out.push_str(text);
    } else {
        quoted(out, text);
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Behind an open `${` nothing is an escape any more, and its braces must balance.
            '$' if chars.peek() == Some(&'{') => out.push_str("\\x24"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn has_null(object: &Object) -> bool {
    fn null_in(value: &Value) -> bool {
        match &value.kind {
            ValueKind::Null => true,
            ValueKind::List(values) => values.iter().any(null_in),
            ValueKind::Object(object) => has_null(object),
            ValueKind::Bool(_) | ValueKind::Int(_) | ValueKind::Float(_) | ValueKind::String(_) => {
                false
            }
        }
    }
    object.items.iter().any(|item| null_in(&item.value))
}

fn json_object(out: &mut String, object: &Object) {
    out.push('{');
    for (at, Item { keys, value }) in object.items.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        json_member(out, keys, value);
    }
    out.push('}');
}

/// A label is a level of its own.
fn json_member(out: &mut String, keys: &[Key], value: &Value) {
    let Some((key, labels)) = keys.split_first() else {
        return;
    };
    json_string(out, &key.text);
    out.push_str(": ");
    if labels.is_empty() {
        json_value(out, value);
    } else {
        out.push('{');
        json_member(out, labels, value);
        out.push('}');
    }
}

fn json_value(out: &mut String, value: &Value) {
    match &value.kind {
        ValueKind::String(text) => json_string(out, text),
        ValueKind::Object(object) => json_object(out, object),
        ValueKind::List(values) => {
            out.push('[');
            for (at, element) in values.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                json_value(out, element);
            }
            out.push(']');
        }
        ValueKind::Null | ValueKind::Bool(_) | ValueKind::Int(_) | ValueKind::Float(_) => {
            self::value(out, value, 0);
        }
    }
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_what_a_person_would_write() {
        let text = r#"
            "listener" "tcp" { address = "x", tls_disable = true }
            "a b" = [1, 1.5e3, { c = "${d}" }]
            empty {}
        "#;
        assert_eq!(
            print(&parse(text).unwrap()),
            "listener tcp {\n  address = \"x\"\n  tls_disable = true\n}\n\
             \"a b\" = [1, 1500.0, {\n  c = \"\\x24{d}\"\n}]\nempty {}\n"
        );
    }

    #[test]
    fn a_null_makes_it_json() {
        let object = parse(r#"{"a": null, "b": ["\u0001é", {"c": -1.5}, []]}"#).unwrap();
        let printed = print(&object);
        assert_eq!(
            printed,
            "{\"a\": null, \"b\": [\"\\u0001é\", {\"c\": -1.5}, []]}"
        );
        assert!(parse(&printed).unwrap().same_value(&object));
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[a-z${}\"\\\\\n\r<]{0,12}".prop_map(|text| text)
        ]
    }

    fn at_nowhere(kind: ValueKind) -> Value {
        let span = Default::default();
        Value { kind, span }
    }

    fn object_of(members: Vec<(Vec<String>, Value)>) -> Object {
        let items = members.into_iter().map(|(mut keys, value)| {
            if !matches!(value.kind, ValueKind::Object(_)) {
                keys.truncate(1);
            }
            let span = Default::default();
            let keys = keys.into_iter().map(|text| Key { text, span }).collect();
            Item { keys, value }
        });
        Object {
            items: items.collect(),
            span: Default::default(),
        }
    }

    /// Any value; with nulls only under single keys, as JSON has them.
    fn values(nulls: bool) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(ValueKind::Bool),
            any::<i64>().prop_map(ValueKind::Int),
            any::<f64>()
                .prop_filter("no file says it", |number| number.is_finite())
                .prop_map(ValueKind::Float),
            text().prop_map(ValueKind::String),
            Just(if nulls {
                ValueKind::Null
            } else {
                ValueKind::Int(0)
            }),
        ];
        let labels = if nulls { 1..2_usize } else { 1..4 };
        leaf.prop_map(at_nowhere)
            .prop_recursive(4, 32, 6, move |inner| {
                let keys = prop::collection::vec(text(), labels.clone());
                prop_oneof![
                    prop::collection::vec(inner.clone(), 0..5)
                        .prop_map(|values| at_nowhere(ValueKind::List(values))),
                    prop::collection::vec((keys, inner), 0..5)
                        .prop_map(|members| at_nowhere(ValueKind::Object(object_of(members)))),
                ]
            })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(
            value in prop_oneof![values(false), values(true)],
            key in text(),
        ) {
            let object = object_of(vec![(vec![key], value)]);
            let printed = print(&object);
            let back = parse(&printed);
            prop_assert!(back.is_ok_and(|back| back.same_value(&object)), "{printed}");
        }
    }
}
