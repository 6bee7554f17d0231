//! Values of a script as JSON, and back.
//!
//! **The hard case** is a small table that is a long text: one that holds a table twice, which holds another one twice.
//! So the text is limited, not the table.

use mlua::{Lua, Table, Value};

/// Longest text that is made: 64 MiB. What is longer belongs into a file.
const BYTES_MAX: usize = 64 << 20;

/// Most tables inside one another. One that holds itself has no end of them.
const DEPTH_MAX: usize = 100;

/// Largest whole number that every reader of JSON gets right: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a value has no form in JSON.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("{place} is a {kind}, which JSON can't hold")]
    Kind { place: String, kind: &'static str },
    #[error("{place} is {number}, which JSON can't hold")]
    Number { place: String, number: f64 },
    #[error("{place} is not UTF-8 text; write bytes to a file")]
    NotText { place: String },
    #[error("{place} has keys that are neither 1 to n nor all text")]
    Keys { place: String },
    #[error("{place} has more than {DEPTH_MAX} tables inside one another, or holds itself")]
    Deep { place: String },
    #[error("{place} makes the text longer than {BYTES_MAX} bytes; write it to a file")]
    Long { place: String },
    #[error("{place} can't be read: {problem}")]
    Read { place: String, problem: String },
}

/// Writes a value, which messages call `name`.
pub(super) fn encode(value: &Value, name: &str) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer { bytes: Vec::new(), path: vec![name.to_owned()] };
    writer.value(value)?;
    Ok(writer.bytes)
}

struct Writer {
    bytes: Vec<u8>,
    path: Vec<String>,
}

impl Writer {
    /// Where it is, as `result.list[3]`; its end if that is long.
    fn place(&self) -> String {
        const SHOWN: usize = 8;
        let from = self.path.len().saturating_sub(SHOWN);
        let parts = self.path.get(from..).unwrap_or_default().concat();
        if from == 0 { parts } else { format!("…{parts}") }
    }

    fn value(&mut self, value: &Value) -> Result<(), EncodeError> {
        if self.bytes.len() > BYTES_MAX {
            return Err(EncodeError::Long { place: self.place() });
        }
        match value {
            Value::Nil => self.bytes.extend_from_slice(b"null"),
            Value::Boolean(true) => self.bytes.extend_from_slice(b"true"),
            Value::Boolean(false) => self.bytes.extend_from_slice(b"false"),
            Value::Integer(number) => self.bytes.extend_from_slice(number.to_string().as_bytes()),
            Value::Number(number) => self.number(*number)?,
            Value::String(text) => {
                let text = text.to_str().map_err(|_| EncodeError::NotText { place: self.place() })?;
                self.text(&text)?;
            }
            Value::Table(table) => self.table(table)?,
            Value::LightUserData(_)
            | Value::Vector(_)
            | Value::Function(_)
            | Value::Thread(_)
            | Value::UserData(_)
            | Value::Buffer(_)
            | Value::Error(_)
            | Value::Other(_) => {
                return Err(EncodeError::Kind { place: self.place(), kind: value.type_name() });
            }
        }
        Ok(())
    }

