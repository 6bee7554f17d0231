//! A member that answers many questions on one stream, and one that answers them wrongly.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::CreateOutboard as _;
use jobmesh_protocol::cbor;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::*;
use crate::blob::{Answer, DAMAGED, Request};

const FROM: NodeId = NodeId::from_bytes([1; 32]);

/// Says whether an error is the expected one.
type Judge = fn(&FetchError) -> bool;

/// So many blobs, of all sizes that are small.
fn contents(count: usize) -> Vec<Vec<u8>> {
    let size = |number: usize| [0, 1, 1000, 65_537, 262_144][number % 5];
    (0..count).map(|number| number.to_le_bytes().repeat(40_000)[..size(number)].to_vec()).collect()
}

fn wanted(contents: &[Vec<u8>]) -> Vec<Requested> {
    contents.iter().map(|bytes| BlobRef::of(bytes).into()).collect()
}

/// What an honest member says of these bytes.
fn said(bytes: &[u8]) -> Vec<u8> {
    let size = bytes.len() as u64;
    let mut said = Vec::new();
    frame::put(&mut said, &cbor::encode(&Answer { size: Some(size) }));
    if size > 0 {
        let mut outboard = PreOrderOutboard { tree: tree::of(size), ..PreOrderOutboard::<Vec<u8>>::default() };
        outboard.init_from(bytes).unwrap();
        frame::put(&mut said, &tree::encode(bytes, &outboard, 0..size).unwrap());
    }
    said
}

/// Receives `wanted` of a member that runs `peer` at the other end. Returns the bytes that came, and how it ended.
async fn received<F: Future<Output = ()>>(
    wanted: &[Requested],
    peer: impl FnOnce(Compat<tokio::io::DuplexStream>) -> F,
) -> (Vec<Vec<u8>>, Result<(), FetchError>) {
    let (ours, theirs) = tokio::io::duplex(256 << 10);
    let (into, mut came) = mpsc::channel(1);
    let counters = Counters::default();
    let asking = async {
        let questions = wanted.iter().map(|it| Incoming::new((FROM, *it), &counters, |_| ()).question(0, None));
        let mut line = Line::on(ours.compat(), questions);
        let ended =
            receive(&mut line, (FROM, wanted), &Place { counters: &counters, into: &into, on_bytes: |_| () }).await;
        drop((line, into));
        ended
    };
    let taking = async {
        let mut all = Vec::new();
        while let Some(bytes) = came.recv().await {
            all.push(bytes);
        }
        all
    };
    let (ended, all, ()) = tokio::join!(asking, taking, peer(theirs.compat()));
    (all, ended)
}

/// Far more than may be ahead, and far more bytes than either side's buffer holds.
#[tokio::test]
async fn many_come_on_one_stream_in_their_order() {
    let contents = contents(400);
    let wanted = wanted(&contents);
    let mut asked_ahead = 0_usize;
    let (came, ended) = received(&wanted, async |mut stream| {
        for bytes in &contents {
            let question = frame::read(&mut stream, HEADER_BYTES_MAX).await.unwrap().unwrap();
            let question: Request = cbor::decode(&question, HEADER_BYTES_MAX).unwrap();
            assert_eq!((question.hash, question.offset), (BlobRef::of(bytes).hash, 0));
            asked_ahead += 1;
            stream.write_all(&said(bytes)).await.unwrap();
        }
        assert!(frame::read(&mut stream, HEADER_BYTES_MAX).await.unwrap().is_none(), "nothing more is asked");
    })
    .await;
    ended.unwrap();
    assert!(came == contents && asked_ahead == contents.len());
}

#[tokio::test]
async fn no_more_is_asked_ahead_than_a_window_holds() {
    let contents = contents(400);
    let wanted = wanted(&contents);
    let mut questions = Questions {
        rest: wanted.iter().map(|it| Incoming::new((FROM, *it), &Counters::default(), |_| ()).question(0, None)),
        ahead: 0,
    };
    let first = questions.next();
    assert_eq!(questions.ahead, AHEAD_MAX);
    assert!(questions.next().is_empty());
    assert!(first.len() <= AHEAD_MAX * (HEADER_BYTES_MAX + 4) && AHEAD_MAX * (HEADER_BYTES_MAX + 4) < 64 << 10);
}

#[tokio::test]
async fn what_came_before_a_wrong_answer_counts_and_nothing_after_it() {
    let contents = contents(5);
    let wanted = wanted(&contents);
    let of = |wrong: Vec<u8>| [said(&contents[0]), said(&contents[1]), wrong, said(&contents[3])].concat();
    let announced = |size: Option<u64>| {
        let mut said = Vec::new();
        frame::put(&mut said, &cbor::encode(&Answer { size }));
        said
    };
    let mut flipped = said(&contents[2]);
    *flipped.last_mut().unwrap() ^= 1;
    let damaged = [announced(Some(1000)), DAMAGED.to_be_bytes().to_vec()].concat();
    let cases: [(Vec<u8>, Judge); 5] = [
        (flipped, |error| matches!(error, FetchError::WrongBytes { offset: 0, .. })),
        (announced(None), |error| matches!(error, FetchError::NotProvided { .. })),
        (announced(Some(1001)), |error| matches!(error, FetchError::WrongSize { found: 1001, .. })),
        (damaged, |error| matches!(error, FetchError::Damaged { .. })),
        (vec![0, 0, 0, 9], |error| matches!(error, FetchError::Interrupted { .. })),
    ];
    for (number, (wrong, is_expected)) in cases.into_iter().enumerate() {
        let (came, ended) = received(&wanted, async |mut stream| {
            stream.write_all(&of(wrong)).await.unwrap();
            stream.close().await.unwrap();
        })
        .await;
        let error = ended.unwrap_err();
        assert!(is_expected(&error), "{number}: {error:?}");
        assert_eq!(came, contents[..2], "{number}");
    }
}

#[tokio::test]
async fn an_empty_blob_must_be_the_one_that_is_wanted() {
    let lie = Requested::from(BlobRef { hash: jobmesh_protocol::Hash::of(b"not empty"), size: 0 });
    let (came, ended) = received(&[lie], async |mut stream| stream.write_all(&said(b"")).await.unwrap()).await;
    assert!(came.is_empty() && matches!(ended, Err(FetchError::WrongBytes { .. })), "{ended:?}");
}

#[tokio::test]
async fn with_nobody_who_takes_them_it_ends() {
    let contents = contents(3);
    let (wanted, counters) = (wanted(&contents), Counters::default());
    let (into, came) = mpsc::channel(1);
    drop(came);
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    tokio::io::AsyncWriteExt::write_all(&mut theirs, &said(&contents[0])).await.unwrap();
    let questions = wanted.iter().map(|it| Incoming::new((FROM, *it), &counters, |_| ()).question(0, None));
    let mut line = Line::on(ours.compat(), questions);
    let place = Place { counters: &counters, into: &into, on_bytes: |_| () };
    receive(&mut line, (FROM, &wanted), &place).await.unwrap();
}
