//! The variables by which a run knows who it is, and by which it is known.

/// The variable that marks every process of a run. Its value is the run's id, `JOB-ID.EPOCH`.
pub const RUN_VARIABLE: &str = "JOBMESH_RUN";

/// The variable that names the job that a process is of, by its number.
pub const JOB_VARIABLE: &str = "JOBMESH_JOB";

/// The variable with the number of the attempt.
pub const ATTEMPT_VARIABLE: &str = "JOBMESH_ATTEMPT";

/// The variable that names the file in which a run may say how it ended: one JSON object such as
/// `{"outcome":"snooze","for":"5m","message":"not there yet"}`.
///
/// `outcome` is `ok`, `error`, `permanent`, `snooze`, `cancel` or `release`; `for` goes with `snooze` and `retry_after`
/// with `error`, each in milliseconds or as text with units; `message` goes with all, and so does `result`, any JSON.
pub const OUTCOME_VARIABLE: &str = "JOBMESH_OUTCOME";

/// The variable that names the file to which a run may write its result.
pub const RESULT_VARIABLE: &str = "JOBMESH_RESULT";

/// The variable that names the socket on which a run can talk of itself to its node.
pub const SOCKET_VARIABLE: &str = "JOBMESH_SOCKET";

/// The variable that proves to the node which run is speaking there.
pub const TOKEN_VARIABLE: &str = "JOBMESH_TOKEN";

/// The variable that names the node's data directory, where nothing that is kept apart has business.
pub(crate) const HOME_VARIABLE: &str = "JOBMESH_HOME";

/// Those that are about the node itself, and of no use to what can neither see its directory nor open its socket.
pub(crate) const NODE_VARIABLES: [&str; 3] = [HOME_VARIABLE, SOCKET_VARIABLE, TOKEN_VARIABLE];
