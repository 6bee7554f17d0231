//! Taking secrets out of what a run says, as it says it.
//!
//! Each value is looked for as it is and in the forms in which programs print it: base64 (also in the middle of longer
//! text, in both alphabets), hexadecimal, percent-encoded, as part of a JSON or HTML text, and as a literal of a program;
//! of a value of several lines, each line too. A line break between any two bytes hides none of them, since programs break
//! long lines. What is found becomes `[secret NAME]`. Values of fewer than four bytes are not looked for, since they would be found everywhere.
//!
//! **The hard case** is a value that comes in two pieces. What may be the beginning of one is held back until it is
//! known; all else passes at once, so a log can be followed.
//!
//! This keeps a secret out of a log by accident. It does not keep in what a command wants to get out: reversed, or one
//! letter a line, it passes.

mod strainer;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jobmesh_protocol::Outcome;

use crate::container::exchange_path;
use crate::directory::{outcome_path, result_path, work_path};
use crate::files::{remove_if_there, remove_tree};
use crate::sandbox::words_path;
use crate::secret::Secrets;

pub(crate) use strainer::Strainer;

/// Shortest text that is looked for.
const NEEDLE_BYTES_MIN: usize = 4;

/// Shortest line of a value of several that is looked for by itself.
const LINE_BYTES_MIN: usize = 8;

/// What is left as it is beside letters and digits: as RFC 3986 has it for a value, the same with the slashes of a path (as
/// Python does it), as `encodeURIComponent` and `encodeURI` do it, and as browsers and clients do it in a query and in a
/// path.
const PERCENT_KEPT: [&[u8]; 6] = [
    b"-._~",
    b"-._~/",
    b"-._~!*'()",
    b"-._~!*'();,/?:@&=+$#",
    b"-._~!$%&()*+,/:;=?@[\\]^`{|}",
    b"-._~!$%&'()*+,/:;=@[\\]^|",
];

/// What stands for a double and a single quote in HTML and XML: none escapes them in text, and each language has its own
/// two in attributes.
const QUOTES: [[&str; 2]; 7] = [
    ["\"", "'"],
    ["&quot;", "'"],
    ["&quot;", "&#x27;"],
    ["&quot;", "&#39;"],
    ["&quot;", "&#039;"],
    ["&quot;", "&apos;"],
    ["&#34;", "&#39;"],
];

/// A byte and the longest line break.
const BROKEN_BYTES: usize = 3;

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The two alphabets of base64.
const ALPHABETS: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// What is looked for. Wiped at its end.
pub(crate) struct Needles {
    /// Text and what stands in its place, the longest first.
    all: Vec<(zeroize::Zeroizing<Vec<u8>>, String)>,
    /// Which of them begin with a byte, by that byte.
    by_first: Vec<Vec<usize>>,
    longest: usize,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needles").field("count", &self.all.len()).finish_non_exhaustive()
    }
}

