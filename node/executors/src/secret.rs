//! Values that a task is given and nobody else may read.
//!
//! A job names its secrets; the node that runs it looks up their values when it starts. From then on they are kept in a
//! type that shows nothing and is wiped at its end, until they go into the variables of a command or the holes of a
//! request. What the run says is searched for them, see [`redact`](crate::redact).
//!
//! What a command does with a secret is its own business: what it writes to a file in its working directory is not
//! searched, and an engine of containers keeps the variables of a container for as long as that exists.

use std::collections::BTreeMap;
use std::fmt;

use jobmesh_protocol::task::{SECRET_HOLE, Task};
use zeroize::Zeroizing;

use crate::order::Order;

/// A value that shows itself to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The secrets of one run, by the variable in which its task finds each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, Named>);

/// A secret and the name under which the node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    value: Secret,
}

impl Secrets {
    /// Puts the value of the secret `name` into `variable`.
    pub fn insert(&mut self, variable: String, name: String, value: Secret) {
        self.0.insert(variable, Named { name, value });
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name and the value of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.values().map(|named| (named.name.as_str(), named.value.reveal()))
    }

    /// Puts values in the place of the holes of a text. A hole for what isn't here stays as it is.
    fn fill(&self, text: &mut String) {
        if !text.contains(SECRET_HOLE) {
            return;
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once(SECRET_HOLE) {
            filled.push_str(before);
            let found = after.split_once("}}").and_then(|(variable, after)| Some((self.0.get(variable)?, after)));
            rest = match found {
                Some((named, after)) => {
                    filled.push_str(named.value.reveal());
                    after
                }
                None => {
                    filled.push_str(SECRET_HOLE);
                    after
                }
            };
        }
        filled.push_str(rest);
        *text = filled;
    }
}

impl Order {
    /// The order with its secrets where its task looks for them: in the variables of a command, in the address, the
    /// headers and the body of a request, and nowhere else.
    pub(crate) fn with_secrets(&self) -> Self {
        let mut order = self.clone();
        let secrets = &self.secrets;
        if let Some(environment) = order.task.environment_mut() {
            environment
                .extend(secrets.0.iter().map(|(variable, named)| (variable.clone(), named.value.reveal().to_owned())));
        }
        if matches!(order.task, Task::Http(_)) {
            order.task.each_text(|text| secrets.fill(text));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        let mut secrets = Secrets::default();
        secrets.insert("TOKEN".to_owned(), "registry".to_owned(), Secret::new("hunter2".to_owned()));
        secrets
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let shown = format!("{:?}", secrets());
        assert!(shown.contains("registry") && shown.contains("[secret]") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn holes_are_filled_with_what_is_there() {
        let fill = |text: &str| {
            let mut text = text.to_owned();
            secrets().fill(&mut text);
            text
        };
        assert_eq!(fill("Bearer {{secret:TOKEN}}, twice {{secret:TOKEN}}"), "Bearer hunter2, twice hunter2");
        assert_eq!(fill("{{secret:OTHER}} {{secret:TOKEN}}"), "{{secret:OTHER}} hunter2");
        assert_eq!(fill("{{secret:TOKEN"), "{{secret:TOKEN");
        assert_eq!(fill("{secret:TOKEN}"), "{secret:TOKEN}");
    }
}
