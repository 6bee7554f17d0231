//! Which model answers: the one that the task names, else the one for how hard it is; and who is asked if that fails.

use jobmesh_protocol::task::Complexity;

use super::settings::{FALLBACKS_MAX, Model, ModelKind, Provider, Settings};

/// A model to ask and whom to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate<'s> {
    /// The provider's name.
    pub(crate) name: &'s str,
    pub(crate) provider: &'s Provider,
    pub(crate) model: Model,
}

impl Candidate<'_> {
    /// What so many tokens cost, if that is known: the price is that of the model that was asked, and says nothing of
    /// another one that answered.
    pub(crate) fn cost_micros(&self, answered: &str, input: Option<u64>, output: Option<u64>) -> Option<u64> {
        if is_same(&self.model.model, answered) { self.model.cost_micros(input, output) } else { None }
    }
}

/// Why there is nobody to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error("this node knows no {kind} model {name:?}; it knows {known}")]
    Unknown { kind: &'static str, name: String, known: String },
    #[error("this node has no model for {what}; name one as `{key}` in [models.classes]")]
    NoClass { what: &'static str, key: &'static str },
}

/// What is to be answered by a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// A question that is so hard.
    Answer(Complexity),
    /// Vectors.
    Vectors,
}

impl Want {
    const fn kind(self) -> ModelKind {
        match self {
            Self::Answer(_) => ModelKind::Chat,
            Self::Vectors => ModelKind::Embedding,
        }
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Answer(Complexity::Simple) => ("simple questions", "simple"),
            Self::Answer(Complexity::Medium) => ("ordinary questions", "medium"),
            Self::Answer(Complexity::Complex) => ("hard questions", "complex"),
            Self::Vectors => ("embeddings", "embedding"),
        }
    }
}

impl Settings {
    /// The models to try, best first: never empty, each provider's model once.
    pub(crate) fn candidates(&self, named: Option<&str>, want: Want) -> Result<Vec<Candidate<'_>>, ChoiceError> {
        let first = match named {
            Some(name) => self.find(name, want.kind()).ok_or_else(|| self.unknown(name, want.kind()))?,
            None => self.usual(want)?,
        };
        let mut all = vec![first];
        let fallback = all.first().map(|first| first.model.fallback.clone()).unwrap_or_default();
        for name in fallback.iter().take(FALLBACKS_MAX) {
            let next = self.find(name, want.kind());
            let is_new = |next: &Candidate<'_>| {
                !all.iter().any(|it| (it.name, &it.model.model) == (next.name, &next.model.model))
            };
            if let Some(next) = next.filter(is_new) {
                all.push(next);
            }
        }
        Ok(all)
    }

    /// A model by its name here, or by `provider/model`.
    fn find(&self, name: &str, kind: ModelKind) -> Option<Candidate<'_>> {
        if let Some(model) = self.models.get(name).filter(|model| model.kind == kind) {
            return self.candidate(model.clone());
        }
        let (provider, model) = name.split_once('/')?;
        let known = self.models.values().find(|it| it.kind == kind && it.provider == provider && it.model == model);
        let new = || Model {
            provider: provider.to_owned(),
            model: model.to_owned(),
            kind,
            input_price_micros: None,
            output_price_micros: None,
            fallback: Vec::new(),
        };
        self.candidate(known.cloned().unwrap_or_else(new)).filter(|_| !model.is_empty())
    }

    fn candidate(&self, model: Model) -> Option<Candidate<'_>> {
        let (name, provider) = self.providers.get_key_value(&model.provider)?;
        Some(Candidate { name, provider, model })
    }

    /// The model of a class; if the class has none, that of the next harder one, then that of any.
    fn usual(&self, want: Want) -> Result<Candidate<'_>, ChoiceError> {
        let classes = &self.classes;
        let (simple, medium, complex) = (&classes.simple, &classes.medium, &classes.complex);
        let order: [&Option<String>; 3] = match want {
            Want::Vectors => [&classes.embedding; 3],
            Want::Answer(Complexity::Simple) => [simple, medium, complex],
            Want::Answer(Complexity::Medium) => [medium, complex, simple],
            Want::Answer(Complexity::Complex) => [complex, medium, simple],
        };
        let named = order.into_iter().flatten().find_map(|name| self.find(name, want.kind()));
        let only = || {
            let mut all = self.models.values().filter(|model| model.kind == want.kind());
            all.next().filter(|_| all.next().is_none()).and_then(|model| self.candidate(model.clone()))
        };
        let (what, key) = want.words();
        named.or_else(only).ok_or(ChoiceError::NoClass { what, key })
    }

    fn unknown(&self, name: &str, kind: ModelKind) -> ChoiceError {
        let all: Vec<&str> =
            self.models.iter().filter(|(_, model)| model.kind == kind).map(|(name, _)| name.as_str()).collect();
        let providers = || self.providers.keys().map(|name| format!("{name}/…")).collect::<Vec<_>>().join(", ");
        let known = if all.is_empty() { providers() } else { all.join(", ") };
        let kind = match kind {
            ModelKind::Chat => "chat",
            ModelKind::Embedding => "embedding",
        };
        ChoiceError::Unknown {
            kind,
            name: name.to_owned(),
            known: if known.is_empty() { "none".to_owned() } else { known },
        }
    }
}

