//! Computes the build id: a hash of what the binary shares with the preload library, and of the library.
//!
//! Both share memory and messages, so one of another build must be refused; a version number would not
//! tell two builds of a working tree apart.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the binary and the library have in common, and the library itself. Of these `crates/quire/build.rs` knows when to build
/// the library anew, too.
const SHARED: [&str; 3] = ["crates/core", "crates/linux", "crates/preload"];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = manifest.join("../..");
    // Outside the workspace (a packaged crate) only this crate's own files are there to hash.
    let base = if workspace.join("crates").is_dir() { workspace } else { manifest };

    let mut files = Vec::new();
    for directory in if base.join("crates").is_dir() { &SHARED[..] } else { &["src"] } {
        collect(&base.join(directory), &mut files);
    }
    files.extend(
        ["Cargo.toml", "Cargo.lock"].map(|name| base.join(name)).into_iter().filter(|file| file.is_file()),
    );
    files.sort();
    files.dedup();

    let mut hash = Fnv::new();
    for file in &files {
        hash.field(file.strip_prefix(&base).unwrap_or(file).as_os_str().as_encoded_bytes());
        hash.field(&fs::read(file).unwrap_or_default());
        println!("cargo::rerun-if-changed={}", file.display());
    }
    // A file that is added changes only its directory.
    for directory in directories(&files) {
        println!("cargo::rerun-if-changed={}", directory.display());
    }
    for name in ["PROFILE", "TARGET", "OPT_LEVEL", "DEBUG"] {
        hash.field(env::var(name).unwrap_or_default().as_bytes());
    }
    hash.field(&compiler());
    println!("cargo::rustc-env=QUIRE_BUILD_ID={:016x}", hash.0);
}

/// Adds the manifests and sources below `directory`.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != "tests" && name != "benches" && name != "examples" {
                collect(&path, files);
            }
        } else if name == "Cargo.toml"
            || path.extension().is_some_and(|end| ["rs", "c", "h"].iter().any(|known| end == *known))
        {
            files.push(path);
        }
    }
}

/// The directories that hold `files`.
fn directories(files: &[PathBuf]) -> Vec<&Path> {
    let mut all: Vec<&Path> = files
        .iter()
        .filter_map(|file| file.parent())
        .filter(|path| path.ends_with("src") || path.components().any(|part| part.as_os_str() == "src"))
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What the compiler says of itself.
fn compiler() -> Vec<u8> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Command::new(rustc).arg("-vV").output().map(|output| output.stdout).unwrap_or_default()
}

/// FNV-1a with 64 bits: stable across compilers, and no adversary chooses the input.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one field and its length, so that fields cannot run into each other.
    fn field(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied().chain((bytes.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
