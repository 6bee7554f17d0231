//! Patterns of outputs: which paths they match, and below which directories there may be some.
//!
//! `*` and `?` stand for anything but `/`, `[…]` for one of some characters, `{a,b}` for one of some words, `**` as a
//! whole part for any directories. What matches a directory means everything in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Why a pattern is none.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no pattern of outputs")]
pub struct PatternError {
    pattern: String,
    source: globset::Error,
}

/// Checks that patterns are such.
///
/// # Errors
/// [`PatternError`] names the first that is none.
pub fn check_patterns(patterns: &[String]) -> Result<(), PatternError> {
    Patterns::new(patterns).map(drop)
}

/// What one pattern chooses of the paths of a tree.
#[derive(Debug)]
pub struct Selection {
    patterns: Patterns,
}

impl Selection {
    /// What this pattern chooses.
    ///
    /// # Errors
    /// [`PatternError`] if it is none.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Ok(Self { patterns: Patterns::new(std::slice::from_ref(&pattern.to_owned()))? })
    }

    /// Whether a path is chosen, by itself or with a directory above it.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        above.chain([path]).any(|path| !self.patterns.matches(path.as_bytes()).is_empty())
    }
}

/// The patterns of one job.
#[derive(Debug)]
pub(super) struct Patterns {
    set: GlobSet,
    reaches: Vec<Reach>,
}

/// Where a pattern may find something.
#[derive(Debug)]
struct Reach {
    /// The parts that it begins with and that stand for themselves.
    stem: Vec<String>,
    /// How many parts a path has that it matches, if that is one number.
    parts: Option<usize>,
}

impl Patterns {
    pub(super) fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let mut set = GlobSetBuilder::new();
        let failed = |pattern: &String| {
            let pattern = pattern.clone();
            |source| PatternError { pattern, source }
        };
        for pattern in patterns {
            set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(failed(pattern))?);
        }
        let all = || patterns.join(" ");
        let set = set.build().map_err(|source| PatternError { pattern: all(), source })?;
        Ok(Self { set, reaches: patterns.iter().map(|pattern| Reach::of(pattern)).collect() })
    }

    /// Which of them match a path, by number.
    pub(super) fn matches(&self, path: &[u8]) -> Vec<usize> {
        self.set.matches(Path::new(OsStr::from_bytes(path)))
    }

    /// Whether something below a directory may match.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        let parts: Vec<&[u8]> = directory.split(|byte| *byte == b'/').collect();
        self.reaches.iter().any(|reach| reach.may_match_below(&parts))
    }
}

impl Reach {
    fn of(pattern: &str) -> Self {
        let is_plain = |part: &&str| !part.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let stem = pattern.split('/').take_while(is_plain).map(str::to_owned).collect();
        // A choice of words may have parts of its own.
        let is_open = pattern.split('/').any(|part| part == "**") || pattern.contains('{');
        Self { stem, parts: (!is_open).then(|| pattern.split('/').count()) }
    }

    fn may_match_below(&self, directory: &[&[u8]]) -> bool {
        let is_on_the_way = directory.iter().zip(&self.stem).all(|(part, stem)| *part == stem.as_bytes());
        is_on_the_way && self.parts.is_none_or(|parts| directory.len() < parts)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn patterns(all: &[&str]) -> Patterns {
        Patterns::new(&all.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_star_stays_in_its_directory() {
        let found = patterns(&["out/*.png", "out/**/*.txt", "log", "{a,b/c}/x"]);
        for (path, wanted) in [
            ("out/a.png", vec![0]),
            ("out/deep/a.png", vec![]),
            ("out/a.txt", vec![1]),
            ("out/x/y/a.txt", vec![1]),
            ("log", vec![2]),
            ("b/c/x", vec![3]),
        ] {
            assert_eq!(found.matches(path.as_bytes()), wanted, "{path}");
        }
    }

    #[test]
    fn nobody_looks_where_nothing_can_match() {
        let found = patterns(&["out/*.png", "a/*/c"]);
        for (directory, wanted) in
            [("out", true), ("out/x", false), ("node_modules", false), ("a", true), ("a/b", true)]
        {
            assert_eq!(found.may_match_below(directory.as_bytes()), wanted, "{directory}");
        }
        assert!(patterns(&["a/**/z"]).may_match_below(b"a/b/c/d") && !patterns(&["a/**/z"]).may_match_below(b"b"));
        assert!(patterns(&["{a,b/c}/x"]).may_match_below(b"b/c"));
    }

    #[test]
    fn a_directory_that_is_chosen_comes_with_what_is_in_it() {
        let selection = Selection::new("out/*").unwrap();
        assert!(
            selection.has("out/a") && selection.has("out/a/b/c") && !selection.has("out") && !selection.has("in/a")
        );
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let error = check_patterns(&["ok".to_owned(), "out/[a".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("out/[a"), "{error}");
    }
}
