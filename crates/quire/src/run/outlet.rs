//! Files that are written by a thread of their own: however long a disk or a reader of a pipe takes, the poll loop goes on.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// From so many bytes on that wait, an outlet is full. It takes more all the same: whoever fills it looks.
const FULL: usize = 256 << 10;
/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// The time between two questions whether to wait any longer for the last bytes.
const LOOK: Duration = Duration::from_millis(5);

/// A file to write to. Writing never waits; an error of the file is told by a later call.
pub(super) struct Outlet {
    shared: Arc<Shared>,
    /// The file, until there is something to write.
    file: Option<File>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something in the state has changed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the thread has not taken up yet.
    bytes: Vec<u8>,
    /// Bytes that are not in the file yet.
    left: usize,
    /// What went wrong, until it is told.
    error: Option<io::Error>,
    /// Something went wrong: nothing is written any longer.
    failed: bool,
    /// Nothing more will come.
    closed: bool,
}

impl Outlet {
    /// One that writes to `file`.
    pub(super) fn new(file: File) -> Outlet {
        Outlet { shared: Arc::default(), file: Some(file) }
    }

    /// Whether so much waits that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.shared.lock().left >= FULL
    }

    /// What went wrong, if it was not told yet.
    pub(super) fn error(&self) -> Option<io::Error> {
        self.shared.lock().error.take()
    }

    /// Waits until all is in the file. `leave` is asked again and again, with the number of bytes that are not, whether
    /// to wait no longer.
    pub(super) fn finish(&self, leave: &mut dyn FnMut(usize) -> bool) -> io::Result<()> {
        loop {
            let mut state = self.shared.lock();
            if state.left > 0 {
                state =
                    self.shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
            match (state.error.take(), state.left) {
                (Some(error), _) => return Err(error),
                (None, 0) => return Ok(()),
                (None, left) => {
                    drop(state);
                    if leave(left) {
                        return Err(io::Error::new(
                            ErrorKind::TimedOut,
                            format!("quire was told to end, and {left} bytes still wait"),
                        ));
                    }
                }
            }
        }
    }
}

impl Write for Outlet {
    /// The first bytes start the thread. By then the supervisor has blocked the signals that it takes, so that no thread
    /// gets one in its place.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = self.file.take() {
            let shared = Arc::clone(&self.shared);
            thread::Builder::new().name("quire-writer".into()).spawn(move || shared.write_all(file))?;
        }
        let mut state = self.shared.lock();
        if state.failed {
            return Err(state.error.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into()));
        }
        state.bytes.extend_from_slice(bytes);
        state.left += bytes.len();
        self.shared.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.error().map_or(Ok(()), Err)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    fn write_all(&self, mut file: File) {
        let mut bytes = Vec::new();
        while self.take(&mut bytes) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                match file.write(&rest[..rest.len().min(PIECE)]) {
                    Ok(0) => return self.fail(ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        rest = &rest[count..];
                        self.lock().left -= count;
                        self.changed.notify_all();
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return self.fail(error),
                }
            }
        }
    }

    /// Waits for something to write, and takes it. False when nothing more will come.
    fn take(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        let mut state = self.lock();
        while state.bytes.is_empty() {
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(bytes, &mut state.bytes);
        true
    }

    fn fail(&self, error: io::Error) {
        let mut state = self.lock();
        *state = State { error: Some(error), failed: true, closed: state.closed, ..State::default() };
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    /// An outlet into a pipe, and the end that is read.
    fn pipe() -> (Outlet, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Outlet::new(File::from(OwnedFd::from(writer))), reader)
    }

    #[test]
    fn who_writes_never_waits_and_all_arrives_in_order() {
        let (mut outlet, mut reader) = pipe();
        let all: Vec<u8> = (0..FULL as u32).flat_map(u32::to_le_bytes).collect();
        for piece in all.chunks(1000) {
            assert_eq!(outlet.write(piece).unwrap(), piece.len());
        }
        assert!(outlet.is_full(), "nobody has read anything");
        let reader = thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        outlet.finish(&mut |_| false).unwrap();
        assert!(!outlet.is_full());
        drop(outlet);
        assert!(reader.join().unwrap() == all);
    }

    #[test]
    fn an_error_is_told_once_and_nothing_is_kept() {
        let mut outlet = Outlet::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
        outlet.write_all(&[0; FULL]).unwrap();
        assert_eq!(outlet.finish(&mut |_| false).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(outlet.error().is_none() && !outlet.is_full());
        assert!(outlet.write(b"more").is_err());
    }

    #[test]
    fn a_reader_that_went_away_is_an_error() {
        let (mut outlet, reader) = pipe();
        drop(reader);
        outlet.write_all(b"some").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while outlet.flush().is_ok() {
            assert!(Instant::now() < deadline, "nothing was told");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn the_last_bytes_are_waited_for_only_as_long_as_asked() {
        let (mut outlet, _reader) = pipe();
        outlet.write_all(&[0; FULL]).unwrap();
        let mut asked = 0;
        let error = outlet.finish(&mut |left| {
            assert!(left > 0);
            asked += 1;
            asked == 3
        });
        assert_eq!((error.unwrap_err().kind(), asked), (ErrorKind::TimedOut, 3));
    }
}
