//! The embedded store: one SQLite file, WAL, a revision is on disk when `begin` returns. Only this folder speaks SQL.

mod audit;
mod ballast;
#[cfg(any(test, feature = "fuzz"))]
mod edited;
mod lists;
mod read;
mod releases;
mod retain;
mod revisions;
mod schema;
mod verify;
mod whole;
mod workloads;

use std::{
    fs::OpenOptions,
    io,
    ops::ControlFlow,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::PathBuf,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::fail::{self, Point};
pub use ballast::FILE as BALLAST;
use ballast::{Ballast, is_full};
pub use retain::Retention;
use retain::{Piece, Sweep};
pub use verify::Auditor;

use super::{
    AuditRecord, Draft, Error, Link, LogEntry, Mark, Note, OverlayInfo, Release, Result, Revision, Source,
    State, StateDir, Store, Verified, Workload,
};

const FILE: &str = "gray.db";
/// Up to this size the whole file is checked at open (about 3 ms per MB); larger ones by [`Sqlite::check`].
const CHECK_AT_OPEN: u64 = 32 << 20;

/// An edit of more ids leaves megabytes of page cache behind that nothing needs afterwards.
const MANY_IDS: usize = 10_000;

/// Commits that stay in the write-ahead log, some dozen pages each.
const LOGGED: u32 = 64;

/// The store of one node. Use it from one thread at a time; a call blocks while it writes.
#[derive(Debug)]
pub struct Sqlite {
    db: Connection,
    path: PathBuf,
    /// What is prepared names many ids.
    many: bool,
    /// Commits since the log was last moved to the file.
    logged: u32,
    ballast: Ballast,
    /// Room was made since somebody last asked.
    made_room: bool,
    /// What is written now takes a release back.
    way_back: bool,
    /// The last write found no room, or the disk has none.
    full: bool,
    /// Device and inode that the path was opened as; none: it is in memory.
    file: Option<(u64, u64)>,
    /// What nobody refers to is looked for from here on.
    sweep: Sweep,
}

/// An error of this folder before it knows the file's path.
#[derive(Debug)]
enum Fail {
    Sql(rusqlite::Error),
    Damaged(String),
    Own(Error),
}

type Inner<T> = std::result::Result<T, Fail>;

impl From<rusqlite::Error> for Fail {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sql(e)
    }
}

impl From<Error> for Fail {
    fn from(e: Error) -> Self {
        Self::Own(e)
    }
}

impl Sqlite {
    /// Opens or makes `gray.db` (0600) and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Foreign`], [`Error::Corrupt`], [`Error::Dir`].
    pub fn open(dir: &StateDir) -> Result<Self> {
        let path = dir.path().join(FILE);
        let size = private_file(&path).map_err(|source| Error::Dir { path: path.clone(), source })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let opened = Connection::open_with_flags(&path, flags).map_err(Fail::from);
        let db = opened.map_err(|f| locate(&path, f))?;
        let file = inode(&path).map_err(|source| Error::Dir { path: path.clone(), source })?;
        let ballast = Ballast::of(&path);
        let mut store = Self::over(db, path, ballast, Some(file));
        let ready = schema::prepare(&mut store.db, &store.path);
        store.located(ready)?;
        if size <= CHECK_AT_OPEN {
            store.check()?;
        }
        Ok(store)
    }

    fn over(db: Connection, path: PathBuf, ballast: Ballast, file: Option<(u64, u64)>) -> Self {
        Self {
            db,
            path,
            many: false,
            logged: 0,
            ballast,
            made_room: false,
            way_back: false,
            full: false,
            file,
            sweep: Sweep::anew(),
        }
    }

