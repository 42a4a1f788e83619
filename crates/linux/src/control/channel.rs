//! Packets with file descriptors, over a unix socket that keeps their boundaries. Nothing here allocates.

use crate::sys::tally::{self, Call};
use core::array;
use core::mem::MaybeUninit;
use core::slice;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{self, Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that one packet carries.
pub const DESCRIPTORS: usize = 64;

/// The descriptors that came with a packet. Those not taken are closed.
#[derive(Debug)]
pub struct Descriptors {
    all: [Option<OwnedFd>; DESCRIPTORS],
    len: usize,
}

impl Descriptors {
    fn none() -> Descriptors {
        Descriptors { all: array::from_fn(|_| None), len: 0 }
    }

    /// How many came.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes descriptor number `index`, if it came and was not taken before.
    pub fn take(&mut self, index: usize) -> Option<OwnedFd> {
        self.all.get_mut(index)?.take()
    }
}

/// Sends one packet. Waits for room unless `flags` says [`SendFlags::DONTWAIT`]; raises no SIGPIPE.
/// `EINVAL` with more than [`DESCRIPTORS`] descriptors.
pub fn send(socket: impl AsFd, packet: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && (fds.len() > DESCRIPTORS || !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(Errno::INVAL);
    }
    let socket = socket.as_fd();
    tally::count(Call::Send);
    io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(packet)], &mut control, flags | SendFlags::NOSIGNAL))
        .map(drop)
}

/// Receives one packet into `buffer`. `None`: the other end is closed. `EMSGSIZE`: it did not fit.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<(&[u8], Descriptors)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let socket = socket.as_fd();
    tally::count(Call::Receive);
    let message = io::retry_on_intr(|| {
        let mut parts = IoSliceMut::new(buffer);
        recvmsg(socket, slice::from_mut(&mut parts), &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptors = collect(&mut control);
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    // No message of the protocol is empty, so no bytes means that the other end is gone.
    Ok((message.bytes > 0).then(|| (&buffer[..message.bytes], descriptors)))
}

/// Owns what the kernel put into the table of descriptors.
fn collect(control: &mut RecvAncillaryBuffer<'_>) -> Descriptors {
    let mut found = Descriptors::none();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                if let Some(place) = found.all.get_mut(found.len) {
                    *place = Some(fd);
                    found.len += 1;
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn packets_keep_their_boundaries_and_descriptors() {
        let (one, two) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let many = [one.as_fd(); DESCRIPTORS];
        send(&one, b"first", &many, SendFlags::empty()).unwrap();
        send(&one, b"second", &[], SendFlags::empty()).unwrap();
        assert_eq!(
            send(&one, b"third", &[one.as_fd(); DESCRIPTORS + 1], SendFlags::empty()),
            Err(Errno::INVAL)
        );

        let mut buffer = [0; 16];
        let (packet, mut fds) = receive(&two, &mut buffer, RecvFlags::empty()).unwrap().unwrap();
        assert_eq!((packet, fds.len()), (&b"first"[..], DESCRIPTORS));
        assert!(fds.take(DESCRIPTORS - 1).is_some() && fds.take(DESCRIPTORS - 1).is_none());
        // They are copies of the end that is closed below.
        drop(fds);
        let (packet, fds) = receive(&two, &mut buffer, RecvFlags::empty()).unwrap().unwrap();
        assert!(packet == b"second" && fds.is_empty());

        send(&one, &[1; 17], &[], SendFlags::empty()).unwrap();
        assert_eq!(receive(&two, &mut buffer, RecvFlags::empty()).err(), Some(Errno::MSGSIZE));
        drop(one);
        assert!(receive(&two, &mut buffer, RecvFlags::empty()).unwrap().is_none());
    }
}
