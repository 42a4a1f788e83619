//! The id of this build, and how to find that of a library file.

/// Identifies the build: 16 hexadecimal digits, a hash of all sources, the profile and the compiler.
pub const BUILD_ID: &str = env!("QUIRE_BUILD_ID");

/// What precedes the id in a library file.
const PREFIX: &[u8; 12] = b"QUIRE-BUILD:";

/// Digits in a build id.
pub const ID_BYTES: usize = 16;

/// Bytes in [`MARKER`].
pub const MARKER_BYTES: usize = PREFIX.len() + ID_BYTES;

/// The id as it stands in a file.
pub const MARKER: [u8; MARKER_BYTES] = {
    let id = BUILD_ID.as_bytes();
    assert!(id.len() == ID_BYTES, "build.rs makes ids of 16 digits");
    let mut bytes = [0; MARKER_BYTES];
    let mut at = 0;
    while at < MARKER_BYTES {
        bytes[at] = if at < PREFIX.len() { PREFIX[at] } else { id[at - PREFIX.len()] };
        at += 1;
    }
    bytes
};

/// The marker as a note of ELF's. Linkers put notes in front of a file's code, so that who looks for the id reads little of
/// the file. The preload library has it as a `#[used]` static in the section `.note.quire`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug)]
pub struct Note {
    name_bytes: u32,
    marker_bytes: u32,
    kind: u32,
    name: [u8; 8],
    marker: [u8; MARKER_BYTES],
}

impl Note {
    /// Of this build.
    pub const OWN: Note = Note {
        name_bytes: 6,
        marker_bytes: MARKER_BYTES as u32,
        kind: 1,
        name: *b"Quire\0\0\0",
        marker: MARKER,
    };
}

/// So many bytes of a file have its notes, however a linker orders them.
pub const HEAD_BYTES: usize = 64 << 10;

/// The build id as a number.
pub const fn build_number() -> u64 {
    match u64::from_str_radix(BUILD_ID, 16) {
        Ok(number) => number,
        Err(_) => panic!("build.rs makes ids of hexadecimal digits"),
    }
}

/// The build id that a library file carries, if it carries one.
pub fn find_build_id(file: &[u8]) -> Option<&str> {
    file.windows(MARKER_BYTES)
        .filter(|window| window.starts_with(PREFIX))
        .map(|window| &window[PREFIX.len()..])
        .find(|id| id.iter().all(u8::is_ascii_hexdigit))
        .and_then(|id| core::str::from_utf8(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_found_among_other_bytes() {
        let mut file = b"\x7fELF QUIRE-BUILD:not an id QUIRE-BUILD".to_vec();
        assert_eq!(find_build_id(&file), None);
        file.extend(MARKER);
        file.extend(b"\0more");
        assert_eq!(find_build_id(&file), Some(BUILD_ID));
        assert_eq!(format!("{:016x}", build_number()), BUILD_ID);
    }
}
