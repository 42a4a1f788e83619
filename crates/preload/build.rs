//! How the library is linked: initialised before every other, and bound at once.

fn main() {
    // initfirst: our constructor runs before libc's, so that the arena exists before the first malloc and our fork
    // handlers are registered first. now: no call of ours may enter the loader's lazy binding, which takes locks.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,initfirst,-z,now");
    // What mimalloc maps is told from what the program maps: of a heap only what is used counts against limits.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap=mmap");
    println!("cargo::rerun-if-changed=build.rs");
}