    fn number(&mut self, number: f64) -> Result<(), EncodeError> {
        let text = if !number.is_finite() {
            return Err(EncodeError::Number { place: self.place(), number });
        } else if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
            format!("{number:.0}")
        } else {
            serde_json::Number::from_f64(number).map_or_else(String::new, |number| number.to_string())
        };
        self.bytes.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        if text.len() > BYTES_MAX {
            return Err(EncodeError::Long { place: self.place() });
        }
        // Text always has a form.
        serde_json::to_writer(&mut self.bytes, text)
            .map_err(|error| EncodeError::Read { place: self.place(), problem: error.to_string() })
    }

    fn table(&mut self, table: &Table) -> Result<(), EncodeError> {
        if self.path.len() > DEPTH_MAX {
            return Err(EncodeError::Deep { place: self.place() });
        }
        let read =
            |this: &Self, error: &mlua::Error| EncodeError::Read { place: this.place(), problem: error.to_string() };
        let length = table.raw_len();
        let (mut keys, mut count) = (Vec::new(), 0_usize);
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair.map_err(|error| read(self, &error))?;
            count += 1;
            if let Value::String(text) = key {
                keys.push(text.to_str().map_err(|_| EncodeError::NotText { place: self.place() })?.to_owned());
            }
        }
        if keys.is_empty() && count == length {
            return self.list(table, length);
        }
        if keys.len() != count {
            return Err(EncodeError::Keys { place: self.place() });
        }
        // In one order, so that the same table is the same text on every machine.
        keys.sort_unstable();
        self.bytes.push(b'{');
        for (index, key) in keys.into_iter().enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            self.text(&key)?;
            self.bytes.push(b':');
            let value: Value = table.raw_get(key.as_str()).map_err(|error| read(self, &error))?;
            self.inside(format!(".{key}"), &value)?;
        }
        self.bytes.push(b'}');
        Ok(())
    }

    fn list(&mut self, table: &Table, length: usize) -> Result<(), EncodeError> {
        self.bytes.push(b'[');
        for index in 1..=length {
            if index > 1 {
                self.bytes.push(b',');
            }
            let value: Value = table
                .raw_get(index)
                .map_err(|error| EncodeError::Read { place: self.place(), problem: error.to_string() })?;
            self.inside(format!("[{index}]"), &value)?;
        }
        self.bytes.push(b']');
        Ok(())
    }

    fn inside(&mut self, part: String, value: &Value) -> Result<(), EncodeError> {
        self.path.push(part);
        self.value(value)?;
        self.path.pop();
        Ok(())
    }
}

/// Makes a value of JSON.
pub(super) fn decode(lua: &Lua, json: &serde_json::Value) -> mlua::Result<Value> {
    Ok(match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(truth) => Value::Boolean(*truth),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(values) => {
            let list = lua.create_table()?;
            for (index, value) in (1_usize..).zip(values) {
                list.raw_set(index, decode(lua, value)?)?;
            }
            Value::Table(list)
        }
        serde_json::Value::Object(members) => {
            let table = lua.create_table()?;
            for (key, value) in members {
                table.raw_set(key.as_str(), decode(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn encoded(script: &str) -> String {
        let lua = Lua::new();
        let value: Value = lua.load(script).eval().unwrap();
        match encode(&value, "result") {
            Ok(json) => String::from_utf8(json).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_have_their_form() {
        let cases = [
            ("nil", "null"),
            ("{1, 2.5, -0.0, true, 'a\"b'}", r#"[1,2.5,0,true,"a\"b"]"#),
            ("{b = 1, a = {x = {}}}", r#"{"a":{"x":[]},"b":1}"#),
            ("2^53", "9007199254740992"),
            ("1e300", "1e+300"),
        ];
        for (script, json) in cases {
            assert_eq!(encoded(script), json, "{script}");
        }
    }

    #[test]
    fn what_has_no_form_is_named_with_its_place() {
        let cases = [
            ("{list = {1, print}}", "result.list[2] is a function, which JSON can't hold"),
            ("{x = 0/0}", "result.x is NaN, which JSON can't hold"),
            ("{1, a = 2}", "result has keys that are neither 1 to n nor all text"),
            ("{[1] = 1, [3] = 3}", "result has keys that are neither 1 to n nor all text"),
            ("'\\255'", "result is not UTF-8 text; write bytes to a file"),
        ];
        for (script, message) in cases {
            assert_eq!(encoded(script), message, "{script}");
        }
        assert!(encoded("(function() local t = {} t.t = t return t end)()").contains("or holds itself"));
        let bomb = "(function() local t = {('x'):rep(1e6)} for i = 1, 60 do t = {t, t} end return t end)()";
        assert!(encoded(bomb).contains("longer than"));
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let lua = Lua::new();
        for text in [r#"{"a":[1,2,{"b":"ü"}],"c":true}"#, "[]", "\"x\"", "-2.5"] {
            let value = decode(&lua, &serde_json::from_str(text).unwrap()).unwrap();
            assert_eq!(String::from_utf8(encode(&value, "x").unwrap()).unwrap(), text);
        }
    }
}
