//! An error number in words, for messages of threads that libc does not know: libc's own words need a locale, and
//! that is looked up through thread-local state.

use super::Errno;
use core::fmt;

/// Prints an error number as people know it.
#[derive(Clone, Copy, Debug)]
pub struct Cause(pub Errno);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            Errno::NOSPC => "no space left on the device",
            Errno::DQUOT => "disk quota exceeded",
            Errno::FBIG => "file too large",
            Errno::IO => "input/output error",
            Errno::ROFS => "read-only file system",
            Errno::NOMEM => "out of memory",
            Errno::PERM => "operation not permitted",
            Errno::ACCESS => "permission denied",
            Errno::AGAIN => "resource temporarily unavailable",
            Errno::MFILE | Errno::NFILE => "too many open files",
            Errno::INVAL => "invalid argument",
            Errno::NOSYS => "not in this kernel",
            other => return write!(f, "error {}", other.raw_os_error()),
        };
        f.write_str(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_numbers_print() {
        assert_eq!(Cause(Errno::NOSPC).to_string(), "no space left on the device");
        assert_eq!(Cause(Errno::XDEV).to_string(), "error 18");
    }
}
