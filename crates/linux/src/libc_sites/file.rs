//! A library's file: what the loader would make of it, as far as its names and its text go.

use super::symbols::word;
use super::{Image, Symbols};

/// Kinds of program headers.
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
/// Bytes of a program header.
const HEADER: usize = 56;

/// The segments and names of a 64-bit ELF library, given by its whole file; `None` if it is none.
pub fn of(file: &[u8]) -> Option<(Image<'_>, Symbols<'_>)> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, count) = (word(file, 32)?, u16::from_le_bytes(*file.get(56..)?.first_chunk()?));
    let (mut image, mut dynamic) = (Image::empty(), None);
    for number in 0..usize::from(count) {
        let header = file.get(usize::try_from(table).ok()? + number * HEADER..)?.get(..HEADER)?;
        let kind = u32::from_le_bytes(*header.first_chunk()?);
        let (offset, address, size) = (word(header, 8)?, word(header, 16)?, word(header, 32)?);
        let bytes = file.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(size).ok()?)?;
        match kind {
            LOAD => image.add(address, bytes),
            DYNAMIC => dynamic = Some(bytes),
            _ => {}
        }
    }
    let symbols = Symbols::of(&image, dynamic?, 0)?;
    Some((image, symbols))
}
