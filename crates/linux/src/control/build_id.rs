//! The id of this build. A process of another build than its `quire` is refused: they share messages and memory.

/// Identifies the build: 16 hexadecimal digits, a hash of all sources, the profile and the compiler.
pub const BUILD_ID: &str = env!("QUIRE_BUILD_ID");

/// The build id as a number.
pub const fn build_number() -> u64 {
    match u64::from_str_radix(BUILD_ID, 16) {
        Ok(number) => number,
        Err(_) => panic!("build.rs makes ids of hexadecimal digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_id() {
        assert_eq!(format!("{:016x}", build_number()), BUILD_ID);
    }
}
