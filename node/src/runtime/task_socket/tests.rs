//! Lines of bytes, as they come.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

async fn all(bytes: &[u8]) -> Vec<Heard> {
    let mut reader = BufReader::new(bytes);
    let mut heard = Vec::new();
    loop {
        let next = hear(&mut reader, PATIENCE).await;
        if next == Heard::End {
            return heard;
        }
        let is_last = next == Heard::TooLong;
        heard.push(next);
        if is_last {
            return heard;
        }
    }
}

#[tokio::test]
async fn lines_end_at_their_ends_and_the_last_one_needs_none() {
    let line = |text: &str| Heard::Line(text.as_bytes().to_vec());
    assert_eq!(all(b"{}\n\nlast").await, [line("{}"), line(""), line("last")]);
    assert_eq!(all(b"").await, []);
}

#[tokio::test]
async fn the_longest_line_is_taken_and_one_more_byte_is_not() {
    let longest = usize::try_from(LINE_BYTES_MAX).unwrap();
    let mut bytes = vec![b'x'; longest];
    assert_eq!(all(&bytes).await, [Heard::Line(bytes.clone())]);
    bytes.push(b'\n');
    assert_eq!(all(&bytes).await.len(), 1);
    bytes.insert(0, b'x');
    assert_eq!(all(&bytes).await, [Heard::TooLong]);
}

#[tokio::test]
async fn whoever_does_not_say_in_time_whose_it_is_is_let_go() {
    let (_near, far) = tokio::io::duplex(64);
    let deadline = Instant::now() + Duration::from_millis(1);
    assert_eq!(hear(&mut BufReader::new(far), PATIENCE.until(deadline)).await, Heard::Silent);
}

#[tokio::test]
async fn a_line_that_does_not_end_and_a_client_that_says_nothing_are_let_go() {
    let (mut near, far) = tokio::io::duplex(64);
    let mut reader = BufReader::new(far);
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(600));
    assert_eq!(hear(&mut reader, Patience { idle: short, line: long }).await, Heard::Silent);
    near.write_all(b"{").await.unwrap();
    assert_eq!(hear(&mut reader, Patience { idle: long, line: short }).await, Heard::TooSlow);
}

/// An error of a parser quotes the line, of which a client could have its own back in megabytes that it never read.
#[test]
fn why_a_line_can_not_be_read_is_told_briefly_and_what_submits_is_known() {
    let long = format!("{{\"{}\":1}}", "x".repeat(100_000));
    let error = talk::unreadable(&serde_json::from_str::<talk::Line>(&long).unwrap_err());
    assert!(error.message.len() < 300 && error.message.contains("unknown field"), "{}", error.message.len());
    let spec = r#"{"submit":{"spec":{"job_type":"x","task":{"noop":{}}}}}"#;
    assert!(talk::is_submission(spec.as_bytes()) && !talk::is_submission(br#"{"progress":1}"#));
}
