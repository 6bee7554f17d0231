//! Questions to a real model, and vectors of another one.

use jobmesh_tests::Value;

use crate::kind::{Kind, Options, options};
use crate::relay::Relay;
use crate::site::Site;

/// Most bytes of all texts of one task, as `jobmesh-executors` has it.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Questions to a real model.
pub(crate) struct Question(Relay);

impl Question {
    pub(crate) fn find() -> Option<Self> {
        Relay::find().map(Self)
    }
}

/// A question to a model of this name, with an answer that is short and always the same.
fn question(model: &str, text: &str) -> Options {
    options(&["--llm", text, "--model", model, "--tokens", "24", "--temperature", "0"])
}

impl Kind for Question {
    fn name(&self) -> &'static str {
        "llm"
    }

    fn tables(&self) -> String {
        self.0.tables("smollm2-135m-instruct", "chat")
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let text = site.file("question", b"What is the capital of France? Answer in one short sentence.");
        (question("open", &format!("@{text}")), "answer.txt")
    }

    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]) {
        let answer = String::from_utf8_lossy(left);
        assert!(answer.contains("Paris"), "{answer}");
        assert_eq!(site.a.wrote(job), answer);
        assert_eq!(site.a.json(&["result", job])["result"]["text"], answer.as_ref());
    }

    fn judge_account(&self, account: &Value) {
        let used = &account["model"];
        assert_eq!((&used["provider"], &used["model"]), (&"open".into(), &"smollm2-135m-instruct".into()), "{used}");
        assert!(used["finish"].is_string() && used["latency_ms"].is_u64(), "{used}");
    }

    fn waiting(&self, _site: &Site<'_>) -> Options {
        question("waiting", "Tell me of the sea.")
    }

    fn let_go(&self, _site: &Site<'_>) {
        self.0.go.give();
    }

    fn endless(&self, _site: &Site<'_>) -> Options {
        question("endless", "Tell me of the sea.")
    }

    fn is_gone(&self, _site: &Site<'_>) {
        assert!(self.0.gone.take(), "the provider still has its connection");
    }

    fn greedy(&self, site: &Site<'_>) -> (Options, &'static str) {
        let text = site.file("long", "word ".repeat(4_000).as_bytes());
        (question("open", &format!("@{text}")), "longer than the model's context")
    }
}

/// Vectors of a real model.
pub(crate) struct Embedding(Relay);

impl Embedding {
    pub(crate) fn find() -> Option<Self> {
        Relay::find().map(Self)
    }
}

/// So many texts to a model of this name: more than a hundred are two requests.
fn texts(model: &str, count: usize) -> Options {
    let texts = (0..count).flat_map(|number| ["--embed".to_owned(), format!("text number {number}")]);
    texts.chain(options(&["--model", model])).collect()
}

impl Kind for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn tables(&self) -> String {
        self.0.tables("all-minilm-l6-v2", "embedding")
    }

    fn stream(&self) -> &'static str {
        "--stderr"
    }

    fn copying(&self, site: &Site<'_>) -> (Options, &'static str) {
        let text = format!("@{}", site.file("text", b"How do I reset my password?"));
        (options(&["--embed", &text, "--model", "open"]), "vectors.json")
    }

    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]) {
        let vectors: Value = std::str::from_utf8(left).unwrap().parse().unwrap();
        assert_eq!(vectors["dimension"], 384);
        assert_eq!(vectors["embeddings"][0].as_array().map(Vec::len), Some(384));
        assert_eq!(site.a.run(&["result", job]).stdout, left);
    }

    fn judge_account(&self, account: &Value) {
        let used = &account["model"];
        assert_eq!((&used["model"], &used["dimension"]), (&"all-minilm-l6-v2".into(), &384.into()), "{used}");
        assert!(used["input_tokens"].as_u64() > Some(0), "{used}");
    }

    fn waiting(&self, _site: &Site<'_>) -> Options {
        texts("waiting", 120)
    }

    fn let_go(&self, _site: &Site<'_>) {
        assert!(self.0.held.take(), "the provider was not asked for the last text");
        self.0.go.give();
    }

    fn endless(&self, _site: &Site<'_>) -> Options {
        texts("endless", 1)
    }

    fn is_under_way(&self, _site: &Site<'_>, _job: &str) {
        assert!(self.0.held.take(), "the provider was not asked");
    }

    fn is_gone(&self, _site: &Site<'_>) {
        assert!(self.0.gone.take(), "the provider still has its connection");
    }

    fn greedy(&self, site: &Site<'_>) -> (Options, &'static str) {
        let text = format!("@{}", site.file("long", &vec![b'x'; TEXT_BYTES_MAX + 1]));
        (options(&["--embed", &text, "--model", "open"]), "the texts have more than 67108864 bytes together")
    }
}
