//! All that this library wants of the pager, in one place.

use core::ffi::CStr;

use quire_linux::pager::{self, Inject, Options, PolicyKind, StartError};
pub(crate) use quire_linux::pager::{
    Call, Excused, FOREIGN_TARGET, Kind, Piece, TARGET_ENDED, arena, before_filter, call, check_at_end,
    excuse, fork_child, fork_parent, fork_prepare, has_foreign, is_announced, is_counted, is_managed, leaves,
    piece, tell_outside,
};
pub(crate) use quire_linux::sys::mmap::moves_several;

use crate::{heap, raw};

/// Excuses the calling thread, which is about to make a thread, a child or another program of itself.
pub(crate) fn excuse_caller() -> Excused {
    excuse(raw::gettid())
}

/// Ends what was kept for it.
pub(crate) fn end_excuse() {
    Excused::end(raw::gettid());
}

/// What the pager is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The path of `quire`'s socket.
    pub(crate) socket: &'a CStr,
    /// An error on purpose, by its name in `QUIRE_INJECT`.
    pub(crate) inject: Option<&'a CStr>,
    /// Whether the tables are to be checked, by `QUIRE_CHECK`.
    pub(crate) check: bool,
}

/// Sends the process to sleep. Whether it does: else it is to be managed from its start on.
pub(crate) fn sleep(options: &Start<'_>) -> bool {
    pager::sleep::begin(with(options))
}

/// Starts Quire's threads, which join `quire`.
pub(crate) fn start(options: &Start<'_>) -> Result<(), StartError> {
    pager::start(with(options))
}

fn with(options: &Start<'_>) -> Options {
    let inject = options.inject.and_then(|name| Inject::named(name.to_bytes()));
    Options {
        socket: Some(options.socket.to_owned()),
        // quire says how much memory there is, and by which policy.
        memory: None,
        policy: PolicyKind::Adaptive,
        usage,
        mapped,
        refused: crate::start::refused,
        inject,
        check: options.check,
    }
}

/// Bytes that this library has mapped outside managed memory, touched or not.
fn mapped() -> u64 {
    heap::mapped_bytes()
}

/// Bytes that this library holds outside managed memory. Takes no lock and calls nobody.
fn usage() -> u64 {
    let (small, large) = heap::resident_bytes();
    small + large
}
