//! Builds the preload library, which `quire` carries, and asks git for the commit that `--version` names.
//!
//! The library is a crate of its own: it has other panics and symbols than a program, and cargo makes no binary out of
//! another package's library. So cargo is called once more, in a target directory of the library's own below the one in
//! use, since that one is locked. There clippy, tests and builds of the same profile find what one of them has built.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use xxhash_rust::xxh3::xxh3_128;

/// The package, and the file it makes.
const PACKAGE: &str = "quire-preload";
const FILE: &str = "libquire_preload.so";

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest.join("../..");
    watch(&workspace);
    // As the library is linked, without a libgcc_s to load at each start: the linker looks here first.
    let out = PathBuf::from(variable("OUT_DIR"));
    fs::write(out.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n").expect("OUT_DIR can be written");
    println!("cargo::rustc-link-search=native={}", out.display());
    let library = build(&workspace);
    let contents = initialise_first(&library).expect("cargo says that it built the library");
    println!("cargo::rustc-env=QUIRE_LIBRARY={}", library.display());
    println!("cargo::rustc-env=QUIRE_LIBRARY_HASH={:032x}", xxh3_128(&contents));
    println!("cargo::rustc-env=QUIRE_COMMIT={}", commit(&workspace));
}

/// Whatever the library is made from.
fn watch(workspace: &Path) {
    for name in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(name).display());
    }
    for name in ["core", "linux", "preload"] {
        for part in ["Cargo.toml", "build.rs", "src"] {
            let path = workspace.join("crates").join(name).join(part);
            if path.exists() {
                println!("cargo::rerun-if-changed={}", path.display());
            }
        }
    }
}

/// Builds the library by the same profile and for the same target, and returns its path.
fn build(workspace: &Path) -> PathBuf {
    // OUT_DIR is TARGET_DIRECTORY/[TRIPLE/]PROFILE/build/NAME/out.
    let out = PathBuf::from(variable("OUT_DIR"));
    let built = out.ancestors().nth(3).expect("cargo's OUT_DIR lies in a profile's directory");
    let directory = built.file_name().and_then(OsStr::to_str).expect("a profile's name is text");
    let profile = if directory == "debug" { "dev" } else { directory };
    let target = built.join("preload");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(workspace).args(["build", "--quiet", "--package", PACKAGE, "--profile", profile]);
    cargo.arg("--target-dir").arg(&target);
    // The library is carried about and mapped by every program: with its symbols, without what a debugger reads.
    cargo.arg("--config").arg(format!("profile.{profile}.strip=\"debuginfo\""));
    let mut made = target;
    if variable("TARGET") != variable("HOST") {
        cargo.arg("--target").arg(variable("TARGET"));
        made.push(variable("TARGET"));
    }
    // Of the compiler's wrappers those for the workspace's crates (clippy) are not meant for this; what cargo sets for this
    // script would be taken for the caller's own wishes.
    for name in ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "{PACKAGE} was not built: see cargo's messages above");
    made.join(directory).join(FILE)
}

/// Has the loader run the library's constructor before every other, so that the arena exists before the first malloc, and our
/// handlers of forks are registered first. `-z initfirst` does it where the linker knows it; zig's, for old versions of glibc,
/// does not. Returns what is in the file then.
fn initialise_first(library: &Path) -> io::Result<Vec<u8>> {
    const PT_DYNAMIC: u64 = 2;
    const DT_FLAGS_1: u64 = 0x6fff_fffb;
    const DF_1_INITFIRST: u64 = 0x20;
    let mut contents = fs::read(library)?;
    // Of a file for x86-64: where its program headers are, 56 bytes each; of one, its type, place and size.
    let (headers, count) = (number(&contents, 32, 8), number(&contents, 56, 2));
    let header = |index: u64| (headers + 56 * index) as usize;
    let dynamic = (0..count).map(header).find(|&at| number(&contents, at, 4) == PT_DYNAMIC);
    let dynamic = dynamic.expect("a library has a dynamic section");
    let (start, size) =
        (number(&contents, dynamic + 8, 8) as usize, number(&contents, dynamic + 32, 8) as usize);
    // Its entries: a tag and a value.
    let flags = (start..start + size).step_by(16).find(|&at| number(&contents, at, 8) == DT_FLAGS_1);
    let flags = flags.expect("the library is linked with -z now") + 8;
    let wanted = (number(&contents, flags, 8) | DF_1_INITFIRST).to_le_bytes();
    if contents[flags..flags + 8] != wanted {
        contents[flags..flags + 8].copy_from_slice(&wanted);
        File::options().write(true).open(library)?.write_all_at(&wanted, flags as u64)?;
    }
    Ok(contents)
}

/// The number of so many bytes.
fn number(contents: &[u8], at: usize, bytes: usize) -> u64 {
    contents[at..at + bytes].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The commit that this is built from; `unknown` outside a git repository. `QUIRE_COMMIT` says it where there is none.
fn commit(workspace: &Path) -> String {
    println!("cargo::rerun-if-env-changed=QUIRE_COMMIT");
    if let Ok(told) = env::var("QUIRE_COMMIT") {
        return told;
    }
    for name in [".git/HEAD", ".git/logs/HEAD"] {
        let path = workspace.join(name);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let asked = Command::new("git").current_dir(workspace).args(["rev-parse", "--short=10", "HEAD"]).output();
    let answer = asked.ok().filter(|answer| answer.status.success()).map(|answer| answer.stdout);
    let text = answer.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    if text.trim().is_empty() { "unknown".into() } else { text.trim().into() }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
