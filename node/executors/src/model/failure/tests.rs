//! Bodies as providers send them, in their shapes, with words of our own.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

fn judged(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let key = Key::new("sk-canary-1234567890");
    Answer { status: Some(status), headers: Some(&map), body, key: key.as_ref() }.judge()
}

fn remedy(status: u16, body: &str) -> Remedy {
    judged(status, &[], body).remedy
}

#[test]
fn openai() {
    let of = |status, body| remedy(status, body);
    let wait = judged(
        429,
        &[("retry-after", "3"), ("retry-after-ms", "2500")],
        r#"{"error":{"message":"Slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
    );
    assert_eq!(wait.remedy, Remedy::Later(DurationMillis(2_500)));
    assert_eq!(wait.message, "the provider takes no more requests for now (429): Slow down");
    let body =
        r#"{"error":{"message":"No money","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    assert_eq!(of(429, body), Remedy::OtherProvider);
    let body = r#"{"error":{"message":"8193 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    assert_eq!(of(400, body), Remedy::Fatal);
    assert!(judged(400, &[], body).message.contains("longer than the model's context"));
    let body = r#"{"error":{"message":"No such model","type":"invalid_request_error","code":"model_not_found"}}"#;
    assert_eq!(of(404, body), Remedy::Fatal);
    assert_eq!(of(500, r#"{"error":{"message":"Oops","type":"server_error","code":null}}"#), Remedy::Retry);
    assert_eq!(of(503, "<html><body>Bad gateway</body></html>"), Remedy::Retry);
    assert_eq!(of(400, "{}"), Remedy::Fatal);
    let body = r#"{"error":{"message":"Wrong key: sk-canar********7890.","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let wrong = judged(401, &[], body);
    assert_eq!(wrong.remedy, Remedy::OtherProvider);
    assert_eq!(wrong.message, "the provider does not accept the key (401): Wrong key: [key]");
}

#[test]
fn anthropic() {
    let of = |status, body| remedy(status, body);
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
    assert_eq!(of(529, body), Remedy::Retry);
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Too many"}}"#;
    let wait = judged(429, &[("retry-after", "40")], body);
    assert_eq!(wait.remedy, Remedy::Later(DurationMillis(40_000)));
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Limit","details":{"error_code":"enforced_spend_limit_reached"}}}"#;
    assert_eq!(of(429, body), Remedy::OtherProvider);
    let body =
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#;
    assert_eq!(of(400, body), Remedy::OtherProvider);
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000"}}"#;
    assert_eq!(of(400, body), Remedy::Fatal);
    let body = r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#;
    assert_eq!(of(404, body), Remedy::Fatal);
    let body = r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#;
    assert_eq!(of(403, body), Remedy::OtherProvider);
}

#[test]
fn gemini() {
    let of = |status, body| remedy(status, body);
    let body = r#"{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"x.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProject"}]},
        {"@type":"x.RetryInfo","retryDelay":"37.5s"}]}}"#;
    assert_eq!(of(429, body), Remedy::Later(DurationMillis(37_500)));
    let body = r#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"x.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProject"}]}]}}]"#;
    assert_eq!(of(429, body), Remedy::OtherProvider);
    let body = r#"{"error":{"code":400,"message":"Key not valid","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;
    assert_eq!(of(400, body), Remedy::OtherProvider);
    let body = r#"{"error":{"code":400,"message":"The input exceeds the maximum number of tokens allowed","status":"INVALID_ARGUMENT"}}"#;
    assert_eq!(of(400, body), Remedy::Fatal);
    assert_eq!(of(503, r#"{"error":{"code":503,"message":"Overloaded","status":"UNAVAILABLE"}}"#), Remedy::Retry);
    assert_eq!(of(402, "{}"), Remedy::OtherProvider);
}

#[test]
fn ollama() {
    let of = |status, body| remedy(status, body);
    let missing = judged(404, &[], r#"{"error":"model \"x\" not found, try pulling it first"}"#);
    assert_eq!(missing.remedy, Remedy::Fatal);
    assert!(missing.message.ends_with("model \"x\" not found, try pulling it first"));
    assert_eq!(of(503, r#"{"error":"server busy, please try again"}"#), Remedy::Retry);
    assert_eq!(of(500, r#"{"error":"llama runner process has terminated"}"#), Remedy::Retry);
    assert_eq!(of(400, r#"{"error":"invalid options"}"#), Remedy::Fatal);
}

#[test]
fn a_refusal_in_the_middle_of_an_answer_has_no_status() {
    let of = |body| Answer { status: None, headers: None, body, key: None }.judge().remedy;
    assert_eq!(of(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#), Remedy::Retry);
    assert_eq!(of(r#"{"error":{"type":"insufficient_quota","message":"x"}}"#), Remedy::OtherProvider);
    assert_eq!(of(r#"{"error":{"type":"invalid_request_error","message":"x"}}"#), Remedy::Fatal);
}
