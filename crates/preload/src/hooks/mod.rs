//! Jumps over libc's own system calls on memory, so that each of them comes to us, whoever makes it: the program, a library
//! that no symbol of ours reaches (`RTLD_DEEPBIND`), or libc for itself.
//!
//! All places of a libc are patched, or none. Which they are, [`quire_linux::libc_sites`] finds out; [`object`] shows it the
//! loaded libc, [`text`] writes, [`stubs`] has where the jumps lead, and [`called`] what becomes of a call. At the end each
//! call is made once, to see that it arrives ([`check`]). [`namespaces`] looks for further libcs.

mod called;
mod check;
mod namespaces;
mod object;
mod stubs;
mod text;

use core::sync::atomic::{AtomicUsize, Ordering};

use object::Object;
use quire_linux::control::outside::Outside;
use quire_linux::sys::futex::Lock;
use text::{Island, Patch, Patches};

/// Where the libcs are that were patched, at most one for each block of stubs: the program's, and those of other namespaces.
static PATCHED: [AtomicUsize; stubs::BLOCKS] = [const { AtomicUsize::new(0) }; stubs::BLOCKS];
/// What was written into the program's, to undo it.
static FIRST: Lock<Option<Patches>> = Lock::new(None);

/// Patches the libc of the program. On an error, which says why it runs unmanaged, nothing is changed.
pub(crate) fn install() -> Result<(), Outside> {
    let object = object::own_libc().ok_or(Outside::UnknownLibc)?;
    *FIRST.lock() = Some(patch(&object)?);
    if has_break(&object) {
        crate::calls::brk::leave_to_kernel();
    }
    if !check::all_arrive(&object) {
        remove();
        return Err(Outside::UnknownLibc);
    }
    Ok(())
}

/// Whether libc has asked for its break already, and so knows one of the kernel's.
fn has_break(object: &Object) -> bool {
    // SAFETY: libc's variable of that name is a pointer, which only libc writes, on this thread.
    object.variable("__curbrk").is_none_or(|at| unsafe { (at as *const usize).read_volatile() } != 0)
}

/// Takes the jumps back: the process is not managed after all.
pub(crate) fn remove() {
    if let Some(patches) = FIRST.lock().take() {
        patches.undo();
        PATCHED[0].store(0, Ordering::Relaxed);
    }
}

/// Whether this process is managed, and its calls come here.
fn are_installed() -> bool {
    PATCHED[0].load(Ordering::Relaxed) != 0
}

/// Patches libcs of other namespaces that were not there before, or tells of them.
pub(crate) fn install_in_others() {
    let all_patched = namespaces::each_libc(|object| is_patched(object) || patch(object).is_ok());
    if !all_patched {
        crate::pager_api::tell_outside(crate::raw::getpid(), Outside::SecondLibc, b"");
    }
}

/// A libc that was unloaded may have left its place to another one.
fn is_patched(object: &Object) -> bool {
    block_of(object.address(0)).is_some() && object.sites().is_err()
}

fn block_of(base: usize) -> Option<usize> {
    PATCHED.iter().position(|patched| patched.load(Ordering::Relaxed) == base)
}

fn patch(object: &Object) -> Result<Patches, Outside> {
    let sites = object.sites().map_err(|_| Outside::UnknownLibc)?;
    let base = object.address(0);
    let block = block_of(base).or_else(|| block_of(0)).ok_or(Outside::UnknownLibc)?;
    let mut patches = Patches::new(object.rights());
    let mut island = None::<Island>;
    for (number, site) in sites.all().iter().enumerate() {
        let at = object.address(site.at);
        let stub = stubs::prepare(block, number, site, object.address(site.back));
        let patch = Patch::new(at, site.bytes, stub).or_else(|| {
            if island.is_none() {
                island = Island::near(base);
            }
            Patch::new(at, site.bytes, island.as_mut()?.hop_to(stub))
        });
        patches.add(patch.ok_or(Outside::FixedText)?);
    }
    if let Some(island) = island {
        island.finish().map_err(|_| Outside::FixedText)?;
    }
    patches.write().map_err(|_| Outside::FixedText)?;
    PATCHED[block].store(base, Ordering::Relaxed);
    Ok(patches)
}
