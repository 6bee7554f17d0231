//! Writes a value as YAML (1.2, block style). Only writing is needed, and of what JSON can say; so every text that
//! could be taken for something else goes in double quotes, in which YAML reads JSON's escapes.

use std::fmt::Write as _;

use serde_json::Value;

/// The document of a value, without the `---`.
pub(crate) fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => map(&mut text, fields, 0),
        Value::Array(items) if !items.is_empty() => list(&mut text, items, 0),
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(text, "{}", scalar(value));
        }
    }
    text
}

fn map(text: &mut String, fields: &serde_json::Map<String, Value>, indent: usize) {
    for (place, (key, value)) in fields.iter().enumerate() {
        // The first field of a map in a list stands behind the list's dash.
        if place > 0 || text.is_empty() || text.ends_with('\n') {
            pad(text, indent);
        }
        let _ = write!(text, "{}:", plain_or_quoted(key));
        nested(text, value, indent);
    }
}

fn list(text: &mut String, items: &[Value], indent: usize) {
    for item in items {
        pad(text, indent);
        text.push('-');
        match item {
            Value::Object(fields) if !fields.is_empty() => {
                text.push(' ');
                map(text, fields, indent + 2);
            }
            Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                nested(text, item, indent)
            }
        }
    }
}

/// What stands behind a key or a dash.
fn nested(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            map(text, fields, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            list(text, items, indent + 2);
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = writeln!(text, " {}", scalar(value));
        }
    }
}

fn pad(text: &mut String, indent: usize) {
    text.push_str(&" ".repeat(indent));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(words) => plain_or_quoted(words),
        // Empty ones are the same in YAML.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A text as it is if it can be nothing but a text, else in quotes.
fn plain_or_quoted(words: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./ ".contains(c);
    // `y` and `off` are truth values to older readers, `1e3` and `.inf` numbers.
    let means_more = matches!(
        words.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "nan"
    );
    if words.starts_with(is_letter) && words.chars().all(is_plain) && !words.ends_with(' ') && !means_more {
        return words.to_owned();
    }
    Value::from(words).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_reads_well() {
        let value = json!({
            "jobs": [
                { "exit": { "code": 0, "signal": null }, "labels": {}, "name": "a b", "number": 12, "tags": [] },
                { "command": ["sh", "-c", "echo: 'x'\n"], "number": 13 },
            ],
            "more": false,
        });
        insta::assert_snapshot!(document(&value), @r#"
        jobs:
          - exit:
              code: 0
              signal: null
            labels: {}
            name: a b
            number: 12
            tags: []
          - command:
              - sh
              - "-c"
              - "echo: 'x'\n"
            number: 13
        more: false
        "#);
    }

    #[test]
    fn a_text_that_could_be_something_else_is_quoted() {
        for words in ["", "no", "True", "1", "1e3", "-", "~", "a: b", "a #b", "*x", "x ", "2026-01-01", "ü"] {
            assert!(plain_or_quoted(words).starts_with('"'), "{words}");
        }
        for words in ["completed", "tool.sh", "a/b c-d_e"] {
            assert_eq!(plain_or_quoted(words), words);
        }
    }

    #[test]
    fn what_is_no_map_is_a_document_too() {
        assert_eq!(document(&json!([[1, 2], []])), "-\n  - 1\n  - 2\n- []\n");
        assert_eq!(document(&json!("no")), "\"no\"\n");
    }
}
