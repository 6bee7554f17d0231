//! An error and what led to it, in one line for people.

use std::error::Error;

/// Writes what an error and all its causes say, each once: some libraries repeat the cause in their own message.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_repeated_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to open a: {0}")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("no such file"));
        assert_eq!(causes(&error), "failed to open a: no such file");
    }
}
