//! What a bench changes of the machine, and how that is put back.
//!
//! One value, [`Host`], hands out cgroups, swap and directories. Each of them undoes itself when it is dropped, in any
//! order, also after the host; what a killed bench could not undo, the next one finds in the journal ([`leftovers`]) and
//! undoes when it opens its host. Signals that ask to end become a flag ([`interrupts`]), so that there is always a way
//! out through the drops.

pub(crate) mod cgroup;
pub(crate) mod interrupts;
pub(crate) mod leftovers;
pub(crate) mod machine;
pub(crate) mod swap;

use crate::failure::Failure;
use cgroup::{Cgroup, Tree};
use interrupts::Interrupts;
use leftovers::{Directory, Journal};
use std::env;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use swap::Swap;

/// The machine, as far as this process changes it.
#[derive(Debug)]
pub(crate) struct Host {
    journal: Rc<Journal>,
    cgroups: Result<Tree, String>,
    interrupts: Interrupts,
    /// The binary whose verb `enter` starts programs.
    quire: PathBuf,
    /// Where directories for outputs and temporary files go.
    temporary: PathBuf,
}

impl Host {
    /// Takes signals, so that it comes before all threads, and undoes what benches that were killed have left; the lines say what that was.
    pub(crate) fn open() -> Result<(Host, Vec<String>), Failure> {
        let quire = env::current_exe().map_err(|error| {
            Failure::own(format!("quire can't find its own file: {error}; is /proc mounted?"))
        })?;
        let cgroups = Tree::available(cgroup::MOUNT.as_ref());
        Host::with(Journal::open_default()?, cgroups, Interrupts::take()?, quire)
    }

    fn with(
        journal: Rc<Journal>,
        cgroups: Result<Tree, String>,
        interrupts: Interrupts,
        quire: PathBuf,
    ) -> Result<(Host, Vec<String>), Failure> {
        let swept = journal.sweep()?;
        let temporary = env::var_os("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let temporary = temporary.unwrap_or_else(|| "/var/tmp".into());
        Ok((Host { journal, cgroups, interrupts, quire, temporary }, swept))
    }

    /// A host of a test: with a journal of its own, and a stand-in for the binary.
    #[cfg(test)]
    pub(super) fn of_test(place: &Path, cgroups: Result<(), String>, quire: PathBuf) -> Host {
        let journal = Journal::open(&place.join("journal")).unwrap();
        let cgroups = cgroups.and_then(|()| Tree::available(cgroup::MOUNT.as_ref()));
        Host { temporary: place.into(), ..Host::with(journal, cgroups, Interrupts::none(), quire).unwrap().0 }
    }

    /// Why no cgroup can be made, where none can.
    pub(crate) fn without_cgroups(&self) -> Option<&str> {
        self.cgroups.as_ref().err().map(String::as_str)
    }

    /// A fresh cgroup with a limit in bytes, in which memory may go to the machine's swap or not.
    pub(crate) fn cgroup(&self, limit: Option<u64>, swap: bool) -> Result<Cgroup, Failure> {
        match &self.cgroups {
            Ok(tree) => tree.create(&self.journal, limit, swap),
            Err(why) => Err(Failure::own(why.clone())),
        }
    }

    /// Swap on zram, of so many bytes before compression.
    pub(crate) fn zram(&self, bytes: u64) -> Result<Swap, Failure> {
        Swap::zram(&self.journal, bytes)
    }

    /// Swap on a file of so many bytes in a directory on a disk.
    pub(crate) fn swap_file(&self, directory: &Path, bytes: u64) -> Result<Swap, Failure> {
        Swap::file(&self.journal, directory, bytes)
    }

    /// A fresh directory in [`temporary`](Host::temporary), which goes away when it is dropped.
    pub(crate) fn directory(&self) -> Result<Directory, Failure> {
        Directory::create(&self.journal, &self.temporary)
    }

    /// Where directories, and the files that Quire spills to, go: `TMPDIR`, else `/var/tmp`.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The signals that ask to end.
    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// The binary of `quire`, by which programs are started and run.
    pub(crate) fn quire(&self) -> &Path {
        &self.quire
    }
}
