//! All that this library wants of the pager, in one place.

use quire_linux::control::client::JoinError;
use quire_linux::pager::{self, Inject, Options, PolicyKind, StartError};
use std::ffi::CString;

pub(crate) use quire_linux::pager::{Call, arena, call, fork_child, fork_parent, fork_prepare, is_managed};

/// What the pager is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The path of `quire`'s socket.
    pub(crate) socket: &'a [u8],
    /// An error on purpose, by its name in `QUIRE_INJECT`.
    pub(crate) inject: Option<&'a [u8]>,
}

/// Starts Quire's threads; the error is an errno.
pub(crate) fn start(options: &Start<'_>) -> Result<(), i32> {
    let socket = CString::new(options.socket).map_err(|_| libc::EINVAL)?;
    let inject = options.inject.and_then(|name| match name {
        b"corrupt-spill" => Some(Inject::CorruptSpill),
        b"stop-handler" => Some(Inject::StopHandler),
        _ => None,
    });
    let options =
        Options { socket: Some(socket), memory: None, policy: PolicyKind::Adaptive, usage, inject };
    pager::start(options).map_err(|error| match error {
        StartError::System(errno) | StartError::Join(JoinError::Socket(errno) | JoinError::Ledger(errno)) => {
            errno.raw_os_error()
        }
        StartError::Join(JoinError::Refused(_) | JoinError::Answer) => libc::EPROTO,
    })
}

/// Bytes that this library holds outside managed memory.
fn usage() -> pager::Usage {
    let usage = crate::start::usage();
    pager::Usage { own: usage.small + usage.tables, loader: usage.loader, libc: usage.libc }
}
