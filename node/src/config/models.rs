//! The tables `[providers]` and `[models]`: who provides models, which there are, and which of them answers what.
//!
//! Two names below `[models]` are no models: `classes` says which model answers questions of which difficulty, `types` how
//! hard the questions of a job's type are.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_executors::model::settings::{
    Classes, FALLBACKS_MAX, HEADERS_MAX, KeySource, MODELS_MAX, Model, ModelKind, Provider, ProviderKind, Search,
    Settings,
};
use jobmesh_protocol::job::check_name;
use jobmesh_protocol::task::Complexity;

use crate::config::table::{Entry, Fault, Lined, Table, value};
use crate::secrets::Kept;

/// Longest name of a provider or model: it is part of a tag.
const NAME_BYTES_MAX: usize = 64;
/// Most types of jobs with a difficulty.
const TYPES_MAX: usize = 1000;
/// Highest price of a million tokens in US dollars: far above any there is, so that a typing error shows.
const PRICE_MAX: u64 = 100_000;

const PROVIDER_KEYS: &[&str] = &["kind", "base_url", "key_env", "key_secret", "headers", "peers"];
/// Headers that are no provider's to say.
const OWN_HEADERS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "x-api-key",
    "x-goog-api-key",
];
const MODEL_KEYS: &[&str] = &["provider", "model", "kind", "input_price", "output_price", "fallback"];
const CLASS_KEYS: &[&str] = &["simple", "medium", "complex", "embedding"];
const COMPLEXITIES: [(&str, Complexity); 3] =
    [("simple", Complexity::Simple), ("medium", Complexity::Medium), ("complex", Complexity::Complex)];
const KINDS: [(&str, ModelKind); 2] = [("chat", ModelKind::Chat), ("embedding", ModelKind::Embedding)];

/// Reads both tables.
pub(super) fn read(root: &Table<'_>) -> Result<Settings, Fault> {
    let mut settings = Settings::default();
    if let Some(entry) = root.entry("providers") {
        let is_on = entry.table()?.read("find", Entry::boolean)?;
        settings.search = if value(is_on.as_ref()).unwrap_or(true) { Search::Local } else { Search::Off };
        settings.providers = read_named(&entry, &["find"], read_provider)?;
    }
    let Some(entry) = root.entry("models") else { return Ok(settings) };
    let table = entry.table()?;
    settings.types = table.read("types", read_types)?.unwrap_or_default();
    settings.models = read_named(&entry, &["classes", "types"], |name, entry| read_model(name, entry, &settings))?;
    check_fallbacks(&table, &settings)?;
    settings.classes = table.read("classes", |entry| read_classes(entry, &settings))?.unwrap_or_default();
    Ok(settings)
}

/// Reads the tables of a table, by their names.
fn read_named<T>(
    entry: &Entry<'_>,
    others: &[&str],
    read: impl Fn(&str, &Entry<'_>) -> Result<T, Fault>,
) -> Result<BTreeMap<String, T>, Fault> {
    let mut found = BTreeMap::new();
    for (name, entry) in entry.table()?.entries().filter(|(name, _)| !others.contains(name)) {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_legal) {
            let wanted = format!("1 to {NAME_BYTES_MAX} letters, digits, dots, dashes or underscores");
            return Err(entry.fault(&format!("is no name; it must be {wanted}")));
        }
        found.insert(name.to_owned(), read(name, &entry)?);
    }
    if found.len() > MODELS_MAX {
        return Err(entry.fault(&format!("has {} entries; the limit is {MODELS_MAX}", found.len())));
    }
    Ok(found)
}

fn read_provider(_: &str, entry: &Entry<'_>) -> Result<Provider, Fault> {
    let table = entry.table()?;
    table.check_keys(PROVIDER_KEYS, &[])?;
    let kind = table.read("kind", |entry| entry.word(&ProviderKind::WORDS))?;
    let kind = value(kind.as_ref())
        .ok_or_else(|| entry.fault("has no kind; say which interface it has: openai, anthropic, gemini or ollama"))?;
    let base_url = table.read("base_url", |entry| entry.parsed(judge_url))?;
    let variable = table.read("key_env", Entry::text)?.map(|name| KeySource::Variable(name.value));
    let secret = table.read("key_secret", Entry::text)?;
    if let Some(secret) = secret.as_ref().filter(|_| variable.is_some()) {
        return Err(Fault::new(secret.place, format!("{} has a key_env and a key_secret; one must go", table.path())));
    }
    let key = variable.or_else(|| secret.map(|name| KeySource::Secret(name.value)));
    let peers = table.read("peers", Entry::boolean)?;
    // What has no key costs nothing but this machine's time.
    let peers = value(peers.as_ref()).unwrap_or(key.is_none());
    let headers = table.read("headers", read_headers)?.unwrap_or_default();
    Ok(Provider { kind, base_url: value(base_url.as_ref()), key, headers, peers })
}