impl Needles {
    /// What has to be looked for in what a run says; none if it has no secrets.
    pub(crate) fn of(secrets: &Secrets) -> Option<Arc<Self>> {
        if secrets.is_empty() {
            return None;
        }
        let mut forms = BTreeSet::new();
        for (name, value) in secrets.iter() {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN);
            for text in std::iter::once(value).chain(std::iter::once(value.trim())).chain(lines) {
                let mark = format!("[secret {name}]");
                let fresh = written_forms(text).into_iter().filter(|form| form.len() >= NEEDLE_BYTES_MIN);
                forms.extend(fresh.map(|form| (form, mark.clone())));
            }
        }
        let mut all: Vec<_> = forms.into_iter().map(|(form, mark)| (zeroize::Zeroizing::new(form), mark)).collect();
        all.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        let mut by_first = vec![Vec::new(); 256];
        for (index, (form, _)) in all.iter().enumerate() {
            if let Some(list) = form.first().and_then(|first| by_first.get_mut(usize::from(*first))) {
                list.push(index);
            }
        }
        let longest = all.first().map_or(0, |(form, _)| form.len());
        Some(Arc::new(Self { all, by_first, longest }))
    }

    fn beginning_with(&self, first: u8) -> impl Iterator<Item = &(zeroize::Zeroizing<Vec<u8>>, String)> {
        let list = self.by_first.get(usize::from(first)).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|index| self.all.get(*index))
    }

    /// What stands at the beginning of `text`: a needle with its length, and whether a longer one may yet.
    fn at(&self, text: &[u8]) -> (Option<(usize, &str)>, bool) {
        let Some(first) = text.first() else { return (None, false) };
        let (mut found, mut may_grow) = (None, false);
        for (form, mark) in self.beginning_with(*first) {
            match meet(form, text) {
                Meeting::Whole(length) => found = found.or(Some((length, mark.as_str()))),
                Meeting::Begun => may_grow = true,
                Meeting::None => {}
            }
        }
        (found, may_grow)
    }

    /// A whole text without what is looked for.
    pub(crate) fn redact(self: &Arc<Self>, text: &str) -> String {
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// The same of bytes that need not be text.
    pub(crate) fn redact_bytes(self: &Arc<Self>, bytes: &[u8]) -> Vec<u8> {
        let mut redactor = Redactor::new(Arc::clone(self));
        let mut clean = redactor.push(bytes);
        clean.extend(redactor.finish());
        clean
    }

    /// An outcome with a message without what is looked for.
    pub(crate) fn redact_outcome(self: &Arc<Self>, outcome: Outcome) -> Outcome {
        let clean = |text: String| crate::event::clip(self.redact(&text));
        match outcome {
            Outcome::Error { message, retry_after_ms } => Outcome::Error { message: clean(message), retry_after_ms },
            Outcome::Permanent { message } => Outcome::Permanent { message: clean(message) },
            Outcome::Snoozed { for_ms, reason } => Outcome::Snoozed { for_ms, reason: reason.map(clean) },
            Outcome::SelfCancelled { reason } => Outcome::SelfCancelled { reason: clean(reason) },
            Outcome::Released { reason } => Outcome::Released { reason: clean(reason) },
            Outcome::Lost { reason } => Outcome::Lost { reason: clean(reason) },
            outcome @ (Outcome::Ok | Outcome::Timeout | Outcome::Cancelled) => outcome,
        }
    }

    /// Takes what is looked for out of what a run left in its directory beside its logs. What can't be cleaned is removed.
    pub(crate) fn redact_run(self: &Arc<Self>, directory: &Path) {
        for path in [outcome_path(directory), result_path(directory)] {
            if let Err(error) = self.redact_file(&path) {
                tracing::error!(path = %path.display(), %error, "failed to take secrets out of a file; it is removed");
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Takes what is looked for out of a file, if it is a plain one. A link is left for whoever refuses it.
    pub(crate) fn redact_file(self: &Arc<Self>, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut from = File::options().read(true).custom_flags(no_follow).open(path)?;
        let beside = beside(path);
        remove_if_there(&beside)?;
        let mut to = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        let mut redactor = Redactor::new(Arc::clone(self));
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk)? {
                0 => break,
                count => to.write_all(&redactor.push(chunk.get(..count).unwrap_or_default()))?,
            }
        }
        to.write_all(&redactor.finish())?;
        fs::rename(&beside, path)
    }
}

/// Removes what a run with secrets left of which nobody has taken them out, because the daemon ended before it did: its
/// result and its outcome, wherever a sandbox or a container put them, and its working directory. Its logs stay, since what
/// is in them was searched before it was written.
///
/// # Errors
/// The first that comes up; the rest is removed all the same.
pub fn discard_unsearched(directory: &Path) -> io::Result<()> {
    let [outcome, result] = [outcome_path(directory), result_path(directory)];
    let (outcome_beside, result_beside) = (beside(&outcome), beside(&result));
    let removals = [
        fs::remove_file(outcome),
        fs::remove_file(result),
        fs::remove_file(outcome_beside),
        fs::remove_file(result_beside),
        remove_tree(&work_path(directory)),
        remove_tree(&words_path(directory)),
        remove_tree(&exchange_path(directory)),
    ];
    let is_gone = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound);
    removals.into_iter().filter(|removed| !removed.as_ref().is_err_and(is_gone)).collect()
}

/// Where the searched copy of a file is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("clean")
}

/// What of a needle stands at the beginning of a text.
enum Meeting {
    /// Nothing, or not all of it.
    None,
    /// All that there is room for.
    Begun,
    /// All of it, in so many bytes of the text.
    Whole(usize),
}

/// Compares a needle with the beginning of a text, which may have one line break between any two of its bytes.
fn meet(form: &[u8], text: &[u8]) -> Meeting {
    let mut at = 0;
    for (index, wanted) in form.iter().enumerate() {
        let rest = text.get(at..).unwrap_or_default();
        let skipped = match rest {
            [found, ..] if found == wanted => 0,
            [b'\r', b'\n', ..] if *wanted == b'\n' => 1,
            [b'\r', b'\n', ..] if index > 0 => 2,
            [b'\n', ..] if index > 0 => 1,
            [] | [b'\r'] if index > 0 => return Meeting::Begun,
            _ => return Meeting::None,
        };
        match rest.get(skipped) {
            Some(found) if found == wanted => at += skipped + 1,
            Some(_) => return Meeting::None,
            None => return Meeting::Begun,
        }
    }
    Meeting::Whole(at)
}

