//! An object's bytes and its exported names, by its own tables (System V ABI, and GNU's hash table of names).

/// The most segments of an object that are looked at.
const MOST_SEGMENTS: usize = 16;

const DYNAMIC_END: u64 = 0;
const STRING_TABLE: u64 = 5;
const SYMBOL_TABLE: u64 = 6;
const GNU_HASH: u64 = 0x6fff_fef5;
/// Bytes of an entry of the symbol table.
const SYMBOL: usize = 24;
/// The types of symbols that are variables and functions.
const VARIABLE: u8 = 1;
const FUNCTION: u8 = 2;

/// The readable segments of an object, by the addresses that the object itself has for them: before it is placed.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    segments: [(u64, &'a [u8]); MOST_SEGMENTS],
    len: usize,
}

impl<'a> Image<'a> {
    /// One without segments.
    pub const fn empty() -> Image<'a> {
        Image { segments: [(0, &[]); MOST_SEGMENTS], len: 0 }
    }

    /// Adds a segment. Of more than an object of glibc's has the last are left out.
    pub fn add(&mut self, address: u64, bytes: &'a [u8]) {
        if let Some(place) = self.segments.get_mut(self.len) {
            *place = (address, bytes);
            self.len += 1;
        }
    }

    /// From an address to the end of its segment.
    pub fn from(&self, address: u64) -> Option<&'a [u8]> {
        self.segments[..self.len].iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        })
    }

    /// So many bytes at an address, if one segment has all of them.
    pub fn bytes(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        self.from(address)?.get(..usize::try_from(len).ok()?)
    }
}

/// An exported function or variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// Its address in the image.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The exported names of an object.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    hash: &'a [u8],
    symbols: &'a [u8],
    names: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// By the object's dynamic section. `placed_at`: the address that was added to what the loader has relocated there; 0 for a
    /// file.
    pub fn of(image: &Image<'a>, dynamic: &[u8], placed_at: u64) -> Option<Symbols<'a>> {
        let table = |wanted: u64| {
            let entries = dynamic.chunks_exact(16).map(|entry| (word(entry, 0), word(entry, 8)));
            let mut entries = entries.take_while(|(tag, _)| *tag != Some(DYNAMIC_END));
            let address = entries.find(|(tag, _)| *tag == Some(wanted))?.1?;
            // The loader relocates these addresses in some versions and leaves them in others.
            image.from(if address < placed_at { address } else { address - placed_at })
        };
        Some(Symbols { hash: table(GNU_HASH)?, symbols: table(SYMBOL_TABLE)?, names: table(STRING_TABLE)? })
    }

    /// The function of this name. All versions of those that are looked for are one function.
    pub fn find(&self, name: &[u8]) -> Option<Symbol> {
        self.find_of(FUNCTION, name)
    }

    /// The variable of this name.
    pub fn variable(&self, name: &[u8]) -> Option<Symbol> {
        self.find_of(VARIABLE, name)
    }

    fn find_of(&self, kind: u8, name: &[u8]) -> Option<Symbol> {
        let half = |at: usize| half(self.hash, at * 4);
        let (buckets, first, filter) = (half(0)?, half(1)?, half(2)?);
        let hash = gnu_hash(name);
        // Behind the four numbers lies a filter of 64-bit words, then the buckets, then a chain entry for each symbol.
        let bucket = 4 + 2 * filter as usize + (hash % buckets.max(1)) as usize;
        let chain = 4 + 2 * filter as usize + buckets as usize;
        let mut at = half(bucket)?;
        while at >= first {
            let entry = half(chain + (at - first) as usize)?;
            if entry | 1 == hash | 1
                && let Some(symbol) = self.defined(at, kind, name)
            {
                return Some(symbol);
            }
            if entry & 1 != 0 {
                return None;
            }
            at += 1;
        }
        None
    }

    /// The symbol with this number, if it is of this kind, is defined here, and has this name.
    fn defined(&self, number: u32, kind: u8, name: &[u8]) -> Option<Symbol> {
        let entry = self.symbols.get(number as usize * SYMBOL..)?.get(..SYMBOL)?;
        let names = self.names.get(half(entry, 0)? as usize..)?;
        let is_named = names.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0));
        let is_defined = entry[6..8] != [0, 0];
        let (address, size) = (word(entry, 8)?, word(entry, 16)?);
        (is_named && is_defined && entry[4] & 15 == kind).then_some(Symbol { address, size })
    }
}

fn gnu_hash(name: &[u8]) -> u32 {
    name.iter().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Eight bytes at an offset, as a number.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
