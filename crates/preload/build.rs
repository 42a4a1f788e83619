//! How the library is linked: bound at once. (`crates/quire/build.rs` has it initialised first.)

fn main() {
    // now: no call of ours may enter the loader's lazy binding, which takes locks.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
    println!("cargo::rerun-if-changed=build.rs");
}
