//! What the jobs of a type share: how many at once and in a time by key, what there is only one of, and the names
//! by which they are found.

use std::collections::BTreeMap;

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Concurrency, LABELS_MAX, RATES_MAX, Rate, RateLimit};
use jobmesh_protocol::schedule::parse_length;
use jobmesh_protocol::submission::{Conflict, Field, Span, Submission, Unique};

use crate::config::nearest::list;
use crate::config::queues::parse_rate;
use crate::config::table::{Entry, Fault, Lined, Table, value};
use crate::job_types::template::{Template, Values};
use crate::job_types::{Names, ParameterError, read_template};

/// The keys of this part.
pub(super) const KEYS: &[&str] = &["name", "labels", "concurrency", "concurrency_key", "rate", "unique"];
const UNIQUE_KEYS: &[&str] = &["key", "by", "for", "on_conflict"];
/// Most fields that something is unique by.
const FIELDS_MAX: usize = 16;
/// Most jobs of one key at once.
const CONCURRENCY_MAX: i128 = 1_000_000;

/// A rate and the key that it is counted by; none is the type's name.
type KeyedRate = (Option<Template>, RateLimit);

/// What one file says is shared; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sharing {
    name: Option<Lined<Template>>,
    labels: BTreeMap<String, Lined<Template>>,
    concurrency: Option<Lined<u32>>,
    concurrency_key: Option<Lined<Template>>,
    rates: Option<Lined<Vec<KeyedRate>>>,
    unique: Option<Lined<Option<Only>>>,
}

/// What there is only one of.
#[derive(Clone, Debug, PartialEq)]
struct Only {
    key: Option<Template>,
    by: Vec<Field>,
    scope: Span,
    on_conflict: Conflict,
}

impl Sharing {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self {
            name: table.read("name", read_template)?,
            labels: table.read("labels", read_labels)?.unwrap_or_default(),
            concurrency: table.read("concurrency", |entry| entry.whole(1..=CONCURRENCY_MAX))?,
            concurrency_key: table.read("concurrency_key", read_template)?,
            rates: table.read("rate", read_rates)?,
            unique: table.read("unique", read_unique)?,
        })
    }

    /// What `self` says, else what `base` says.
    pub(super) fn over(self, base: Self) -> Self {
        let mut labels = base.labels;
        labels.extend(self.labels);
        Self {
            name: self.name.or(base.name),
            labels,
            concurrency: self.concurrency.or(base.concurrency),
            concurrency_key: self.concurrency_key.or(base.concurrency_key),
            rates: self.rates.or(base.rates),
            unique: self.unique.or(base.unique),
        }
    }

    /// Checks the holes. What a limit is counted by must have a value always, or there would be no limit.
    pub(super) fn check(&self, path: &str, names: &Names<'_>) -> Result<(), Fault> {
        if let Some(Lined { value: template, place }) = &self.name {
            names.check(&format!("{path}.name"), template, *place)?;
        }
        for (label, Lined { value: template, place }) in &self.labels {
            names.check(&format!("{path}.labels.{label}"), template, *place)?;
        }
        if let Some(Lined { value: template, place }) = &self.concurrency_key {
            names.check_certain(&format!("{path}.concurrency_key"), template, *place)?;
        }
        if let Some(Lined { value: rates, place }) = &self.rates {
            for template in rates.iter().filter_map(|(key, _)| key.as_ref()) {
                names.check_certain(&format!("{path}.rate"), template, *place)?;
            }
        }
        if let Some(Lined { value: only, place }) = &self.unique {
            for template in only.iter().filter_map(|only| only.key.as_ref()) {
                names.check_certain(&format!("{path}.unique"), template, *place)?;
            }
        }
        Ok(())
    }

    /// Puts it into a submission.
    pub(super) fn apply(&self, submission: &mut Submission, values: &Values) -> Result<(), ParameterError> {
        let job_type = submission.spec.job_type.clone();
        let fill = |template: &Template| template.fill(values).map_err(|name| ParameterError::missing(&job_type, name));
        let spec = &mut submission.spec;
        spec.name = self.name.as_ref().and_then(|name| name.value.fill(values).ok());
        for (label, template) in &self.labels {
            if let Ok(text) = template.value.fill(values) {
                spec.labels.insert(label.clone(), text);
            }
        }
        if self.concurrency.is_some() || self.concurrency_key.is_some() {
            let key = self.concurrency_key.as_ref().map(|key| fill(&key.value)).transpose()?;
            let limit = value(self.concurrency.as_ref()).unwrap_or(1);
            spec.concurrency = Some(Concurrency { key: key.unwrap_or_else(|| job_type.clone()), limit });
        }
        for (key, limit) in self.rates.iter().flat_map(|rates| &rates.value) {
            let key = key.as_ref().map(fill).transpose()?.unwrap_or_else(|| job_type.clone());
            spec.rates.push(Rate { key, limit: *limit });
        }
        if let Some(only) = self.unique.as_ref().and_then(|unique| unique.value.as_ref()) {
            let key = only.key.as_ref().map(fill).transpose()?;
            let by = only.by.clone();
            submission.unique = Some(Unique { key, by, scope: only.scope, on_conflict: only.on_conflict });
        }
        Ok(())
    }
}