    /// Checks every page and index of the file.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn check(&self) -> Result<()> {
        self.located(verify::pages(&self.db))
    }

    /// For those who verify beside the agent.
    pub fn auditor(&self) -> Auditor {
        Auditor { path: self.path.clone() }
    }

    /// Labels processes of this node; audited. Replaces a workload of the same name.
    pub fn set_workload(&mut self, workload: &Workload, at: u64, who: &str) -> Result<()> {
        self.write(|tx| workloads::set(tx, workload, at, who))
    }

    /// `false`: there was none of that name (nothing is recorded then).
    pub fn remove_workload(&mut self, name: &str, at: u64, who: &str) -> Result<bool> {
        self.write(|tx| workloads::remove(tx, name, at, who))
    }

    /// By name.
    pub fn workloads(&self) -> Result<Vec<Workload>> {
        self.located(workloads::all(&self.db))
    }

    /// A release's state, and what happened on the way to it, in one step; `note` is for the audit.
    pub fn save_release(
        &mut self,
        r: &Release,
        happened: &[LogEntry],
        note: Option<&Note<'_>>,
    ) -> Result<()> {
        self.write(|tx| releases::save(tx, r, happened, note))
    }

    /// The same as a part of the revision that is prepared and not committed yet: both or neither.
    ///
    /// # Errors
    /// [`Error::Invalid`] where none is.
    pub fn add_release(&mut self, r: &Release, happened: &[LogEntry], note: Option<&Note<'_>>) -> Result<()> {
        let done = match self.db.is_autocommit() {
            true => Err(Error::invalid("no revision is prepared").into()),
            false => releases::save(&self.db, r, happened, note),
        };
        if done.is_err() {
            let _ = self.make_room(&done);
            // Not a part of it: the revision goes, too.
            let taken_back = self.take_back();
            self.located(taken_back)?;
        }
        self.located(done)
    }

    /// By name.
    pub fn releases(&self) -> Result<Vec<Release>> {
        self.located(releases::all(&self.db))
    }

    /// These are known no more, with their histories; of `name` the histories of this many runs are kept, the newest.
    pub fn forget_releases(&mut self, gone: &[String], (name, runs): (&str, usize)) -> Result<()> {
        self.write(|tx| releases::forget(tx, gone, (name, runs)))
    }

    /// Newest first, of all runs of this name.
    pub fn release_log(&self, name: &str, limit: usize) -> Result<Vec<LogEntry>> {
        self.located(releases::log(&self.db, name, limit))
    }

    /// Drops old revisions, and what only they held: a piece of it, in one small transaction. Whether there may be more.
    pub fn retain(&mut self, keep: &Retention, at: u64) -> Result<bool> {
        // What is prepared comes first.
        if !self.db.is_autocommit() {
            return Ok(false);
        }
        let old = retain::old(&self.db, keep);
        let (piece, next) = match self.located(old)? {
            none if none.is_empty() => self.located(retain::next(&self.db, &self.sweep))?,
            old => (Piece::Revisions(old), Sweep::anew()),
        };
        if !piece.is_empty() {
            // Not worth what is held back for a full disk.
            let done = self.try_write(&|tx: &Transaction<'_>| piece.remove(tx, at));
            self.moved_on(&done);
            self.located(done)?;
        }
        self.sweep = next;
        Ok(self.sweep != Sweep::Done)
    }

    /// Forgets what was prepared and not committed.
    fn take_back(&self) -> Inner<()> {
        if self.db.is_autocommit() { Ok(()) } else { Ok(self.db.execute_batch("ROLLBACK")?) }
    }

    /// Whether the disk was full since the last call, and there is room now: what failed by it may be tried again at once.
    pub fn made_room(&mut self) -> bool {
        std::mem::take(&mut self.made_room)
    }

    /// Until it is told otherwise: what is written takes a release back. It may have what is held back for a full disk, and waits for no
    /// directory. How it was before.
    pub fn on_the_way_back(&mut self, yes: bool) -> bool {
        std::mem::replace(&mut self.way_back, yes)
    }

    /// Looks at the disk: holds room back again where there is some and none is.
    pub fn hold_back(&mut self) {
        self.ballast.refill();
        self.full = self.ballast.is_full().unwrap_or(self.full);
    }

    /// What keeps changes from being written, or a way back on a full disk.
    pub fn trouble(&self) -> Option<Error> {
        match self.is_there() {
            Err(e) => Some(e),
            Ok(()) if self.full => Some(self.no_room()),
            Ok(()) if self.ballast.is_lacking() => Some(Error::NoBallast { dir: self.dir() }),
            Ok(()) => None,
        }
    }

    fn dir(&self) -> PathBuf {
        self.path.parent().unwrap_or(&self.path).to_owned()
    }

    fn no_room(&self) -> Error {
        Error::Full { dir: self.dir() }
    }

    /// What is written into a file that nobody finds any more is lost, whatever the file says.
    fn is_there(&self) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        match inode(&self.path) {
            Ok(found) if found == file => Ok(()),
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            _ => Err(Error::Gone { dir: self.dir() }),
        }
    }

    /// A way back is taken all the same: it is in force at once, also where nothing keeps it.
    fn may_write(&self) -> Inner<()> {
        if self.way_back { Ok(()) } else { Ok(self.is_there()?) }
    }

    /// Gives up what is held back when this failed for want of room, and takes a release back.
    fn make_room<T>(&mut self, done: &Inner<T>) -> bool {
        let failed = done.as_ref().is_err_and(is_full);
        // Until there is plenty: a small write may fit where a large one did not.
        self.full |= failed;
        let made = failed && self.way_back && self.ballast.give();
        self.made_room |= made;
        made
    }

    /// One durable transaction: all of `f` or nothing. On a full disk a way back asks `f` twice.
    fn write<T>(&mut self, f: impl Fn(&Transaction<'_>) -> Inner<T>) -> Result<T> {
        let mut done = self.try_write(&f);
        if self.make_room(&done) {
            done = self.try_write(&f);
        }
        self.moved_on(&done);
        self.located(done)
    }

    /// After a commit: what is in the log moves to the file now and then.
    fn moved_on<T>(&mut self, done: &Inner<T>) {
        self.logged += 1;
        if self.logged > LOGGED {
            self.logged = 0;
            // It only makes room: what is in the log is as durable.
            if let Err(e) = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::warn!(error = %e, "the write-ahead log stays as it is");
            }
        }
        if done.is_ok() {
            self.hold_back();
        }
    }

    fn try_write<T>(&mut self, f: &impl Fn(&Transaction<'_>) -> Inner<T>) -> Inner<T> {
        self.may_write()?;
        self.take_back()?;
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = f(&tx)?;
        fail_at(Point::StoreCommit)?;
        tx.commit()?;
        fail_at(Point::StoreCommitted)?;
        Ok(value)
    }

    fn located<T>(&self, done: Inner<T>) -> Result<T> {
        if done.as_ref().is_err_and(is_full) {
            return Err(self.no_room());
        }
        done.map_err(|f| locate(&self.path, f))
    }
}

