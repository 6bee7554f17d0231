//! A secret that is nowhere else, in every form in which it might come to light.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::Node;

/// The value. It is written in another way by each of the ways of writing.
pub const CANARY: &str = "canary-7f3Kq9/value+\"that-is-nowhere-else";

const ALPHABETS: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Puts the value into a file that only its owner may read, and returns its path.
///
/// # Panics
/// If it can't be written.
#[must_use]
pub fn canary_file(folder: &Path) -> String {
    let path = folder.join("canary");
    fs::write(&path, format!("{CANARY}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a private file");
    path.display().to_string()
}

/// Whether the value is in these bytes.
#[must_use]
pub fn has_canary(bytes: &[u8]) -> bool {
    forms().iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
}

/// The files below a folder in which the value is.
#[must_use]
pub fn canary_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(canary_files(&path)),
            Ok(kind) if kind.is_file() && has_canary(&fs::read(&path).unwrap_or_default()) => {
                found.push(path.display().to_string());
            }
            // A socket or a pipe keeps nothing.
            Ok(_) | Err(_) => {}
        }
    }
    found
}

impl Node {
    /// Looks for the value in all that this node has on disk and in what its commands say of a job and of itself.
    ///
    /// # Panics
    /// If it is anywhere.
    pub fn assert_no_canary(&self, job: &str) {
        let mut all = vec![vec!["status"], vec!["ls", "-a"], vec!["secrets"], vec!["config", "show"], vec!["learn"]];
        all.extend([vec!["events"], vec!["metrics"], vec!["peers"], vec!["doctor"], vec!["types"]]);
        all.extend(["show", "logs", "result", "explain", "artifacts", "receipt"].map(|word| vec![word, job]));
        all.push(vec!["logs", "--stderr", job]);
        for peer in self.json(&["peers"])["peers"].as_array().into_iter().flatten() {
            let name = peer["name"].as_str().unwrap_or_default();
            let exported = self.run(&["audit", "export", name]);
            assert!(!has_canary(&exported.stdout), "audit export {name}");
        }
        for words in all {
            for json in [&[][..], &["--json"]] {
                let run = self.run(&[json, &words].concat());
                let has = has_canary(&run.stdout) || has_canary(run.stderr.as_bytes());
                assert!(!has, "{words:?}: {}{}", run.text(), run.stderr);
            }
        }
        assert_eq!(canary_files(self.home()), Vec::<String>::new(), "of {}", self.name());
    }
}

/// The ways in which programs write it.
fn forms() -> BTreeSet<String> {
    let hex: String = CANARY.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let percent = |keep: &str| -> String {
        CANARY.bytes().fold(String::new(), |mut text, byte| {
            if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
            text
        })
    };
    let json = serde_json::to_string(CANARY).expect("a text");
    let mut forms = BTreeSet::from([CANARY.to_owned(), hex.to_uppercase(), hex, json.trim_matches('"').to_owned()]);
    forms.extend([percent("-._~"), percent("-._~/+"), percent("-._~+"), percent("-._~/")]);
    for alphabet in ALPHABETS {
        forms.extend((0..3).map(|shift| core(shift, alphabet)));
    }
    forms
}

/// Those letters of its base64 behind `shift` other bytes that depend on nothing else.
fn core(shift: usize, alphabet: &[u8; 64]) -> String {
    let bytes: Vec<u8> = std::iter::repeat_n(b'x', shift).chain(CANARY.bytes()).collect();
    let mut text = String::new();
    for group in bytes.chunks_exact(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for letter in (0..4).rev() {
            let index = usize::try_from(bits >> (6 * letter) & 63).expect("six bits");
            text.push(char::from(alphabet[index]));
        }
    }
    text.split_off((shift * 8).div_ceil(6))
}
