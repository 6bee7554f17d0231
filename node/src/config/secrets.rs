//! `[secrets.NAME]`: where the values of secrets are.

use std::collections::BTreeMap;

use crate::config::table::{Entry, Fault};
use crate::secrets::{SECRETS_MAX, Source, is_name};

const KEYS: &[&str] = &["from"];

/// Reads every secret's source.
pub(super) fn read_secrets(entry: &Entry<'_>) -> Result<BTreeMap<String, Source>, Fault> {
    let mut secrets = BTreeMap::new();
    for (name, entry) in entry.table()?.entries() {
        if !is_name(name) {
            return Err(entry.fault("is no name of a secret; it must be letters, digits, - _ and ."));
        }
        let table = entry.table()?;
        table.check_keys(KEYS, &[])?;
        let source = table.read("from", |entry| entry.parsed(Source::parse))?;
        let Some(source) = source else {
            return Err(entry.fault("says not where its value is; add from = \"env:VARIABLE\" or \"file:/path\""));
        };
        secrets.insert(name.to_owned(), source.value);
    }
    if secrets.len() > SECRETS_MAX {
        return Err(entry.fault(&format!("has {} secrets; the limit is {SECRETS_MAX}", secrets.len())));
    }
    Ok(secrets)
}
