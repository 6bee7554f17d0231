//! What the owner of a node says of models: who provides them, what they cost, and which of them answers what.
//!
//! A model that runs on this very machine takes processors from every other job: give the job type that asks it the
//! resources that it takes (`cpus`, a pool of its own), and as many run at once as there is room for.

use std::collections::BTreeMap;

use jobmesh_protocol::task::Complexity;

/// Most providers and models of a node; each model is a tag that it advertises.
pub const MODELS_MAX: usize = 64;
/// Most models that are tried after one whose provider fails.
pub const FALLBACKS_MAX: usize = 8;

/// What the owner of a node says of models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Who provides them, by names of the owner's choice.
    pub providers: BTreeMap<String, Provider>,
    /// The models, by names of the owner's choice.
    pub models: BTreeMap<String, Model>,
    /// Which of them answers what names none.
    pub classes: Classes,
    /// How hard the questions of a job's type are, where the job doesn't say.
    pub types: BTreeMap<String, Complexity>,
}

impl Settings {
    /// The same, with the providers that the variables of the environment tell of if none is configured: those of which
    /// most people's machines have one already.
    #[must_use]
    pub fn or_usual(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        if !self.providers.is_empty() {
            return self;
        }
        let told = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let usual = [
            (ProviderKind::OpenAi, "OPENAI_API_KEY", told("OPENAI_BASE_URL")),
            (ProviderKind::Anthropic, "ANTHROPIC_API_KEY", None),
            (ProviderKind::Gemini, "GEMINI_API_KEY", None),
        ];
        for (kind, key, base_url) in usual {
            let key = told(key).map(|_| KeySource::Variable(key.to_owned()));
            if key.is_some() || base_url.is_some() {
                let peers = key.is_none();
                self.providers.insert(kind.word().to_owned(), Provider { kind, base_url, key, peers });
            }
        }
        if let Some(host) = told("OLLAMA_HOST") {
            let (kind, base_url) = (ProviderKind::Ollama, Some(ollama_url(&host)));
            self.providers.insert(kind.word().to_owned(), Provider { kind, base_url, key: None, peers: true });
        }
        self
    }
}

/// What Ollama's own variable says, as an address: it also tells the server where to listen, without a scheme or a port.
fn ollama_url(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let rest = rest.trim_end_matches('/').replace("0.0.0.0", "127.0.0.1");
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let port = if has_port || scheme == "https" { "" } else { ":11434" };
    format!("{scheme}://{rest}{port}/")
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What it understands.
    pub kind: ProviderKind,
    /// Its address in place of the kind's usual one.
    pub base_url: Option<String>,
    /// Where its key is, if it wants one.
    pub key: Option<KeySource>,
    /// Whether the jobs of peers may ask it. They are asked on the owner's bill.
    pub peers: bool,
}

/// What a provider understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// The interface of OpenAI, which nearly every server of models offers.
    OpenAi,
    /// The messages of Anthropic.
    Anthropic,
    /// Gemini, of Google.
    Gemini,
    /// Ollama's own.
    Ollama,
}

impl ProviderKind {
    /// All of them by their words in the configuration.
    pub const WORDS: [(&'static str, Self); 4] =
        [("openai", Self::OpenAi), ("anthropic", Self::Anthropic), ("gemini", Self::Gemini), ("ollama", Self::Ollama)];

    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// Where it is usually found.
    #[must_use]
    pub(crate) const fn usual_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://127.0.0.1:11434/",
        }
    }
}

impl Provider {
    /// Its address, which everything that it is asked begins with.
    #[must_use]
    pub fn url(&self) -> String {
        let url = self.base_url.as_deref().unwrap_or(self.kind.usual_url());
        if url.ends_with('/') { url.to_owned() } else { format!("{url}/") }
    }
}

/// Where a key is kept. The key itself is read when it is needed, and nowhere written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// A variable of the daemon's environment.
    Variable(String),
    /// A secret of the node.
    Secret(String),
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// It answers questions.
    Chat,
    /// It turns texts into vectors.
    Embedding,
}

/// One model of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The provider's name in [`Settings::providers`].
    pub provider: String,
    /// Its name there.
    pub model: String,
    /// What it is for.
    pub kind: ModelKind,
    /// What a million tokens of a question cost, in millionths of a US dollar.
    pub input_price_micros: Option<u64>,
    /// The same of an answer.
    pub output_price_micros: Option<u64>,
    /// The models that are asked instead when its provider fails, by their names, in order.
    pub fallback: Vec<String>,
}

impl Model {
    /// What so many tokens cost, in millionths of a US dollar; none if a number or a price is not known.
    #[must_use]
    pub fn cost_micros(&self, input: Option<u64>, output: Option<u64>) -> Option<u64> {
        let part = |tokens: Option<u64>, price: Option<u64>| Some(u128::from(tokens?) * u128::from(price?));
        let total = match self.kind {
            ModelKind::Chat => {
                part(input, self.input_price_micros)?.checked_add(part(output, self.output_price_micros)?)?
            }
            // Nothing is written, so nothing is paid for it.
            ModelKind::Embedding => part(input, self.input_price_micros)?,
        };
        u64::try_from(total.div_ceil(1_000_000)).ok()
    }
}

/// The usual models, by their names in [`Settings::models`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// For simple questions.
    pub simple: Option<String>,
    /// For ordinary ones.
    pub medium: Option<String>,
    /// For hard ones.
    pub complex: Option<String>,
    /// For vectors.
    pub embedding: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_environment_counts_if_nothing_is_configured() {
        let found = |pairs: &[(&str, &str)], settings: Settings| {
            let told: BTreeMap<String, String> =
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            settings.or_usual(|name| told.get(name).cloned()).providers
        };
        assert!(found(&[("OPENAI_API_KEY", "")], Settings::default()).is_empty());
        let all = [("OPENAI_API_KEY", "k"), ("GEMINI_API_KEY", "k"), ("OLLAMA_HOST", "0.0.0.0")];
        let providers = found(&all, Settings::default());
        assert_eq!(providers.keys().collect::<Vec<_>>(), ["gemini", "ollama", "openai"]);
        assert!(providers.get("openai").is_some_and(|it| !it.peers && it.url() == "https://api.openai.com/v1/"));
        assert!(providers.get("ollama").is_some_and(|it| it.peers && it.url() == "http://127.0.0.1:11434/"));
        let local = found(&[("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")], Settings::default());
        assert!(local.get("openai").is_some_and(|it| it.peers && it.url() == "http://127.0.0.1:8080/v1/"));
        let own = Settings { providers: local, ..Settings::default() };
        assert_eq!(found(&all, own).len(), 1);
    }

    #[test]
    fn a_cost_needs_every_number_and_is_rounded_up() {
        let mut model = Model {
            provider: "p".to_owned(),
            model: "m".to_owned(),
            kind: ModelKind::Chat,
            input_price_micros: Some(150_000),
            output_price_micros: Some(600_000),
            fallback: Vec::new(),
        };
        assert_eq!(model.cost_micros(Some(1_000_000), Some(1_000_000)), Some(750_000));
        assert_eq!(model.cost_micros(Some(1), Some(0)), Some(1));
        assert_eq!(model.cost_micros(Some(0), Some(0)), Some(0));
        assert_eq!(model.cost_micros(None, Some(5)), None);
        model.output_price_micros = None;
        assert_eq!(model.cost_micros(Some(5), Some(5)), None);
        model.kind = ModelKind::Embedding;
        assert_eq!(model.cost_micros(Some(2_000_000), None), Some(300_000));
    }
}
