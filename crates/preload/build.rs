//! How the library is linked: bound at once, and without a libgcc_s beside it. (`crates/quire/build.rs` has it initialised
//! first.)

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    // The standard library wants what walks a stack after a panic. Most programs have no libgcc_s, and each would load and
    // initialise one at every exec: what is needed of it is linked in. The linker looks here first.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("libgcc_s.so"), "INPUT(-lgcc_eh)\n").expect("OUT_DIR can be written");
    println!("cargo::rustc-link-search=native={}", out.display());
    // now: no call of ours may enter the loader's lazy binding, which takes locks.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
    println!("cargo::rerun-if-changed=build.rs");
}