/// Whether a model that answered is the one that was asked, give or take a version.
pub(crate) fn is_same(asked: &str, answered: &str) -> bool {
    // Some say where a model is kept as well: models/x, a path, an owner.
    let base = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    let (asked, answered) = (base(asked), base(answered));
    let goes_on = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ':', '@', '.', '_']))
    };
    goes_on(&answered, &asked) || goes_on(&asked, &answered)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::model::settings::ProviderKind;

    fn settings() -> Settings {
        let provider = |kind| Provider { peers: true, ..Provider::new(kind) };
        let model = |provider: &str, model: &str, kind, fallback: &[&str]| Model {
            provider: provider.to_owned(),
            model: model.to_owned(),
            kind,
            input_price_micros: Some(1),
            output_price_micros: Some(1),
            fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
        };
        Settings {
            providers: [("o", ProviderKind::OpenAi), ("a", ProviderKind::Anthropic)]
                .map(|(name, kind)| (name.to_owned(), provider(kind)))
                .into(),
            models: [
                ("small", model("o", "gpt-s", ModelKind::Chat, &[])),
                ("big", model("a", "claude", ModelKind::Chat, &["small", "big", "small", "missing", "vec"])),
                ("vec", model("o", "text-embedding", ModelKind::Embedding, &[])),
            ]
            .map(|(name, model)| (name.to_owned(), model))
            .into(),
            ..Settings::default()
        }
    }

    fn names(settings: &Settings, named: Option<&str>, want: Want) -> Vec<String> {
        let found = settings.candidates(named, want).unwrap();
        found.iter().map(|it| format!("{}/{}", it.name, it.model.model)).collect()
    }

    #[test]
    fn the_named_model_wins_then_the_class_then_the_only_one() {
        let mut settings = settings();
        let medium = Want::Answer(Complexity::Medium);
        assert_eq!(names(&settings, Some("small"), medium), ["o/gpt-s"]);
        assert_eq!(names(&settings, Some("big"), medium), ["a/claude", "o/gpt-s"]);
        assert_eq!(names(&settings, Some("o/other"), medium), ["o/other"]);
        assert_eq!(settings.candidates(Some("o/gpt-s"), medium).unwrap()[0].model.input_price_micros, Some(1));
        assert_eq!(names(&settings, None, Want::Vectors), ["o/text-embedding"]);
        settings.candidates(None, medium).unwrap_err();
        settings.classes.complex = Some("big".to_owned());
        assert_eq!(names(&settings, None, medium), ["a/claude", "o/gpt-s"]);
        settings.classes.simple = Some("small".to_owned());
        assert_eq!(names(&settings, None, Want::Answer(Complexity::Simple)), ["o/gpt-s"]);
    }

    #[test]
    fn what_is_not_known_is_said_with_what_is() {
        let settings = settings();
        let medium = Want::Answer(Complexity::Medium);
        let error = settings.candidates(Some("vec"), medium).unwrap_err();
        assert_eq!(error.to_string(), "this node knows no chat model \"vec\"; it knows big, small");
        settings.candidates(Some("z/model"), medium).unwrap_err();
        settings.candidates(Some("o/"), medium).unwrap_err();
        let error = Settings::default().candidates(None, medium).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this node has no model for ordinary questions; name one as `medium` in [models.classes]"
        );
    }

    #[test]
    fn versions_of_a_model_are_that_model() {
        for (asked, answered) in [
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("llama3", "llama3:latest"),
            ("llama3:latest", "llama3"),
            ("gemini-2.0-flash", "models/gemini-2.0-flash"),
            ("GPT-4o", "gpt-4o"),
            ("meta/llama", "llama"),
        ] {
            assert!(is_same(asked, answered), "{asked} {answered}");
        }
        for (asked, answered) in [("gpt-4o", "gpt-4"), ("gpt-4", "gpt-4o"), ("a", "b")] {
            assert!(!is_same(asked, answered), "{asked} {answered}");
        }
    }
}