/// Reads what a provider hears beside the key.
fn read_headers(entry: &Entry<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let mut headers = BTreeMap::new();
    for (name, entry) in entry.table()?.entries() {
        let is_word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_word {
            return Err(entry.fault("is no name of a header; it must be letters, digits and dashes"));
        }
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(entry.fault("is a header that the node writes; a key goes into key_env or key_secret"));
        }
        let text = entry.text()?;
        if !text.value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(entry.wrong("a text of plain letters on one line"));
        }
        headers.insert(name.to_owned(), text.value);
    }
    if headers.len() > HEADERS_MAX {
        return Err(entry.fault(&format!("has {} headers; the limit is {HEADERS_MAX}", headers.len())));
    }
    Ok(headers)
}

fn judge_url(text: &str) -> Result<String, String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_url =
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains([' ', '@', '?', '#']));
    // A key in an address would be shown with it.
    if is_url {
        Ok(text.to_owned())
    } else {
        Err("an address such as http://127.0.0.1:8080/v1, without a key".to_owned())
    }
}

fn read_model(name: &str, entry: &Entry<'_>, settings: &Settings) -> Result<Model, Fault> {
    let table = entry.table()?;
    table.check_keys(MODEL_KEYS, &[])?;
    let provider = table.read("provider", |entry| {
        let text = entry.text()?;
        if settings.providers.contains_key(&text.value) {
            Ok(text)
        } else {
            Err(entry.wrong("the name of one of [providers]"))
        }
    })?;
    let provider = value(provider.as_ref()).ok_or_else(|| entry.fault("has no provider; name one of [providers]"))?;
    let model = table.read("model", Entry::text)?;
    let kind = table.read("kind", |entry| entry.word(&KINDS))?;
    let price = |key| Ok(value(table.read(key, read_price)?.as_ref()));
    let fallback = table.read("fallback", |entry| entry.list(FALLBACKS_MAX, Entry::text))?;
    Ok(Model {
        provider,
        model: value(model.as_ref()).unwrap_or_else(|| name.to_owned()),
        kind: value(kind.as_ref()).unwrap_or(ModelKind::Chat),
        input_price_micros: price("input_price")?,
        output_price_micros: price("output_price")?,
        fallback: value(fallback.as_ref()).unwrap_or_default(),
    })
}

/// A price in US dollars, as a number or a text, to the millionth.
fn read_price(entry: &Entry<'_>) -> Result<Lined<u64>, Fault> {
    let text = entry.as_text().map_or_else(|| entry.shown(), str::to_owned);
    let wrong = || entry.wrong(&format!("US dollars for a million tokens, 0 to {PRICE_MAX}, such as 0.15"));
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || part.len() > 6 || !is_number(part) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().ok().filter(|dollars| *dollars <= PRICE_MAX).ok_or_else(wrong)?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    Ok(entry.lined(whole * 1_000_000 + part))
}