fn read_labels(entry: &Entry<'_>) -> Result<BTreeMap<String, Lined<Template>>, Fault> {
    let mut labels = BTreeMap::new();
    for (label, entry) in entry.table()?.entries() {
        labels.insert(label.to_owned(), read_template(&entry)?);
    }
    if labels.len() > LABELS_MAX {
        return Err(entry.fault(&format!("has {} labels; the limit is {LABELS_MAX}", labels.len())));
    }
    Ok(labels)
}

fn read_rates(entry: &Entry<'_>) -> Result<Lined<Vec<KeyedRate>>, Fault> {
    let one = |entry: &Entry<'_>| {
        entry.parsed(|text| {
            let (key, rate) = text.rsplit_once('=').map_or((None, text), |(key, rate)| (Some(key), rate));
            Ok((key.map(Template::parse).transpose()?, parse_rate(rate)?))
        })
    };
    if entry.is_list() { entry.list(RATES_MAX, one) } else { one(entry).map(|rate| rate.map(|rate| vec![rate])) }
}

fn read_unique(entry: &Entry<'_>) -> Result<Lined<Option<Only>>, Fault> {
    let alike = |key, by| Only { key, by, scope: Span::Incomplete, on_conflict: Conflict::Return };
    if let Some(is_unique) = entry.as_bool() {
        return Ok(entry.lined(is_unique.then(|| alike(None, vec![Field::Type, Field::Task]))));
    }
    if entry.as_text().is_some() {
        return Ok(read_template(entry)?.map(|key| Some(alike(Some(key), Vec::new()))));
    }
    if !entry.is_table() {
        return Err(entry.wrong("true, a key in quotes, or a table such as { by = [\"type\", \"task\"] }"));
    }
    let table = entry.table()?;
    table.check_keys(UNIQUE_KEYS, &[])?;
    let key = table.read("key", read_template)?.map(|key| key.value);
    let by = table.read("by", |entry| entry.list(FIELDS_MAX, read_field))?.map(|by| by.value).unwrap_or_default();
    if key.is_none() && by.is_empty() {
        return Err(entry.fault("says not by what; add a key, or by = [\"type\", \"task\"]"));
    }
    let scope = table.read("for", |entry| entry.parsed(parse_span))?.map(|scope| scope.value).unwrap_or_default();
    let on_conflict = table.read("on_conflict", |entry| entry.parsed(parse_conflict))?;
    let on_conflict = on_conflict.map(|conflict| conflict.value).unwrap_or_default();
    Ok(entry.lined(Some(Only { key, by, scope, on_conflict })))
}

fn read_field(entry: &Entry<'_>) -> Result<Lined<Field>, Fault> {
    entry.parsed(|text| match text {
        "type" => Ok(Field::Type),
        "queue" => Ok(Field::Queue),
        "task" => Ok(Field::Task),
        other => match other.strip_prefix("label:") {
            Some(label) if !label.is_empty() => Ok(Field::Label(label.to_owned())),
            Some(_) | None => Err(format!("one of {}", list(&["type", "queue", "task", "label:NAME"]))),
        },
    })
}

fn parse_span(text: &str) -> Result<Span, String> {
    match text {
        "incomplete" => Ok(Span::Incomplete),
        "retained" => Ok(Span::Retained),
        length => {
            positive(length).map(Span::Period).ok_or_else(|| "incomplete, retained, or a length of time".to_owned())
        }
    }
}

fn parse_conflict(text: &str) -> Result<Conflict, String> {
    let found = match text.split_once('=') {
        Some(("debounce", length)) => positive(length).map(Conflict::Debounce),
        Some(("throttle", length)) => positive(length).map(Conflict::Throttle),
        Some(_) => None,
        None => [
            ("return", Conflict::Return),
            ("reject", Conflict::Reject),
            ("replace", Conflict::Replace),
            ("merge", Conflict::Merge),
        ]
        .into_iter()
        .find_map(|(word, conflict)| (word == text).then_some(conflict)),
    };
    let words = list(&["return", "reject", "replace", "merge", "debounce=5s", "throttle=5s"]);
    found.ok_or_else(|| format!("one of {words}"))
}

fn positive(length: &str) -> Option<DurationMillis> {
    parse_length(length).filter(|length| *length > DurationMillis(0))
}
