//! The socket, and who may come in: processes of this user, checked for every connection.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

/// Wait after a failed accept, which means that the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections of the owner only.
pub(crate) struct OwnerListener {
    inner: UnixListener,
    owner: u32,
}

impl OwnerListener {
    /// Binds the socket in place of one that a dead daemon has left.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let inner = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { inner, owner: rustix::process::getuid().as_raw() })
    }
}

impl axum::serve::Listener for OwnerListener {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == self.owner => return (stream, ()),
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "another user knocked at a socket of this node"),
                    Err(error) => tracing::warn!(%error, "a client of a socket of this node can't be identified"),
                },
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(())
    }
}
