//! What has changed since somebody looked: for checks that need not look at everything. Kept in builds with debug
//! assertions alone, and there only for who asks; in any other build nothing is here, and nothing is done.

use alloc::vec::Vec;
#[cfg(not(debug_assertions))]
use core::marker::PhantomData;

/// Whether this build can keep trails.
pub(crate) const KEPT: bool = cfg!(debug_assertions);

/// The places that were written, in the order of writing, some of them many times.
#[derive(Clone, Debug)]
pub(crate) struct Trail<T> {
    #[cfg(debug_assertions)]
    written: Option<Vec<T>>,
    #[cfg(not(debug_assertions))]
    written: PhantomData<T>,
}

impl<T> Trail<T> {
    /// One that is not kept.
    pub(crate) const fn new() -> Trail<T> {
        #[cfg(debug_assertions)]
        let written = None;
        #[cfg(not(debug_assertions))]
        let written = PhantomData;
        Trail { written }
    }

    /// A place is written.
    #[inline]
    pub(crate) fn note(&mut self, place: T) {
        #[cfg(debug_assertions)]
        if let Some(written) = &mut self.written {
            written.push(place);
        }
        #[cfg(not(debug_assertions))]
        let _ = place;
    }

    /// Moves what was written since the last call to the end of `places`. It is kept from now on.
    pub(crate) fn take(&mut self, places: &mut Vec<T>) {
        #[cfg(debug_assertions)]
        places.append(self.written.get_or_insert_default());
        #[cfg(not(debug_assertions))]
        let _ = places;
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_trail_begins_when_somebody_asks() {
        let mut trail = Trail::new();
        let mut places = Vec::new();
        trail.note(1);
        trail.take(&mut places);
        assert!(places.is_empty());
        trail.note(2);
        trail.note(2);
        trail.take(&mut places);
        trail.take(&mut places);
        assert_eq!(places, [2, 2]);
    }
}
