//! Keys of providers, and how they stay out of everything that is written.

use std::fmt;
use std::sync::Arc;

use super::settings::KeySource;

/// How much of a key gives it away: providers repeat its beginning in their complaints.
const TELLTALE_BYTES: usize = 6;

/// What a provider wants to see. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Takes a key; none if there is nothing in it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into().trim().to_owned();
        (!text.is_empty()).then_some(Self(text))
    }

    /// The key, to be sent.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Blackens every word of `text` that holds the key or its beginning.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let telltale =
            self.0.char_indices().nth(TELLTALE_BYTES).and_then(|(at, _)| self.0.get(..at)).unwrap_or(&self.0);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | ')' | '}' | ']' | '<' | '&');
        let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, found)) = rest.find(telltale).map(|at| rest.split_at(at)) {
            clean.push_str(before);
            clean.push_str("[key]");
            // A key may have such characters itself.
            let found =
                found.strip_prefix(self.0.as_str()).unwrap_or_else(|| found.get(telltale.len()..).unwrap_or(""));
            rest = found.find(is_end).map_or("", |end| found.split_at(end).1);
        }
        clean.push_str(rest);
        clean
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why what is in a key's place can't be had, and what to do about it, in words for the owner of the node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoKey {
    /// These words. They may name a file of this machine.
    pub why: String,
}

/// How keys are found.
#[derive(Clone)]
pub struct Keys(Arc<Find>);

type Find = dyn Fn(&KeySource) -> Result<Option<Key>, NoKey> + Send + Sync;

impl Default for Keys {
    /// Those that are in the environment.
    fn default() -> Self {
        Self::of_environment()
    }
}

impl Keys {
    /// Finds keys by `find`, which is called for every question, so that a key can be changed while the node runs. It finds
    /// none where nothing was set.
    pub fn new(find: impl Fn(&KeySource) -> Result<Option<Key>, NoKey> + Send + Sync + 'static) -> Self {
        Self(Arc::new(find))
    }

    /// Finds those that are in the environment.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::new(|source| match source {
            KeySource::Variable(name) => Ok(std::env::var(name).ok().and_then(Key::new)),
            KeySource::Secret(_) => Ok(None),
        })
    }

    pub(crate) fn find(&self, source: &KeySource) -> Result<Option<Key>, NoKey> {
        (self.0)(source)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_key_shows_nowhere_in_whole_or_in_part() {
        let key = Key::new(" sk-canary-0123456789\n").unwrap();
        assert_eq!(key.reveal(), "sk-canary-0123456789");
        assert_eq!(format!("{key:?}"), "Key(…)");
        let text = "Incorrect API key provided: sk-canar*****6789. See x, sk-canary-0123456789!";
        assert_eq!(key.scrub(text), "Incorrect API key provided: [key] See x, [key]");
        assert_eq!(key.scrub("{\"key\":\"sk-canary-0123456789\"}"), "{\"key\":\"[key]\"}");
        assert_eq!(Key::new("ab").unwrap().scrub("grab it"), "gr[key] it");
        assert_eq!(Key::new("  "), None);
        assert_eq!(key.scrub("nothing"), "nothing");
    }
}
