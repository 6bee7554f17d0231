//! Comma-separated values as `COPY … WITH (FORMAT csv)` writes them (RFC 4180): a quote in a quoted field is doubled, a
//! quoted field may hold new lines, and only an empty field without quotes is null.

use crate::import::ImportError;

/// A field: a text, or null.
pub(super) type Field = Option<String>;

/// Takes a table apart, record by record.
#[derive(Debug)]
pub(super) struct Records<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Records<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The next record and the number of its first line; none at the end. Empty lines are no records.
    pub(super) fn record(&mut self) -> Result<Option<(usize, Vec<Field>)>, ImportError> {
        while let Some(rest) = self.rest.strip_prefix('\n').or_else(|| self.rest.strip_prefix("\r\n")) {
            self.rest = rest;
            self.line += 1;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let first = self.line;
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            self.rest = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n')).unwrap_or(self.rest);
            self.line += 1;
            return Ok(Some((first, fields)));
        }
    }

    fn field(&mut self) -> Result<Field, ImportError> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (field, rest) = self.rest.split_at(end);
            self.rest = rest;
            let field = field.strip_suffix('\r').unwrap_or(field);
            return Ok(Some(field.to_owned()).filter(|field| !field.is_empty()));
        };
        let opened = self.line;
        let mut field = String::new();
        let mut rest = quoted;
        loop {
            let Some((part, after)) = rest.split_once('"') else {
                return Err(ImportError::Quote { line: opened });
            };
            field.push_str(part);
            self.line += part.matches('\n').count();
            match after.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    rest = more;
                }
                None => {
                    // Whatever stands between the closing quote and the next comma belongs to no field.
                    let end = after.find([',', '\n']).unwrap_or(after.len());
                    self.rest = after.split_at(end).1;
                    return Ok(Some(field));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn all(text: &str) -> Vec<(usize, Vec<Field>)> {
        let mut records = Records::new(text);
        std::iter::from_fn(|| records.record().unwrap()).collect()
    }

    #[test]
    fn fields_are_taken_apart() {
        let text = "id,args\r\n1,\"{\"\"a\"\": 1}\"\n\n2,\"two\nlines\"\n3,\n4,\"\"";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            all(text),
            [
                (1, vec![some("id"), some("args")]),
                (2, vec![some("1"), some("{\"a\": 1}")]),
                (4, vec![some("2"), some("two\nlines")]),
                (6, vec![some("3"), None]),
                (7, vec![some("4"), some("")]),
            ]
        );
    }

    #[test]
    fn a_cut_off_table_is_told_by_its_line() {
        let mut records = Records::new("a\n1,\"x\ny");
        records.record().unwrap();
        assert!(matches!(records.record(), Err(ImportError::Quote { line: 2 })));
    }
}