/// Takes the secrets of a run out of texts that do not pass through its executor. Clones share what is looked for.
#[derive(Clone, Debug)]
pub struct Redaction(Arc<Needles>);

impl Redaction {
    /// What has to be looked for in what a run says; none if it has no secrets.
    #[must_use]
    pub fn of(secrets: &Secrets) -> Option<Self> {
        Needles::of(secrets).map(Self)
    }

    /// A whole text without them.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.0.redact(text)
    }
}

/// One stream on its way through.
pub(crate) struct Redactor {
    needles: Arc<Needles>,
    /// What may be the beginning of something. Shorter than the longest needle with a line break behind each byte.
    held: Vec<u8>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    pub(crate) const fn new(needles: Arc<Needles>) -> Self {
        Self { needles, held: Vec::new() }
    }

    /// Takes in a piece, and returns what may pass.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        let (passed, at) = self.strain(&text, false);
        self.held = text.get(at..).unwrap_or_default().to_vec();
        let most = self.needles.longest.max(1).saturating_mul(BROKEN_BYTES);
        debug_assert!(self.held.len() < most, "more is held back than can be waited for");
        passed
    }

    /// Returns what was held back, since nothing follows.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.held);
        self.strain(&text, true).0
    }

    /// Goes through a text up to where more would have to be known.
    fn strain(&self, text: &[u8], is_last: bool) -> (Vec<u8>, usize) {
        let mut passed = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            match self.needles.at(rest) {
                (_, true) if !is_last => break,
                (Some((length, mark)), _) => {
                    passed.extend_from_slice(mark.as_bytes());
                    at += length;
                }
                (None, _) => {
                    passed.extend(rest.first());
                    at += 1;
                }
            }
        }
        (passed, at)
    }
}

/// The forms in which programs write a value.
fn written_forms(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.len() < NEEDLE_BYTES_MIN {
        return Vec::new();
    }
    let mut forms = vec![bytes.to_vec()];
    for alphabet in ALPHABETS {
        forms.extend((0..3).map(|shift| base64_core(bytes, shift, alphabet)));
    }
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    forms.extend([hex.to_uppercase(), hex].map(String::into_bytes));
    for kept in PERCENT_KEPT {
        for form in [
            percent(bytes, kept, |text, byte| write!(text, "%{byte:02X}")),
            percent(bytes, kept, |text, byte| write!(text, "%{byte:02x}")),
        ] {
            // As forms have it. A percent sign of the value itself has become `%25`, unless that is kept.
            forms.push(form.replace("%20", "+").into_bytes());
            forms.push(form.into_bytes());
        }
    }
    forms.extend(
        json_forms(text).into_iter().chain(literal_forms(text)).chain(html_forms(text)).map(String::into_bytes),
    );
    forms
}

/// A value inside a JSON text: with as little escaped as can be, with slashes, without any letter beyond ASCII, and with
/// what HTML would take for its own.
fn json_forms(text: &str) -> Vec<String> {
    let Ok(json) = serde_json::to_string(text) else { return Vec::new() };
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json);
    let mut ascii = String::with_capacity(inner.len());
    for letter in inner.chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a text can't fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    let for_html = inner.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    let slashed = [inner, ascii.as_str()].map(|form| form.replace('/', "\\/"));
    slashed.into_iter().chain([inner.to_owned(), ascii, for_html]).collect()
}

/// A value as programs show a text of theirs between quotes that it doesn't have, and between single ones.
fn literal_forms(text: &str) -> [String; 2] {
    let doubled = text.replace('\\', r"\\");
    let quoted = doubled.replace('\'', r"\'");
    [doubled, quoted]
}

/// A value inside a page.
fn html_forms(text: &str) -> [String; 7] {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    QUOTES.map(|[double, single]| escaped.replace('"', double).replace('\'', single))
}

/// A value as part of an address. Writing to a text can't fail.
fn percent(bytes: &[u8], kept: &[u8], write: impl Fn(&mut String, u8) -> std::fmt::Result) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write(&mut text, *byte);
        }
    }
    text
}

