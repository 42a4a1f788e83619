//! How `quire` itself ends.

use rustix::io::Errno;
use std::fmt;
use std::io;

/// The end of a program, or of a verb without one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It exited.
    Status(u8),
    /// A signal ended it.
    Signal(i32),
}

/// Something that `quire` could not do: one line with cause and next step, and the status to exit with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// 125: `quire` itself failed; 126: the program can't be executed; 127: it was not found.
    pub(crate) status: u8,
    /// One line, without newline.
    pub(crate) message: String,
}

impl Failure {
    /// `quire` itself failed.
    pub(crate) fn own(message: impl Into<String>) -> Failure {
        Failure { status: 125, message: message.into() }
    }

    /// The program is there but can't be executed.
    pub(crate) fn not_executable(message: impl Into<String>) -> Failure {
        Failure { status: 126, message: message.into() }
    }

    /// The kernel does not execute the program.
    pub(crate) fn refused(program: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::not_executable(format!(
            "program '{program}' can't be executed: {error}; check it with: file {program}"
        ))
    }

    /// The program is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Failure {
        Failure { status: 127, message: message.into() }
    }

    /// A command line that was not understood; `text` is what the parser says, in several lines, `help` the command that
    /// says more.
    pub(crate) fn usage(text: &str, help: &str) -> Failure {
        // The parser lists missing arguments on lines of their own, then a hint and the usage. One hint is left out: what
        // looks like an option is no value that was meant for TRACE or PROGRAM.
        let cause: Vec<&str> = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            .filter(|line| !line.is_empty() && !line.starts_with("tip: to pass"))
            .collect();
        let cause = cause.join(" ").replace(" tip: ", "; ");
        Failure::own(format!("{}; see {help}", cause.strip_prefix("error: ").unwrap_or(&cause)))
    }
}

/// What to do where a memory file can't be made.
pub(crate) fn memory_file_mend(error: Errno) -> &'static str {
    match error {
        Errno::FBIG => "the limit on the size of files counts for it too: raise it (ulimit -f)",
        Errno::MFILE => "raise the limit on open files (ulimit -n)",
        _ => "free some memory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_is_one_line() {
        let failure = Failure::usage(
            "error: required arguments missing:\n  <PROGRAM>...\n\nUsage: quire run\n\nFor more",
            "quire run --help",
        );
        assert_eq!(failure.message, "required arguments missing: <PROGRAM>...; see quire run --help");
        assert_eq!(failure.status, 125);
        let tips =
            "error: unexpected '--polic'\n\n  tip: it may be '--policy'\n  tip: to pass '--polic', use '--'";
        assert_eq!(Failure::usage(tips, "h").message, "unexpected '--polic'; it may be '--policy'; see h");
    }
}
