//! The library in front of real programs, and of small C programs that check what it promises.
//!
//! Without `quire` the programs run unmanaged: what is tested here is malloc, the heaps, and that each interposed call
//! answers as before. The library must be built (`cargo build`); outside CI its absence is told and passes.

#![allow(missing_docs, clippy::tests_outside_test_module)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[path = "../../linux/tests/limit/mod.rs"]
mod limit;

/// Seconds for one program.
const SECONDS: u64 = 120;

/// The library that `quire` carries: of this profile (target/PROFILE/deps/smoke-HASH, target/PROFILE/preload), else the one
/// of the release build, which is what people use.
fn library() -> Option<PathBuf> {
    let built = match std::env::var_os("QUIRE_PRELOAD") {
        Some(named) => PathBuf::from(named),
        None => {
            let profile = std::env::current_exe().ok()?.parent()?.parent()?.to_path_buf();
            let carried = |profile: &Path| {
                profile
                    .join("preload")
                    .join(profile.file_name().unwrap_or_default())
                    .join("libquire_preload.so")
            };
            let own = carried(&profile);
            if own.exists() { own } else { carried(&profile.with_file_name("release")) }
        }
    };
    if built.exists() {
        return Some(built);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is not built: run cargo build --release first",
        built.display()
    );
    println!("skipped: {} is not built: run cargo build --release first", built.display());
    None
}

fn run(program: &[&str], preload: Option<&Path>) -> Output {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).env("LC_ALL", "C").stdin(Stdio::null());
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    let _limit = limit::Limit::arm(program[0], SECONDS);
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program[0]))
}

/// Runs a program with and without the library and compares all that it says.
fn same_as_native(program: &[&str]) {
    let Some(library) = library() else { return };
    if Command::new("which").arg(program[0]).output().is_ok_and(|found| !found.status.success()) {
        println!("skipped: {} is not installed", program[0]);
        return;
    }
    let (native, ours) = (run(program, None), run(program, Some(&library)));
    let shown = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(native.status, ours.status, "{program:?}: {}", shown(&ours));
    assert!(native.stdout == ours.stdout, "{program:?}: other output");
    assert_eq!(shown(&native), shown(&ours), "{program:?}");
}

fn source(name: &str) -> String {
    format!("{}/tests/c/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn product(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"))
}

fn compile(args: &[&str]) {
    let all = [&["cc", "-O1", "-g", "-pthread", "-fno-builtin"], args].concat();
    let output = run(&all, None);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles a C program and runs it with the library; it ends with status 0 or says which check failed.
fn c_program(name: &str, extra: &[&str]) {
    let Some(library) = library() else { return };
    let (from, to) = (source(&format!("{name}.c")), product(name));
    compile(&[&[from.as_str(), "-o", to.as_str()], extra].concat());
    for preload in [None, Some(library.as_path())] {
        let output = run(&[&to], preload);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} with {preload:?}: {} {said}", output.status);
    }
}

#[test]
fn the_malloc_family_keeps_its_promises() {
    c_program("family", &[]);
}

#[test]
fn calls_on_memory_answer_as_the_kernel() {
    c_program("calls", &[]);
}

#[test]
fn each_symbol_answers_as_libcs_own() {
    c_program("symbols", &[]);
}

#[test]
fn every_kind_of_new_process_works_beside_busy_threads() {
    c_program("forks", &[]);
}

#[test]
fn a_program_keeps_the_malloc_it_brings() {
    if library().is_none() {
        return;
    }
    let (from, to) = (source("own.c"), product("libown.so"));
    compile(&["-shared", "-fPIC", &from, "-o", &to]);
    let rpath = format!("-Wl,-rpath,{}", env!("CARGO_TARGET_TMPDIR"));
    c_program("keeps_own", &[&to, &rpath]);
}

#[test]
fn small_tools() {
    same_as_native(&["true"]);
    same_as_native(&["false"]);
    same_as_native(&["ls", "-l", "/etc"]);
    same_as_native(&["bash", "-c", "for i in 1 2 3; do echo $i | cat & done | sort; wait; exit 7"]);
    same_as_native(&[
        "bash",
        "-c",
        "seq 100000 | sort -R --random-source=/etc/passwd | sort -n --parallel=2 | md5sum",
    ]);
    same_as_native(&["bash", "-c", "tar cf - /usr/include 2>/dev/null | gzip -1 | gunzip | md5sum"]);
}

#[test]
fn python_with_threads_and_processes() {
    let job = "
import threading, subprocess, multiprocessing, ctypes
total = []
def work(n):
    rows = [dict(a=i, b=str(i) * 5) for i in range(20000)]
    total.append(sum(len(r['b']) for r in rows) + n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(total), subprocess.run(['echo', 'child'], capture_output=True).stdout)
with multiprocessing.get_context('fork').Pool(2) as pool:
    print(pool.map(len, [b'x' * n for n in range(1000)])[-1])
print(len(bytearray(50_000_000)), ctypes.CDLL(None).getpid() > 0)
";
    same_as_native(&["python3", "-c", job]);
}

#[test]
fn perl_sqlite_and_a_compiler() {
    same_as_native(&[
        "perl",
        "-e",
        "my %h; $h{$_ % 5000} .= $_ for 1..200000; my $p = fork; exit 3 if !$p; \
        waitpid $p, 0; print $? >> 8, ' ', length join '', map { $h{$_} } sort keys %h",
    ]);
    same_as_native(&[
        "sqlite3",
        ":memory:",
        "with recursive n(i) as (select 1 union all select i + 1 from n \
        where i < 100000) select count(*), sum(length(hex(i * 7919))) from n",
    ]);
    let (from, to) = (source("family.c"), product("compiled.s"));
    let _ = std::fs::remove_file(&to);
    same_as_native(&["cc", "-O2", "-S", &from, "-o", &to]);
}

/// zstd looks for functions of these names when it is loaded, and calls them for each page where it finds some: a
/// program that has them for its own zstd would be called on Quire's threads, and could hang them.
#[test]
fn the_library_looks_for_nothing_of_zstd_in_the_program() {
    let Some(library) = library() else { return };
    let symbols = run(&["nm", "-D", &library.to_string_lossy()], None);
    assert!(symbols.status.success(), "{symbols:?}");
    let symbols = String::from_utf8_lossy(&symbols.stdout);
    assert!(symbols.contains(" mmap"), "not the library's symbols: {symbols}");
    let found: Vec<&str> = symbols.lines().filter(|line| line.contains("ZSTD")).collect();
    assert!(found.is_empty(), "{found:?}; is .cargo/config.toml in force?");
}
