//! Why a program of the tree runs outside the budget: the cause, and what mends it.

/// The cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Outside {
    /// It has no loader that could take the library in.
    Static = 1,
    /// It gains rights when it starts, and the loader then ignores the library.
    Privileged = 2,
    /// It is for another architecture or word size.
    OtherArchitecture = 3,
    /// Its libc is not glibc.
    OtherLibc = 4,
    /// Its environment does not name the library.
    NoPreload = 5,
    /// The user excluded it.
    Excluded = 6,
    /// It has no right to use userfaultfd.
    NoRight = 7,
    /// A seccomp filter keeps it from userfaultfd, or from `quire`.
    Filter = 8,
    /// Its address space is limited.
    AddressSpace = 9,
    /// The kernel has no userfaultfd.
    NoUserfaultfd = 10,
    /// It belongs to another user.
    OtherUser = 11,
    /// No more processes can join.
    TooMany = 12,
    /// The library is of another build than `quire`.
    OtherBuild = 13,
    /// `quire` can't be reached from it.
    Unreachable = 14,
    /// The loader did not take the library in, though it was told to.
    NotLoaded = 15,
    /// The library is in it, but it did not join.
    NotJoined = 16,
    /// Something else was refused to it.
    Refused = 17,
    /// It is managed, but has a userfaultfd of its own: told, not counted.
    OwnUserfaultfd = 18,
    /// Its glibc is not as those that are known.
    UnknownLibc = 19,
    /// The text of its libc can't be changed.
    FixedText = 20,
    /// It is managed, but has a second libc that is not: told, not counted.
    SecondLibc = 21,
    /// All of its memory is locked, and what it will map too.
    Locked = 22,
    /// An emulator runs it, whose memory its own is: told, not counted.
    Emulated = 23,
    /// It has to be of one thread.
    Single = 24,
}

impl Outside {
    /// All causes.
    pub const ALL: [Outside; 24] = [
        Outside::Static,
        Outside::Privileged,
        Outside::OtherArchitecture,
        Outside::OtherLibc,
        Outside::NoPreload,
        Outside::Excluded,
        Outside::NoRight,
        Outside::Filter,
        Outside::AddressSpace,
        Outside::NoUserfaultfd,
        Outside::OtherUser,
        Outside::TooMany,
        Outside::OtherBuild,
        Outside::Unreachable,
        Outside::NotLoaded,
        Outside::NotJoined,
        Outside::Refused,
        Outside::OwnUserfaultfd,
        Outside::UnknownLibc,
        Outside::FixedText,
        Outside::SecondLibc,
        Outside::Locked,
        Outside::Emulated,
        Outside::Single,
    ];

