//! Sources: one large file of C++, and a history of versions.

use quire_sim::rng::Rng;
use std::io::{self, Write};

/// Templates that every function of the file makes instances of.
const TEMPLATES: &str = "\
template<int N, class T> struct Node {
    T left; Node<N - 1, T> rest;
    T fold(T x) const { return rest.fold(x * 31 + left) ^ N; }
};
template<class T> struct Node<0, T> { T left; T fold(T x) const { return x + left; } };
";

/// C++ of `functions` functions, each with a type of its own.
pub(crate) fn source(file: &mut dyn Write, functions: u64, rng: &mut Rng) -> io::Result<()> {
    file.write_all(TEMPLATES.as_bytes())?;
    for i in 0..functions {
        let [a, b] = [rng.below(1000), rng.below(1000)];
        let (depth, last, more) = (8 + i % 7, i % 8, i + 1);
        write!(
            file,
            "struct Tag{i} {{\n    unsigned long v;\n    \
             Tag{i} operator*(unsigned long b) const {{ return {{v * b + {a}}}; }}\n    \
             Tag{i} operator+(Tag{i} o) const {{ return {{v + o.v}}; }}\n    \
             Tag{i} operator^(unsigned long n) const {{ return {{v ^ n}}; }}\n}};\n\
             unsigned long f{i}(const Node<{depth}, Tag{i}>& n, unsigned long x) {{\n    \
             unsigned long a[8] = {{}};\n    \
             for (unsigned long k = 0; k < x; k++) a[k % 8] += n.fold(Tag{i}{{k}}).v % (k + {more});\n    \
             switch (x % 5) {{ case 0: return a[0] * {b}; case 1: return a[1] + a[2]; }}\n    \
             return a[{last}];\n}}\n"
        )?;
    }
    Ok(())
}

/// Bytes of each version of the one file in a history, a multiple of 16.
const BYTES: usize = 12_000_000;

/// Places in it that each version changes.
const CHANGES: u64 = 200;

/// For `git fast-import`: one large file in so many versions.
pub(crate) fn history(file: &mut dyn Write, versions: u64, rng: &mut Rng) -> io::Result<()> {
    let mut contents = hex(BYTES, rng);
    for version in 0..versions {
        for _ in 0..CHANGES {
            let at = rng.below(BYTES as u64 - 32) as usize;
            contents[at..at + 32].copy_from_slice(&hex(32, rng));
        }
        let time = 1_700_000_000 + version;
        write!(file, "commit refs/heads/main\ncommitter Bench <bench@localhost> {time} +0000\ndata 2\nc\n")?;
        write!(file, "M 100644 inline large\ndata {BYTES}\n")?;
        file.write_all(&contents)?;
        file.write_all(b"\n\n")?;
    }
    Ok(())
}

/// So many hex digits; a multiple of 16.
fn hex(digits: usize, rng: &mut Rng) -> Vec<u8> {
    (0..digits / 16).flat_map(|_| format!("{:016x}", rng.any()).into_bytes()).collect()
}
