#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::atomic::Ordering;

use super::*;

fn shelf() -> (Shelf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Shelf::open(folder.path().to_owned()).unwrap(), folder)
}

fn put(shelf: &Shelf, bytes: &[u8]) -> Result<BlobRef, ShelfError> {
    let mut draft = shelf.begin()?;
    draft.write(bytes)?;
    draft.finish()
}

fn make_old(shelf: &Shelf, blob: BlobRef) {
    let file = File::open(shelf.path_of(blob.hash)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7 * 86_400)).unwrap();
}

#[test]
fn only_what_nobody_has_found_for_long_is_deleted() {
    let (shelf, folder) = shelf();
    let day = Duration::from_secs(86_400);
    let [old, found, new] = [b"a".as_slice(), b"b", b"c"].map(|bytes| put(&shelf, bytes).unwrap());
    for blob in [old, found] {
        make_old(&shelf, blob);
    }
    fs::write(folder.path().join("note"), "not a blob").unwrap();
    let mut listed = Vec::new();
    assert_eq!(shelf.each_older(day, |hash, _| listed.push(hash)).unwrap(), 2);
    assert!(shelf.has(found));
    for hash in listed {
        assert_eq!(shelf.remove_older(hash, day).unwrap(), (hash == old.hash).then_some(1));
    }
    assert_eq!(shelf.remove_older(old.hash, day).unwrap(), None);
    assert!(!shelf.has(old) && shelf.has(found) && shelf.has(new));
}

#[test]
fn a_start_removes_what_a_crash_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tmp-7-0"), b"half").unwrap();
    let whole = Hash::of(b"whole").to_string();
    fs::write(folder.path().join(&whole), b"whole").unwrap();
    let shelf = Shelf::open(folder.path().to_owned()).unwrap();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((left, shelf.used()), (vec![whole.into()], 5));
}

#[test]
fn what_is_kept_twice_counts_once_and_what_is_dropped_not_at_all() {
    let (shelf, folder) = shelf();
    put(&shelf, b"four").unwrap();
    put(&shelf, b"four").unwrap();
    assert_eq!(shelf.used(), 4);
    let mut draft = shelf.begin().unwrap();
    draft.write(b"half").unwrap();
    assert_eq!(shelf.used(), 8, "it counts from its first byte");
    drop(draft);
    assert_eq!((shelf.used(), fs::read_dir(folder.path()).unwrap().count()), (4, 1));
}

/// An input larger than the quota was said to have found the node full, with the advice to delete jobs.
#[test]
fn what_alone_is_beyond_the_quota_has_nothing_deleted_for_it() {
    let (shelf, _folder) = shelf();
    shelf.set_quota(10);
    put(&shelf, b"12345678").unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&asked);
    shelf.on_full(move |_, bytes| told.store(bytes, Ordering::Relaxed));
    let refused = put(&shelf, b"more than ten").unwrap_err();
    assert!(matches!(refused, ShelfError::AboveQuota { quota: 10 }), "{refused}");
    assert!(!refused.to_string().contains("prune"), "{refused}");
    assert!(matches!(shelf.room(11), Err(ShelfError::AboveQuota { .. })));
    assert!(matches!(shelf.room(10), Err(ShelfError::OverQuota { .. })));
    assert_eq!((asked.load(Ordering::Relaxed), shelf.used()), (8, 8), "only what could have found room asked for it");
}

#[test]
fn beyond_the_quota_is_nothing_taken_until_somebody_makes_room() {
    let (shelf, _folder) = shelf();
    shelf.set_quota(10);
    let old = put(&shelf, b"12345678").unwrap();
    let refused = put(&shelf, b"abc").unwrap_err().to_string();
    assert!(refused.contains("take 8 bytes") && refused.contains("10 is its quota"), "{refused}");
    assert_eq!(shelf.used(), 8);
    let asked = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&asked);
    shelf.on_full(move |shelf, bytes| {
        told.store(bytes, Ordering::Relaxed);
        make_old(shelf, old);
        shelf.remove_older(old.hash, Duration::from_secs(1)).unwrap();
    });
    put(&shelf, b"abc").unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), shelf.used()), (1, 3));
}

/// A way to use a blob that is damaged.
type Use = dyn Fn(&Shelf, BlobRef) -> ShelfError;

#[test]
fn a_damaged_blob_is_noticed_named_and_deleted() {
    let (shelf, _folder) = shelf();
    let copied = |shelf: &Shelf, blob| match shelf.copy_to(blob, &tempfile::tempfile().unwrap(), &|| false) {
        Err(CopyError::Shelf(error)) => error,
        other => panic!("{other:?}"),
    };
    let uses: [&Use; 3] = [&|shelf, blob| shelf.read(blob, 100).unwrap_err(), &copied, &|shelf, blob| {
        shelf.verify(blob.hash, &|| false).unwrap_err()
    }];
    for (using, rotten) in
        uses.iter().flat_map(|using| [(using, "as it is!"), (using, "as it"), (using, "as it was!!")])
    {
        let blob = put(&shelf, b"as it was").unwrap();
        shelf.verify(blob.hash, &|| false).unwrap();
        assert!(matches!(shelf.verify(blob.hash, &|| true), Err(ShelfError::Stopped)));
        fs::write(shelf.path_of(blob.hash), rotten).unwrap();
        shelf.count_again().unwrap();
        let error = using(&shelf, blob);
        assert!(error.to_string().contains(&blob.hash.to_string()), "{error}");
        assert!(!shelf.has(blob) && shelf.used() == 0);
    }
}

#[test]
fn a_file_with_holes_keeps_them_and_counts_by_its_length() {
    use std::os::unix::fs::MetadataExt as _;
    let (shelf, folder) = shelf();
    let sparse = tempfile::tempfile_in(folder.path()).unwrap();
    sparse.set_len(8 << 20).unwrap();
    let written = shelf.copy_from(&sparse, 8 << 20, &|| false).unwrap();
    assert_eq!((written.blob(), shelf.used()), (BlobRef::of(&vec![0; 8 << 20]), 8 << 20));
    let path = shelf.path_of(written.blob().hash);
    shelf.keep(vec![written]).unwrap();
    assert!(fs::metadata(path).unwrap().blocks() * 512 < 1 << 20, "its holes were filled");
    io::Seek::rewind(&mut &sparse).unwrap();
    let error = shelf.copy_from(&sparse, 1 << 20, &|| false).unwrap_err();
    assert!(matches!(error, ShelfError::TooLarge { .. }), "{error}");
}

#[test]
fn who_is_stopped_leaves_nothing() {
    let (shelf, folder) = shelf();
    let file = tempfile::tempfile().unwrap();
    file.set_len(10).unwrap();
    assert!(matches!(shelf.copy_from(&file, 100, &|| true), Err(ShelfError::Stopped)));
    assert_eq!((fs::read_dir(folder.path()).unwrap().count(), shelf.used()), (0, 0));
}

/// Counting anew took what was on its way for nothing, and more than the quota came.
#[test]
fn what_is_on_its_way_counts_whenever_it_is_counted_anew() {
    let (shelf, folder) = shelf();
    put(&shelf, b"four").unwrap();
    let room = shelf.room(10).unwrap();
    fs::write(folder.path().join("abc.10.part"), b"half").unwrap();
    shelf.count_again().unwrap();
    assert_eq!(shelf.used(), 14);
    room.keep();
    assert_eq!(shelf.used(), 14, "it is there now");
}