/// The letters of base64 that depend on `bytes` alone where those begin at the byte `shift` of a group of three.
fn base64_core(bytes: &[u8], shift: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| -> usize {
        // Bits count from the beginning of the group; those before the value are not its own.
        let Some(at) = at.checked_sub(shift * 8) else { return 0 };
        let byte = bytes.get(at / 8).copied().unwrap_or_default();
        usize::from(byte >> (7 - at % 8) & 1)
    };
    let first = (shift * 8).div_ceil(6);
    let last = (shift + bytes.len()) * 8 / 6;
    let letter = |index: usize| {
        let value = (0..6).fold(0, |value, offset| value << 1 | bit(index * 6 + offset));
        alphabet.get(value).copied()
    };
    (first..last).filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::secret::Secret;

    fn needles(values: &[(&str, &str)]) -> Arc<Needles> {
        let mut secrets = Secrets::default();
        for (name, value) in values {
            secrets.insert(name.to_uppercase(), (*name).to_owned(), Secret::new((*value).to_owned()));
        }
        Needles::of(&secrets).unwrap()
    }

    fn in_pieces(needles: &Arc<Needles>, text: &[u8], size: usize) -> String {
        let mut redactor = Redactor::new(Arc::clone(needles));
        let mut clean: Vec<u8> = text.chunks(size).flat_map(|piece| redactor.push(piece)).collect();
        clean.extend(redactor.finish());
        String::from_utf8(clean).unwrap()
    }

    #[test]
    fn a_value_is_found_however_it_is_cut() {
        let needles = needles(&[("db", "correct horse"), ("api", "correct horse battery")]);
        let text = b"a correct horse, a correct horse battery, a correct hors";
        for size in 1..text.len() {
            let clean = in_pieces(&needles, text, size);
            assert_eq!(clean, "a [secret db], a [secret api], a correct hors", "in pieces of {size}");
        }
    }

    #[test]
    fn a_value_is_found_in_every_form() {
        let needles = needles(&[("key", "pä$$w\"rd/+ü?>1")]);
        assert_eq!(needles.redact("pä$$w\"rd/+ü?>1"), "[secret key]");
        assert_eq!(needles.redact("70c3a42424772272642f2bc3bc3f3e31"), "[secret key]");
        assert_eq!(needles.redact("70C3A42424772272642F2BC3BC3F3E31"), "[secret key]");
        assert_eq!(needles.redact("p%C3%A4%24%24w%22rd%2F%2B%C3%BC%3F%3E1"), "[secret key]");
        assert_eq!(needles.redact(r#"{"a":"pä$$w\"rd/+ü?>1"}"#), r#"{"a":"[secret key]"}"#);
        // Alone, behind `user:`, and behind one letter in the other alphabet.
        for (encoded, inner) in
            [("cMOkJCR3InJkLyvDvD8+MQ==", "JCR3InJk"), ("dXNlcjpww6QkJHcicmQvK8O8Pz4x", "JHcicmQv"), ("eHDDpCQkd", "9")]
        {
            let clean = needles.redact(encoded);
            assert!(!clean.contains(inner), "{clean}");
        }
        assert!(needles.redact("cMOkJCR3InJkLyvDvD8+MQ==").starts_with("[secret key]"));
    }

    /// What common programs make of one value. The halves around a letter that they write in their own way were readable.
    #[test]
    fn a_value_is_found_as_programs_escape_it() {
        let needles = needles(&[("key", r#"p&a"s's\wo/r<d> ü-Qx77zz"#)]);
        for form in [
            // Percent: Python's quote and quote_plus, the same in lower case, encodeURIComponent, encodeURI.
            r"p%26a%22s%27s%5Cwo/r%3Cd%3E%20%C3%BC-Qx77zz",
            r"p%26a%22s%27s%5Cwo%2Fr%3Cd%3E+%C3%BC-Qx77zz",
            r"p%26a%22s%27s%5cwo/r%3cd%3e%20%c3%bc-Qx77zz",
            r"p%26a%22s's%5Cwo%2Fr%3Cd%3E%20%C3%BC-Qx77zz",
            r"p&a%22s's%5Cwo/r%3Cd%3E%20%C3%BC-Qx77zz",
            // JSON: plain, of PHP, of Python, of Go.
            r#"p&a\"s's\\wo/r<d> ü-Qx77zz"#,
            r#"p&a\"s's\\wo\/r<d> \u00fc-Qx77zz"#,
            r#"p&a\"s's\\wo\/r<d> ü-Qx77zz"#,
            r#"p&a\"s's\\wo/r<d> \u00fc-Qx77zz"#,
            r#"p\u0026a\"s's\\wo/r\u003cd\u003e ü-Qx77zz"#,
            // Literals.
            r#"p&a"s's\\wo/r<d> ü-Qx77zz"#,
            r#"p&a"s\'s\\wo/r<d> ü-Qx77zz"#,
            // HTML: text, Python, JavaScript, PHP, XML, Go.
            r#"p&amp;a"s's\wo/r&lt;d&gt; ü-Qx77zz"#,
            r"p&amp;a&quot;s&#x27;s\wo/r&lt;d&gt; ü-Qx77zz",
            r"p&amp;a&quot;s&#39;s\wo/r&lt;d&gt; ü-Qx77zz",
            r"p&amp;a&quot;s&#039;s\wo/r&lt;d&gt; ü-Qx77zz",
            r"p&amp;a&quot;s&apos;s\wo/r&lt;d&gt; ü-Qx77zz",
            r"p&amp;a&#34;s&#39;s\wo/r&lt;d&gt; ü-Qx77zz",
        ] {
            assert_eq!(needles.redact(&format!("<{form}>")), "<[secret key]>", "{form}");
        }
    }

    #[test]
    fn base64_is_found_at_every_place_of_a_group() {
        // What the standard says of `Man` and its like.
        let alphabet = ALPHABETS[0];
        assert_eq!(base64_core(b"Man", 0, alphabet), b"TWFu");
        assert_eq!(base64_core(b"light w", 0, alphabet), b"bGlnaHQgd");
        // "xMan" is eE1hbg==, "xxMan" is eHhNYW4=.
        assert_eq!(base64_core(b"Man", 1, alphabet), b"1hb");
        assert_eq!(base64_core(b"Man", 2, alphabet), b"NYW");
    }

    #[test]
    fn what_is_short_or_ordinary_passes_at_once() {
        let needles = needles(&[("pin", "123"), ("word", "hunter2")]);
        let mut redactor = Redactor::new(Arc::clone(&needles));
        assert_eq!(redactor.push(b"123 and more\n"), b"123 and more\n");
        assert_eq!(redactor.push(b"the hunt"), b"the ");
        assert_eq!(redactor.push(b"ing of the hunter"), b"hunting of the ");
        assert_eq!(redactor.push(b"2!"), b"[secret word]!");
        assert_eq!(redactor.finish(), b"");
    }

    #[test]
    fn lines_of_a_long_value_are_found_alone() {
        let needles = needles(&[("pem", "-----BEGIN KEY-----\nMIIEvgIBADANBg\nkqhkiG9w0BAQ\n-----END KEY-----\n")]);
        assert_eq!(needles.redact("line: kqhkiG9w0BAQ."), "line: [secret pem].");
    }

    #[test]
    fn a_line_break_hides_nothing() {
        let needles = needles(&[("key", "canary-0123456789-canary-0123456789-canary-0123456789-canary")]);
        let encoded = "Y2FuYXJ5LTAxMjM0NTY3ODktY2FuYXJ5LTAxMjM0NTY3ODktY2FuYXJ5LTAxMjM0NTY3ODktY2Fu\nYXJ5\n";
        assert_eq!(needles.redact(encoded), "[secret key]\n");
        for broken in [
            "canary-0123456789-canary-01\n23456789-canary-0123456789-canary",
            "canary-0123456789-canary-01\r\n23456789-canary-0123456789-\ncanary",
            "c\na\nnary-0123456789-canary-0123456789-canary-0123456789-canary",
        ] {
            assert_eq!(needles.redact(&format!("it is\n{broken}\n!")), "it is\n[secret key]\n!");
            for size in 1..broken.len() {
                assert_eq!(in_pieces(&needles, broken.as_bytes(), size), "[secret key]", "in pieces of {size}");
            }
        }
        assert_eq!(needles.redact("canary\n\n-0123456789"), "canary\n\n-0123456789");
        assert_eq!(needles.redact("\ncanary\r"), "\ncanary\r");
    }

    #[test]
    fn files_and_outcomes_are_cleaned_and_links_left_alone() {
        let needles = needles(&[("word", "hunter2")]);
        let place = tempfile::tempdir().unwrap();
        let (file, link) = (place.path().join("result"), place.path().join("outcome"));
        fs::write(&file, "it is hunter2").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        needles.redact_file(&link).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "it is hunter2");
        needles.redact_file(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "it is [secret word]");
        needles.redact_file(&place.path().join("nothing")).unwrap();
        let outcome = needles.redact_outcome(Outcome::error("hunter2 is wrong"));
        assert_eq!(outcome, Outcome::error("[secret word] is wrong"));
    }
}
