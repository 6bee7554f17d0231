//! The disks as SQLite's file system: the one place where C calls us.
//!
//! Each method turns what C hands over into what the module `drive` takes, and its answer into a code of SQLite. The
//! drives are found by the number in a file's path, in a table of the thread: a connection is used by the thread that
//! opened it. The wal-index lies in plain memory, since each database here has one connection.
#![expect(unsafe_code, reason = "SQLite takes a file system as C functions only")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::rc::{Rc, Weak};
use std::slice;
use std::sync::Once;

use rusqlite::ffi;

use super::drive::{Boot, Drive, FileId, IoError};
use crate::random::Stream;

/// The name of the VFS.
pub(crate) const NAME: &str = "jobmesh-disk";
const NAME_NUL: &CStr = c"jobmesh-disk";
/// Longest path.
const PATH_BYTES_MAX: c_int = 64;
/// What the clock of the VFS always says, in milliseconds of the Julian calendar: 2026-01-01. The store asks nobody for
/// the time.
const JULIAN_MILLIS: i64 = 212_633_985_600_000;
/// The granularity that SQLite assumes for the common file systems, too.
const SECTOR_BYTES: c_int = 4096;

thread_local! {
    static DRIVES: RefCell<Drives> = const { RefCell::new(Drives { mounted: BTreeMap::new(), last: 0, salt: None }) };
}

/// The drives of a thread.
struct Drives {
    mounted: BTreeMap<u64, Weak<RefCell<Drive>>>,
    last: u64,
    /// What SQLite's own random numbers grow from.
    salt: Option<Stream>,
}

/// Makes a drive known to SQLite and returns its number, under which its paths begin.
pub(super) fn mount(drive: &Rc<RefCell<Drive>>) -> u64 {
    register();
    DRIVES.with_borrow_mut(|drives| {
        drives.last += 1;
        drives.mounted.insert(drives.last, Rc::downgrade(drive));
        drives.last
    })
}

pub(super) fn unmount(number: u64) {
    DRIVES.with_borrow_mut(|drives| drives.mounted.remove(&number));
}

/// Has SQLite draw its random numbers from this seed, and numbers the drives of this thread from 1 again.
pub(crate) fn seed(seed: u64) {
    register();
    DRIVES.with_borrow_mut(|drives| drives.salt = Some(Stream::new(seed, "sqlite")));
    // SAFETY: with no room to fill, the call only forgets the state of the generator; SQLite locks it itself.
    unsafe { ffi::sqlite3_randomness(0, ptr::null_mut()) };
}

/// Registers the VFS with SQLite, once in a process.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: nobody has used SQLite yet in this process but to ask for its version, and this option takes one int.
        let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
        // Worlds run on several threads, and each allocation would take a lock to be counted.
        assert_eq!(code, ffi::SQLITE_OK, "SQLite counts no memory");
        let vfs = Box::leak(Box::new(methods_of_the_vfs()));
        // SAFETY: the structure lives for ever, its name ends with a zero byte, and nobody else writes to it.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 1) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite takes the VFS");
    });
}

fn methods_of_the_vfs() -> ffi::sqlite3_vfs {
    ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<OpenFile>()).unwrap_or(c_int::MAX),
        mxPathname: PATH_BYTES_MAX,
        pNext: ptr::null_mut(),
        zName: NAME_NUL.as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_path),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_millis),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

static FILE_METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// What SQLite keeps for an open file. It makes the room; [`open`] fills it and [`close`] empties it.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    opened: Opened,
}

struct Opened {
    drive: Rc<RefCell<Drive>>,
    boot: Boot,
    file: FileId,
    shared: Vec<Region>,
}

/// A part of the wal-index, aligned as SQLite wants it. Owned by the file that mapped it.
struct Region {
    memory: *mut u64,
    words: usize,
}

impl Region {
    fn new(bytes: usize) -> Self {
        let words = bytes.div_ceil(size_of::<u64>());
        let memory = Box::into_raw(vec![0_u64; words].into_boxed_slice()).cast();
        Self { memory, words }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let memory = ptr::slice_from_raw_parts_mut(self.memory, self.words);
        // SAFETY: the memory came from a box of this length, and SQLite has unmapped or closed the file.
        drop(unsafe { Box::from_raw(memory) });
    }
}

