//! JSON values in the words of whoever wrote them: a number of many digits would not stay the same as one of ours.

use serde_json::value::RawValue;

/// The text of a value on one line: without the blanks that stand outside of its strings.
pub(crate) fn one_line(value: &RawValue) -> String {
    let mut line = String::with_capacity(value.get().len());
    let (mut is_text, mut is_escaped) = (false, false);
    for c in value.get().chars() {
        if !is_text && c.is_ascii_whitespace() {
            continue;
        }
        line.push(c);
        is_text ^= c == '"' && !is_escaped;
        is_escaped = is_text && c == '\\' && !is_escaped;
    }
    line
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn only_blanks_between_words_are_left_out() {
        let text = "{\n \"a b\\\\\": [1.10, \"c\\\" d\"],\t\"a\": 12345678901234567890123 }";
        let value: &RawValue = serde_json::from_str(text).unwrap();
        assert_eq!(one_line(value), "{\"a b\\\\\":[1.10,\"c\\\" d\"],\"a\":12345678901234567890123}");
    }
}