/// Writes a price the way it is read.
fn price_words(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Every model that another falls back to must be there, answer the same kind of thing, and be another one. Two may name
/// each other: of the one that is asked first the list is tried, and no list of those in it.
fn check_fallbacks(table: &Table<'_>, settings: &Settings) -> Result<(), Fault> {
    for (name, model) in &settings.models {
        let missing = model
            .fallback
            .iter()
            .find(|other| settings.models.get(*other).is_none_or(|found| found.kind != model.kind));
        let problem = match missing {
            Some(missing) => Some(format!("{missing:?}, which is no model of [models] of the same kind")),
            None => model.fallback.contains(name).then(|| "itself; name another model, or none".to_owned()),
        };
        if let (Some(problem), Some(model)) = (problem, table.entry(name)) {
            let model = model.table()?;
            let place = model.entry("fallback").map_or(model.place(), |entry| entry.place());
            return Err(Fault::new(place, format!("{} falls back to {problem}", model.path())));
        }
    }
    Ok(())
}

/// Every secret that is the key of a provider must be declared; without one each question would fail.
pub(super) fn check_keys(
    root: &Table<'_>,
    providers: &BTreeMap<String, Provider>,
    secrets: &BTreeMap<String, Kept>,
) -> Result<(), Fault> {
    let Some(entry) = root.entry("providers") else { return Ok(()) };
    let table = entry.table()?;
    for (name, provider) in providers {
        let Some(KeySource::Secret(secret)) = &provider.key else { continue };
        if secrets.contains_key(secret) {
            continue;
        }
        let Some(key) = table.entry(name).map(|entry| entry.table()).transpose()?.and_then(|it| it.entry("key_secret"))
        else {
            continue;
        };
        let remedy = format!("declare it as [secrets.{secret}] with from = \"env:VARIABLE\" or \"file:/path\"");
        return Err(key.fault(&format!("is {secret:?}, a secret that is not declared; {remedy}")));
    }
    Ok(())
}

fn read_classes(entry: &Entry<'_>, settings: &Settings) -> Result<Classes, Fault> {
    let table = entry.table()?;
    table.check_keys(CLASS_KEYS, &[])?;
    let read = |key, kind| {
        let found = table.read(key, |entry| {
            let text = entry.text()?;
            let is_one = settings.models.get(&text.value).is_some_and(|model| model.kind == kind);
            if is_one { Ok(text) } else { Err(entry.wrong("the name of one of [models] of its kind")) }
        })?;
        Ok(value(found.as_ref()))
    };
    Ok(Classes {
        simple: read("simple", ModelKind::Chat)?,
        medium: read("medium", ModelKind::Chat)?,
        complex: read("complex", ModelKind::Chat)?,
        embedding: read("embedding", ModelKind::Embedding)?,
    })
}

fn read_types(entry: &Entry<'_>) -> Result<BTreeMap<String, Complexity>, Fault> {
    let mut types = BTreeMap::new();
    for (name, entry) in entry.table()?.entries() {
        check_name("job type", name).map_err(|error| entry.refused(&error))?;
        types.insert(name.to_owned(), entry.word(&COMPLEXITIES)?.value);
    }
    if types.len() > TYPES_MAX {
        return Err(entry.fault(&format!("has {} types; the limit is {TYPES_MAX}", types.len())));
    }
    Ok(types)
}

/// What holds of what a person wrote and what is compiled in.
pub(super) fn merged(file: Settings, default: Settings) -> Settings {
    let mut types = default.types;
    types.extend(file.types);
    Settings { types, ..file }
}

/// Every entry as a key and the words for what it says.
pub(super) fn words(settings: &Settings) -> Vec<(String, String)> {
    let mut list = Vec::new();
    if settings.search == Search::Off {
        list.push(("providers.find".to_owned(), "false".to_owned()));
    }
    for (name, provider) in &settings.providers {
        let key = match &provider.key {
            None => "no key".to_owned(),
            Some(KeySource::Variable(variable)) => format!("key from {variable}"),
            Some(KeySource::Secret(secret)) => format!("key from the secret {secret}"),
        };
        let peers = if provider.peers { "also for peers" } else { "not for peers" };
        list.push((
            format!("providers.{name}"),
            format!("{} at {}, {key}, {peers}", provider.kind.word(), provider.url()),
        ));
        if !provider.headers.is_empty() {
            let names: Vec<&str> = provider.headers.keys().map(String::as_str).collect();
            list.push((format!("providers.{name}.headers"), names.join(", ")));
        }
    }
    for (name, model) in &settings.models {
        let kind = KINDS.iter().find(|(_, kind)| *kind == model.kind).map_or("", |(word, _)| word);
        list.push((format!("models.{name}"), format!("{kind} {} of {}", model.model, model.provider)));
        for (key, micros) in [("input_price", model.input_price_micros), ("output_price", model.output_price_micros)] {
            list.extend(micros.map(|micros| (format!("models.{name}.{key}"), price_words(micros))));
        }
        if !model.fallback.is_empty() {
            list.push((format!("models.{name}.fallback"), model.fallback.join(", ")));
        }
    }
    let Classes { simple, medium, complex, embedding } = &settings.classes;
    for (class, name) in CLASS_KEYS.iter().zip([simple, medium, complex, embedding]) {
        list.extend(name.iter().map(|name| (format!("models.classes.{class}"), name.clone())));
    }
    let hard: BTreeSet<_> = settings.types.iter().collect();
    list.extend(hard.into_iter().map(|(name, how)| (format!("models.types.{name}"), how.word().to_owned())));
    list
}