impl Opened {
    /// Does something with the drive; a drive in use is a bug of ours that C must not see as a panic.
    fn on_drive(&self, act: impl FnOnce(&mut Drive) -> Result<c_int, IoError>) -> c_int {
        let Ok(mut drive) = self.drive.try_borrow_mut() else { return ffi::SQLITE_INTERNAL };
        act(&mut drive).unwrap_or_else(code)
    }
}

const fn code(error: IoError) -> c_int {
    match error {
        IoError::Dead => ffi::SQLITE_IOERR,
        IoError::Read => ffi::SQLITE_IOERR_READ,
        IoError::Write => ffi::SQLITE_IOERR_WRITE,
        IoError::Sync => ffi::SQLITE_IOERR_FSYNC,
        IoError::Full => ffi::SQLITE_FULL,
        IoError::Missing => ffi::SQLITE_CANTOPEN,
    }
}

/// A file that SQLite has open.
///
/// # Safety
/// `file` was filled by [`open`] and not emptied by [`close`], and nothing else refers to it.
unsafe fn opened<'f>(file: *mut ffi::sqlite3_file) -> &'f mut Opened {
    // SAFETY: by the condition above, and SQLite uses a file from one thread at a time.
    unsafe { &mut (*file.cast::<OpenFile>()).opened }
}

