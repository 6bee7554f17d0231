//! The result and the files that came back with a receipt, against what was signed.
//!
//! Files are named by the hash of their list, and the list names each by its own: so the node that hands them out is not
//! believed in anything.

use std::collections::BTreeSet;

use jobmesh_protocol::tree::Node;
use jobmesh_protocol::{BlobRef, Epoch, Hash};

use crate::cli::download::Check;
use crate::cli::upload::tree_of;
use crate::cli::{Failure, JobRef};
use crate::client::Client;

/// Compares the result that the node keeps.
pub(super) async fn result(client: &Client, job: &JobRef, attempt: Epoch, signed: BlobRef) -> Result<String, Failure> {
    read(client, &format!("/v1/jobs/{job}/result?attempt={attempt}"), signed).await?;
    Ok(format!("result is {} bytes with BLAKE3 {}", signed.size, signed.hash))
}

/// Compares the list of the files that the node keeps, and each of them.
pub(super) async fn files(client: &Client, signed: BlobRef) -> Result<String, Failure> {
    let tree = tree_of(client, signed.hash).await?;
    let mut seen = BTreeSet::<Hash>::new();
    let mut count = 0_usize;
    for entry in tree.entries() {
        let Node::File { blob, .. } = &entry.node else { continue };
        count += 1;
        if seen.insert(blob.hash) {
            read(client, &format!("/v1/blobs/{}", blob.hash), *blob).await?;
        }
    }
    let plural = if count == 1 { "" } else { "s" };
    Ok(format!("{count} file{plural} with {} bytes, in the list with BLAKE3 {}", tree.file_bytes(), signed.hash))
}

async fn read(client: &Client, path: &str, signed: BlobRef) -> Result<(), Failure> {
    let (mut answer, mut check) = (client.bytes(path).await?, Check::default());
    while let Some(piece) = answer.next().await? {
        check.update(&piece);
    }
    check.is(signed)
}