    /// The cause with this number.
    pub fn from_number(number: u8) -> Option<Outside> {
        Outside::ALL.into_iter().find(|cause| *cause as u8 == number)
    }

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Outside::Static => "static",
            Outside::Privileged => "privileged",
            Outside::OtherArchitecture => "other_architecture",
            Outside::OtherLibc => "other_libc",
            Outside::NoPreload => "no_preload",
            Outside::Excluded => "excluded",
            Outside::NoRight => "no_right",
            Outside::Filter => "seccomp",
            Outside::AddressSpace => "address_space",
            Outside::NoUserfaultfd => "no_userfaultfd",
            Outside::OtherUser => "other_user",
            Outside::TooMany => "too_many",
            Outside::OtherBuild => "other_build",
            Outside::Unreachable => "unreachable",
            Outside::NotLoaded => "not_loaded",
            Outside::NotJoined => "not_joined",
            Outside::Refused => "refused",
            Outside::OwnUserfaultfd => "own_userfaultfd",
            Outside::UnknownLibc => "unknown_libc",
            Outside::FixedText => "fixed_text",
            Outside::SecondLibc => "second_libc",
            Outside::Locked => "locked",
            Outside::Emulated => "emulated",
            Outside::Single => "single",
        }
    }

    /// Whether the program is managed all the same, or its emulator is: this is only told, not counted.
    pub fn is_told_only(self) -> bool {
        matches!(self, Outside::OwnUserfaultfd | Outside::SecondLibc | Outside::Emulated)
    }

    /// The cause in words, of "it".
    pub fn cause(self) -> &'static str {
        match self {
            Outside::Static => "it is static, without a loader that takes Quire's library in",
            Outside::Privileged => "it is setuid, setgid or has file capabilities",
            Outside::OtherArchitecture => "it is for another architecture or word size",
            Outside::OtherLibc => "its libc is not glibc",
            Outside::NoPreload => "LD_PRELOAD or QUIRE_SOCKET was taken out of its environment",
            Outside::Excluded => "it is excluded",
            Outside::NoRight => "it has no right to use userfaultfd",
            Outside::Filter => "its seccomp filter refuses userfaultfd, or what else Quire needs",
            Outside::AddressSpace => "its address space is limited",
            Outside::NoUserfaultfd => "this kernel has no userfaultfd",
            Outside::OtherUser => "it is another user's",
            Outside::TooMany => "too many processes run at once for one quire run",
            Outside::OtherBuild => "quire and its library are of different builds",
            Outside::Unreachable => "it can't reach quire",
            Outside::NotLoaded => "its loader did not take the library in",
            Outside::NotJoined => "it did not join quire",
            Outside::Refused => "a system call that Quire needs was refused to it",
            Outside::UnknownLibc => "its glibc is not as those that Quire knows",
            Outside::FixedText => {
                "the text of its libc can't be changed (PR_SET_MDWE without /proc, SELinux)"
            }
            Outside::SecondLibc => "it has loaded a second libc, whose memory is the kernel's",
            Outside::Locked => "it keeps all of its memory locked (mlockall)",
            Outside::Single => "it enters a user namespace, for which a process may have one thread only",
            Outside::Emulated => "an emulator runs it, and its memory is a part of the emulator's",
            Outside::OwnUserfaultfd => {
                "it has a userfaultfd of its own: memory that it registers is the kernel's from then on"
            }
        }
    }

    /// What mends it, or what else to do.
    pub fn mend(self) -> &'static str {
        match self {
            Outside::Static | Outside::OtherLibc => {
                "use a build for glibc with shared libraries, or leave memory for it beside -m"
            }
            Outside::Privileged => {
                "start quire run as the user it changes to, or leave memory for it beside -m"
            }
            Outside::OtherArchitecture => "use a build for x86-64, or leave memory for it beside -m",
            Outside::NoPreload => {
                "let both through (env -i, sudo: name them), or leave memory for it beside -m"
            }
            Outside::NoRight | Outside::NoUserfaultfd | Outside::Refused => "see quire doctor",
            Outside::Filter => "allow it in the filter, or leave memory for it beside -m",
            Outside::AddressSpace => "raise ulimit -v, or set vm.overcommit_memory to 0 or 1",
            Outside::OtherUser => "start quire run as that user, or as root with a TMPDIR that all may enter",
            Outside::TooMany => "start parts of it under a quire run of their own",
            Outside::OtherBuild => "install both anew",
            Outside::Unreachable => "leave its TMPDIR to it, or memory beside -m",
            Outside::NotLoaded => "see what LD_DEBUG=libs says of libquire_preload.so",
            Outside::Excluded | Outside::NotJoined => "leave memory for it beside -m",
            Outside::UnknownLibc => "see quire doctor, or leave memory for it beside -m",
            Outside::FixedText => "let it have /proc, or leave memory for it beside -m",
            Outside::SecondLibc => "leave memory for that beside -m",
            Outside::Locked | Outside::Single => "leave memory for it beside -m",
            Outside::OwnUserfaultfd => "leave it alone with --exclude",
            Outside::Emulated => "leave memory for the emulator beside -m where that is not managed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_number_and_words_of_its_own() {
        for cause in Outside::ALL {
            assert_eq!(Outside::from_number(cause as u8), Some(cause));
            assert!(!cause.mend().is_empty());
            let others = Outside::ALL.into_iter().filter(|other| *other != cause);
            assert!(
                others.clone().all(|other| other.name() != cause.name() && other.cause() != cause.cause())
            );
        }
        assert_eq!(Outside::from_number(0), None);
    }
}