/// The drive and the name in a path such as `/7/jobs.db`.
///
/// # Safety
/// `path` is null or a string that ends with a zero byte.
unsafe fn place<'p>(path: *const c_char) -> Option<(Rc<RefCell<Drive>>, &'p str)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: by the condition above.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let (number, name) = path.strip_prefix('/')?.split_once('/')?;
    let number: u64 = number.parse().ok()?;
    let drive = DRIVES.with(|drives| drives.try_borrow().ok()?.mounted.get(&number)?.upgrade())?;
    Some((drive, name))
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over room for a file; without methods it never closes it.
    unsafe { (*file).pMethods = ptr::null() };
    // SAFETY: SQLite's paths end with a zero byte.
    let found = unsafe { place(path) };
    let (drive, name) = match found {
        Some((drive, name)) => (drive, Some(name)),
        // A file without a name, for what does not fit into memory.
        None if path.is_null() => (Rc::new(RefCell::new(Drive::new(Stream::new(0, "nameless")))), None),
        None => return ffi::SQLITE_CANTOPEN,
    };
    if name.is_none() {
        drive.borrow_mut().start();
    }
    let may_make = flags & ffi::SQLITE_OPEN_CREATE != 0;
    let made = match drive.try_borrow_mut() {
        Ok(mut drive) => drive.open(name, may_make).map(|id| (drive.boot(), id)),
        Err(_) => return ffi::SQLITE_INTERNAL,
    };
    let (boot, id) = match made {
        Ok(made) => made,
        Err(error) => return code(error),
    };
    let base = ffi::sqlite3_file { pMethods: &raw const FILE_METHODS };
    let opened = Opened { drive, boot, file: id, shared: Vec::new() };
    // SAFETY: the room is as large as `szOsFile` says and aligned for any of C's types; `out_flags` may be null.
    unsafe {
        file.cast::<OpenFile>().write(OpenFile { base, opened });
        if let Some(out) = out_flags.as_mut() {
            *out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: SQLite's paths end with a zero byte.
    let Some((drive, name)) = (unsafe { place(path) }) else { return ffi::SQLITE_IOERR_DELETE };
    let Ok(mut drive) = drive.try_borrow_mut() else { return ffi::SQLITE_INTERNAL };
    match drive.delete(name, sync_directory != 0) {
        Ok(()) => ffi::SQLITE_OK,
        Err(IoError::Missing) => ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(error) => code(error),
    }
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, path: *const c_char, flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite's paths end with a zero byte.
    let found = unsafe { place(path) };
    let length = found.and_then(|(drive, name)| drive.try_borrow().ok()?.find(name));
    let is_there = match length {
        // An empty file counts as none where SQLite looks for a journal or a log, as on Unix.
        Some(length) => length > 0 || flags != ffi::SQLITE_ACCESS_EXISTS,
        None => false,
    };
    // SAFETY: SQLite hands over room for the answer.
    unsafe { *out = c_int::from(is_there) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(_: *mut ffi::sqlite3_vfs, path: *const c_char, room: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite's paths end with a zero byte.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes_with_nul();
    if usize::try_from(room).is_ok_and(|room| path.len() <= room) {
        // SAFETY: the path fits into the room, which SQLite has made apart from it.
        unsafe { ptr::copy_nonoverlapping(path.as_ptr().cast(), out, path.len()) };
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_CANTOPEN
    }
}

unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    let length = usize::try_from(length).unwrap_or(0);
    let drawn = DRIVES.with(|drives| {
        let mut drives = drives.try_borrow_mut().ok()?;
        Some(drives.salt.get_or_insert_with(|| Stream::new(0, "sqlite")).bytes(length))
    });
    let bytes = drawn.unwrap_or_else(|| vec![0; length]);
    // SAFETY: SQLite hands over room for so many bytes.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, length) };
    c_int::try_from(length).unwrap_or(0)
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite hands over room for the answer.
    unsafe { *out = 2_461_041.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_millis(_: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: SQLite hands over room for the answer.
    unsafe { *out = JULIAN_MILLIS };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open file once, and touches its room no more but to free it.
    unsafe {
        ptr::drop_in_place(file.cast::<OpenFile>());
        (*file).pMethods = ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, out: *mut c_void, length: c_int, at: i64) -> c_int {
    let (Ok(length), Ok(at)) = (usize::try_from(length), usize::try_from(at)) else { return ffi::SQLITE_IOERR_READ };
    // SAFETY: SQLite hands over room for so many bytes, which are zero before anyone looks at them; what can't be read
    // must be zero, too.
    let buffer = unsafe {
        ptr::write_bytes(out.cast::<u8>(), 0, length);
        slice::from_raw_parts_mut(out.cast::<u8>(), length)
    };
    // SAFETY: SQLite calls this for open files only.
    let opened = unsafe { opened(file) };
    let (boot, id) = (opened.boot, opened.file);
    opened.on_drive(|drive| {
        let found = drive.read(boot, id, at, buffer)?;
        Ok(if found == length { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ })
    })
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, length: c_int, at: i64) -> c_int {
    let (Ok(length), Ok(at)) = (usize::try_from(length), usize::try_from(at)) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite hands over so many bytes.
    let bytes = unsafe { slice::from_raw_parts(from.cast::<u8>(), length) };
    // SAFETY: SQLite calls this for open files only.
    let opened = unsafe { opened(file) };
    let (boot, id) = (opened.boot, opened.file);
    opened.on_drive(|drive| drive.write(boot, id, at, bytes).map(|()| ffi::SQLITE_OK))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    let Ok(length) = usize::try_from(length) else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: SQLite calls this for open files only.
    let opened = unsafe { opened(file) };
    let (boot, id) = (opened.boot, opened.file);
    opened.on_drive(|drive| drive.truncate(boot, id, length).map(|()| ffi::SQLITE_OK))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: SQLite calls this for open files only.
    let opened = unsafe { opened(file) };
    let (boot, id) = (opened.boot, opened.file);
    opened.on_drive(|drive| drive.sync(boot, id).map(|()| ffi::SQLITE_OK))
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: SQLite calls this for open files only.
    let opened = unsafe { opened(file) };
    let (boot, id) = (opened.boot, opened.file);
    let mut length = 0;
    let code = opened.on_drive(|drive| {
        length = drive.length(boot, id)?;
        Ok(ffi::SQLITE_OK)
    });
    // SAFETY: SQLite hands over room for the answer.
    unsafe { *out = i64::try_from(length).unwrap_or(i64::MAX) };
    code
}

/// Locks are always free: a database here has one connection.
unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite hands over room for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    SECTOR_BYTES
}

/// What SQLite assumes on Unix: a write that is torn does no harm beyond its own bytes.
unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite calls this for open files only.
    let opened = unsafe { opened(file) };
    let (Ok(region), Ok(bytes)) = (usize::try_from(region), usize::try_from(bytes)) else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    while extend != 0 && opened.shared.len() <= region {
        opened.shared.push(Region::new(bytes));
    }
    let memory = opened.shared.get(region).map_or(ptr::null_mut(), |region| region.memory.cast());
    // SAFETY: SQLite hands over room for the answer.
    unsafe { *out = memory };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(_: *mut ffi::sqlite3_file, _: c_int, _: c_int, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: SQLite calls this for open files only, and uses no part of the wal-index afterwards.
    unsafe { opened(file) }.shared.clear();
    ffi::SQLITE_OK
}
