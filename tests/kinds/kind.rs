//! How one kind of work is asked for what all kinds owe.

use jobmesh_tests::Value;

use crate::site::{Place, Site};

/// The options of `jobmesh submit` for a job.
pub(crate) type Options = Vec<String>;

/// The options, from words.
pub(crate) fn options(words: &[&str]) -> Options {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// How one kind of work is asked for what all kinds owe.
pub(crate) trait Kind {
    /// Its name among the executors.
    fn name(&self) -> &'static str;

    /// What the node that runs it must have in its configuration.
    fn tables(&self) -> String {
        String::new()
    }

    /// The log in which it can be followed.
    fn stream(&self) -> &'static str {
        "--stdout"
    }

    /// How well its runs are kept apart there.
    fn level(&self, place: Place) -> &'static str {
        match place {
            Place::Here => "contained",
            Place::Peer => "sandboxed",
        }
    }

    /// A job that reads a file and leaves a file, and the name of that.
    fn copying(&self, site: &Site<'_>) -> (Options, &'static str);

    /// Judges the file that such a job left.
    fn judge(&self, site: &Site<'_>, job: &str, left: &[u8]);

    /// Judges the account of a successful run: what it took, or asked of a model.
    fn judge_account(&self, account: &Value);

    /// A job that says something, and goes on when it is let go.
    fn waiting(&self, site: &Site<'_>) -> Options;

    /// Lets such a job go on.
    fn let_go(&self, site: &Site<'_>);

    /// A job that says something and goes on for ever.
    fn endless(&self, site: &Site<'_>) -> Options;

    /// Returns when such a job is in the middle of it.
    fn is_under_way(&self, site: &Site<'_>, job: &str) {
        let _ = site.follow(job, self.stream()).some();
    }

    /// Asserts that nothing is left of such a job on the node that ran it.
    fn is_gone(&self, site: &Site<'_>) {
        site.has_no_processes();
    }

    /// A job that wants more than it may have, and what its end is called.
    fn greedy(&self, site: &Site<'_>) -> (Options, &'static str);
}
