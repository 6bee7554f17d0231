//! Blobs: whole, verified, resumed, and only for members that may have them.

use std::path::{Path, PathBuf};

use jobmesh_mesh::{Event, FetchError};
use jobmesh_protocol::{BlobRef, Hash};

use crate::harness::{Node, config, connect};

pub(crate) fn content() -> Vec<u8> {
    (0..5 * 1024 * 1024_u32).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// Fetches with `one` from `other`, which answers one request with `file`.
pub(crate) async fn fetch(
    one: &Node,
    other: &mut Node,
    blob: BlobRef,
    into: &Path,
    file: Option<PathBuf>,
) -> Result<(), FetchError> {
    let from = other.id;
    let (fetched, ()) = tokio::join!(one.mesh.fetch(from, blob.into(), into, |_| ()), answer(other, file));
    fetched
}

/// Has `other` answer one request for a blob with `file`.
async fn answer(other: &mut Node, file: Option<PathBuf>) {
    let mut file = Some(file);
    let answered = other.until("a request", |event| match event {
        Event::BlobRequested { reply, .. } => {
            reply.send(file.take().flatten()).unwrap();
            Some(())
        }
        _ => None,
    });
    answered.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_arrives_whole_and_an_interrupted_one_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (source, into) = (folder.path().join("source"), folder.path().join("into"));
    let bytes = content();
    std::fs::write(&source, &bytes).unwrap();
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    let blob = BlobRef::of(&bytes);
    fetch(&ana, &mut bob, blob, &into, Some(source.clone())).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), bytes);

    let again = folder.path().join("again");
    let part = folder.path().join(format!("again.{}.part", blob.size));
    std::fs::write(&part, &bytes[..1_000_000]).unwrap();
    // The source lacks what the part has: only a transfer from the offset can succeed.
    let mut tail_only = vec![0; 983_040];
    tail_only.extend_from_slice(&bytes[983_040..]);
    std::fs::write(&source, &tail_only).unwrap();
    fetch(&ana, &mut bob, blob, &again, Some(source)).await.unwrap();
    assert_eq!(std::fs::read(&again).unwrap(), bytes);
    assert!(!part.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_get_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let (source, into) = (folder.path().join("source"), folder.path().join("into"));
    let bytes = content();
    let mut wrong = bytes.clone();
    wrong[4_000_000] ^= 1;
    std::fs::write(&source, &wrong).unwrap();
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    let fetched = fetch(&ana, &mut bob, BlobRef::of(&bytes), &into, Some(source.clone())).await;
    assert!(matches!(fetched, Err(FetchError::Damaged { .. })), "{fetched:?}");
    bob.counted("blob_damaged").await;
    std::fs::write(&source, b"short").unwrap();
    let fetched = fetch(&ana, &mut bob, BlobRef::of(&bytes), &into, Some(source)).await;
    assert!(matches!(fetched, Err(FetchError::WrongSize { found: 5, .. })), "{fetched:?}");
    assert!(!into.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_given_is_not_had() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let blob = BlobRef { hash: Hash::of(b"secret"), size: 6 };
    let fetched = ana.mesh.fetch(bob.id, blob.into(), &into, |_| ()).await;
    assert!(matches!(fetched, Err(FetchError::NotConnected { .. })), "{fetched:?}");
    connect(&mut ana, &mut bob).await;
    let fetched = fetch(&ana, &mut bob, blob, &into, None).await;
    assert!(matches!(fetched, Err(FetchError::NotProvided { .. })), "{fetched:?}");
    let fetched = fetch(&ana, &mut bob, blob, &into, Some(folder.path().join("gone"))).await;
    assert!(matches!(fetched, Err(FetchError::NotProvided { .. })), "{fetched:?}");
    assert!(!into.exists());
}

/// The sender finds out where its copy is damaged when it gets there; what came before that counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_damaged_since_is_sent_up_to_there_and_the_rest_once_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (source, into) = (folder.path().join("source"), folder.path().join("into"));
    let mut bytes = content();
    bytes.reverse();
    let blob = BlobRef::of(&bytes);
    std::fs::write(&source, &bytes).unwrap();
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    fetch(&ana, &mut bob, blob, &into, Some(source.clone())).await.unwrap();
    std::fs::remove_file(&into).unwrap();
    let mut wrong = bytes.clone();
    wrong[4_000_000] ^= 1;
    std::fs::write(&source, &wrong).unwrap();
    let fetched = fetch(&ana, &mut bob, blob, &into, Some(source.clone())).await;
    assert!(matches!(fetched, Err(FetchError::Damaged { .. })), "{fetched:?}");
    let part = folder.path().join(format!("into.{}.part", blob.size));
    // Whole segments: the one with the damage begins at 3,932,160.
    assert_eq!(std::fs::metadata(part).unwrap().len(), 3_932_160);
    std::fs::write(&source, &bytes).unwrap();
    let before = ana.mesh.counters().get("blob_bytes_received").copied();
    fetch(&ana, &mut bob, blob, &into, Some(source)).await.unwrap();
    assert_eq!(std::fs::read(&into).unwrap(), bytes);
    let since = ana.mesh.counters().get("blob_bytes_received").copied().unwrap_or(0) - before.unwrap_or(0);
    assert_eq!(since, blob.size - 3_932_160);
}

/// Has `other` show to `one` that it has a blob; it answers one request with `file`.
async fn verify(
    one: &Node,
    other: &mut Node,
    blob: BlobRef,
    copy: &Path,
    file: Option<PathBuf>,
) -> Result<(), FetchError> {
    let from = other.id;
    let asked = one.mesh.verify_possession(from, blob.into(), copy, || ());
    let (shown, ()) = tokio::join!(asked, answer(other, file));
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_blob_can_show_it_and_nobody_else_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, same) = (folder.path().join("copy"), folder.path().join("same"));
    let mut bytes = content();
    let blob = BlobRef::of(&bytes);
    for path in [&copy, &same] {
        std::fs::write(path, &bytes).unwrap();
    }
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let alone = ana.mesh.verify_possession(bob.id, blob.into(), &copy, || ()).await;
    assert!(matches!(alone, Err(FetchError::NotConnected { .. })), "{alone:?}");
    connect(&mut ana, &mut bob).await;
    verify(&ana, &mut bob, blob, &copy, Some(same.clone())).await.unwrap();
    bytes[4_000_000] ^= 1;
    std::fs::write(&same, &bytes).unwrap();
    let shown = verify(&ana, &mut bob, blob, &copy, Some(same)).await;
    assert!(matches!(shown, Err(FetchError::NotShown { .. })), "{shown:?}");
    let shown = verify(&ana, &mut bob, blob, &copy, None).await;
    assert!(matches!(shown, Err(FetchError::NotProvided { .. })), "{shown:?}");
    let (asked, answered) = (ana.mesh.counters(), bob.mesh.counters());
    assert_eq!((asked.get("blob_shown"), asked.get("blob_not_shown")), (Some(&1), Some(&2)), "{asked:?}");
    assert_eq!(answered.get("blob_possession_answered"), Some(&2), "{answered:?}");
    assert!(!asked.contains_key("blob_bytes_received") && !answered.contains_key("blob_bytes_sent"));
}
