//! The one text form of bytes: lower-case base32 (RFC 4648 alphabet) without padding.
//!
//! Decoding is strict: upper case, padding and stray trailing bits are refused, so two different
//! texts never mean the same bytes and ids can be compared as text.

use data_encoding::BASE32_NOPAD;

/// Returns `bytes` as text.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

/// Returns the bytes that `text` stands for, or `None` if it is not exactly what [`encode`] writes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()
}

/// Returns how many characters [`encode`] writes for `bytes` bytes.
pub(crate) const fn encoded_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_is_strict() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|index| index ^ 0xA5).collect();
            let text = encode(&bytes);
            assert_eq!(text.len(), encoded_length(bytes.len()));
            assert_eq!(decode(&text), Some(bytes));
        }
        assert_eq!(decode("me"), Some(vec![b'a']));
        assert_eq!(decode("ME"), None, "upper case");
        assert_eq!(decode("mf"), None, "trailing bits that carry no byte");
        assert_eq!(decode("me======"), None, "padding");
    }
}