fn fail_at(point: Point) -> Inner<()> {
    fail::point(point).map_err(|e| Error::invalid(e.to_string()).into())
}

/// A cell that holds what nobody writes there.
fn is_cell(e: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(e, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

fn locate(path: &std::path::Path, fail: Fail) -> Error {
    let path = path.to_owned();
    match fail {
        Fail::Own(e) => e,
        Fail::Damaged(detail) => Error::Corrupt { path, detail },
        Fail::Sql(e) => match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Corrupt { path, detail: e.to_string() }
            }
            None if is_cell(&e) => Error::Corrupt { path, detail: e.to_string() },
            _ => Error::Sqlite { path, source: e },
        },
    }
}

fn inode(path: &std::path::Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Makes the file with its mode before SQLite does (its side files follow that mode); returns its size.
fn private_file(path: &std::path::Path) -> io::Result<u64> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let meta = file.metadata()?;
    if meta.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(meta.len())
}

impl Store for Sqlite {
    fn prepare(&mut self, draft: &Draft) -> Result<u64> {
        let done = self.may_write().and_then(|()| self.take_back()).and_then(|()| {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            revisions::begin(&self.db, draft)
        });
        self.many = draft.lists.iter().map(|e| e.ids.len()).sum::<usize>() > MANY_IDS;
        if done.is_err() {
            let _ = self.make_room(&done);
            let taken_back = self.take_back();
            self.located(taken_back)?;
        }
        self.located(done)
    }

    fn commit(&mut self) -> Result<bool> {
        if self.db.is_autocommit() {
            return Ok(false);
        }
        let done =
            fail_at(Point::StoreCommit).and_then(|()| self.db.execute_batch("COMMIT").map_err(Fail::from));
        if done.is_err() {
            let _ = self.make_room(&done);
            let taken_back = self.take_back();
            self.located(taken_back)?;
        }
        self.located(done)?;
        self.full = false;
        self.logged += 1;
        if std::mem::take(&mut self.many) {
            self.logged = LOGGED;
            // The revision is written: a cache that stays large is no reason to fail.
            let _ = self.db.execute_batch("PRAGMA shrink_memory");
        }
        self.located(fail_at(Point::StoreCommitted))?;
        Ok(true)
    }

    fn activate(&mut self, rev: u64, at: u64) -> Result<()> {
        self.write(|tx| revisions::activate(tx, rev, at))
    }

    fn fail(&mut self, rev: u64, at: u64, reason: &str) -> Result<()> {
        self.write(|tx| revisions::undo(tx, rev, at, &State::Failed { reason: reason.to_owned() }))
    }

    fn interrupt(&mut self, rev: u64, at: u64, reason: &str) -> Result<()> {
        self.write(|tx| revisions::undo(tx, rev, at, &State::Interrupted { reason: reason.to_owned() }))
    }

    fn active(&self) -> Result<Option<Revision>> {
        self.located(read::in_state(&self.db, "active"))
    }

    fn pending(&self) -> Result<Option<Revision>> {
        self.located(read::in_state(&self.db, "pending"))
    }

    fn revision(&self, rev: u64) -> Result<Revision> {
        self.located(read::revision(&self.db, rev))
    }

    fn history(&self, limit: usize, before: Option<u64>) -> Result<Vec<Revision>> {
        self.located(read::history(&self.db, limit, before))
    }

    fn sources(&self, rev: u64) -> Result<Vec<Source>> {
        self.located(read::sources(&self.db, rev))
    }

    fn assignments(&self, rev: u64) -> Result<Option<String>> {
        self.located(read::assignments(&self.db, rev))
    }

    fn overlays(&self, rev: u64) -> Result<Vec<(String, OverlayInfo)>> {
        self.located(lists::overlays(&self.db, rev))
    }

    fn overlay_info(&self, rev: u64, cohort: &str) -> Result<OverlayInfo> {
        self.located(lists::info(&self.db, rev, cohort))
    }

    fn overlay(
        &self,
        rev: u64,
        cohort: &str,
        visit: &mut dyn FnMut(Mark, &str) -> ControlFlow<()>,
    ) -> Result<()> {
        self.located(lists::visit(&self.db, rev, cohort, visit))
    }

    fn record(&mut self, note: &Note<'_>) -> Result<u64> {
        self.write(|tx| audit::note(tx, note))
    }

    fn audit(&self, limit: usize, before: Option<u64>) -> Result<Vec<AuditRecord>> {
        self.located(audit::page(&self.db, limit, before))
    }

    fn verify(&self) -> Result<Verified> {
        self.located(verify::whole(&self.db))
    }
}

#[cfg(test)]
mod tests;
