//! The clients that everything which asks web servers shares: encryption by rustls with ring, trust in what the system
//! trusts (or `SSL_CERT_FILE` names), no redirects, no second tries. Both are decided elsewhere.

use std::sync::{Arc, Once};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect, retry};

use super::egress::Guard;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What servers are told of who asks.
const USER_AGENT: &str = concat!("jobmesh/", env!("CARGO_PKG_VERSION"));

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Without the certificates of the system nothing can be trusted.
    #[error("failed to set up encrypted connections; install the system's certificates (package ca-certificates)")]
    Tls(#[source] reqwest::Error),
    /// What knows the interfaces of providers can't be made.
    #[error("failed to set up the client of model providers")]
    Provider,
}

fn builder() -> ClientBuilder {
    static PROVIDER: Once = Once::new();
    // Fails only if this program has installed one before, and then there is one.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(CONNECT_MAX)
        .referer(false)
}

/// Builds a client. Where the system trusts nobody, as in a bare container, it reaches servers without encryption only.
fn build(configure: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<Client, ClientError> {
    let trusting = configure(builder()).build();
    trusting.or_else(|error| configure(builder()).tls_certs_only([]).build().map_err(|_| ClientError::Tls(error)))
}

/// One for the jobs of this node: anywhere, by the proxies of the daemon's environment.
///
/// A connection serves one job: what came of it is then known to be of this request.
pub(crate) fn open() -> Result<Client, ClientError> {
    build(|it| it.no_gzip().pool_max_idle_per_host(0))
}

/// One for the jobs of others. No proxy, which would connect on its own to what was never judged.
pub(crate) fn guarded(guard: Arc<Guard>) -> Result<Client, ClientError> {
    build(|it| it.no_gzip().no_proxy().pool_max_idle_per_host(0).dns_resolver(Arc::clone(&guard)))
}

/// One for providers of models, whom the owner of the node has named. A connection serves one question: it lives as
/// long as the thread that reads the answer.
pub(crate) fn provider() -> Result<Client, ClientError> {
    build(|it| it.tcp_nodelay(true).pool_max_idle_per_host(0))
}
