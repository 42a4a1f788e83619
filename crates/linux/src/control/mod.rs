//! What `quire` and the processes it runs share: the ledger of memory, and the messages between them.
//!
//! * [`ledger`]: shared memory with the budget, what each process was granted of it, and its [`counters`].
//!   It outlives every process but `quire`, so the report comes also when the program was killed.
//! * [`grant`]: what a process takes of the budget and gives back.
//! * [`wire`]: the messages on a socket of packets; [`channel`] sends them, with file descriptors.
//! * [`client`]: a process's end of that socket, for threads that libc does not know.
//! * [`ring`]: shared memory in which a process that is recorded leaves [`note`]s for `quire`.
//! * [`outside`]: why a program runs outside the budget; [`notice`]: how one says so that is about to; [`pattern`]: names
//!   of programs that are left alone.
//! * [`watched`]: what the watchdogs of a process know.
//! * [`build_id`]: tells the builds of the binary and the library apart; both share these layouts.
//! * [`latency`]: the histogram that percentiles are read from; [`profile`]: the phases of a fault.

pub mod build_id;
pub mod channel;
pub mod client;
pub mod counters;
pub mod grant;
pub mod latency;
pub mod ledger;
pub mod note;
pub mod notice;
pub mod outside;
pub mod pattern;
pub mod profile;
pub mod ring;
pub mod watched;
pub mod wire;

/// The environment variable that holds the path of `quire`'s socket.
pub const SOCKET_VARIABLE: &str = "QUIRE_SOCKET";
