//! The clients that everything which asks web servers shares: encryption by rustls with ring, trust in what the system
//! trusts (or `SSL_CERT_FILE` names), no redirects, no second tries. Both are decided elsewhere.

use std::sync::Once;
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
    Tls(#[from] reqwest::Error),
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

/// One for the jobs of this node: anywhere, by the proxies of the daemon's environment.
///
/// A connection serves one job: what came of it is then known to be of this request.
pub(crate) fn open() -> Result<Client, ClientError> {
    Ok(builder().no_gzip().pool_max_idle_per_host(0).build()?)
}

/// One for the jobs of others. No proxy, which would connect on its own to what was never judged.
pub(crate) fn guarded(guard: Guard) -> Result<Client, ClientError> {
    Ok(builder().no_gzip().no_proxy().pool_max_idle_per_host(0).dns_resolver(guard).build()?)
}

/// One for providers of models, whom the owner of the node has named; connections to them are kept.
pub(crate) fn provider() -> Result<Client, ClientError> {
    Ok(builder().tcp_nodelay(true).pool_max_idle_per_host(4).build()?)
}
