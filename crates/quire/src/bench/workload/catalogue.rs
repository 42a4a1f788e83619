//! Every program by name. In full each takes 200 to 600 MB and some seconds natively; `quire touch` takes 512 MB.
//!
//! What would print much goes through `cksum`: output in files would be memory of the cgroup too, which a limit then takes
//! from the program.

use super::inputs::{self, Inputs, unwritable};
use super::redis::{Load, SOCKET};
use super::{Answer, Job, Measure, Need, Program, TIMEOUT, Workload, needs};
use crate::bench::touch::Data;
use crate::failure::Failure;
use crate::run::program;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A million bytes, as in names of sizes that programs take.
const MB: u64 = 1_000_000;

/// Every workload, the cheapest to understand first.
pub(crate) fn catalogue() -> Vec<Workload> {
    let touch = |name, what, prepare| Workload {
        answer: Answer::Checksum,
        measure: Measure::Phases,
        ..known(name, what, &[], prepare)
    };
    vec![
        touch("touch-3x", "fill, scans, random and Zipf's law over 512 MiB; data compresses 3x", touch_3x),
        touch("touch-1.5x", "the same with data that compresses 1.5x", touch_15x),
        touch("touch-3x-2threads", "the same at 3x, two threads on all of it", touch_3x_twice),
        known("sqlite", "rows, an index and aggregates in memory", SQLITE, sqlite),
        known("sort", "GNU sort of random lines, all in its buffer", SORT, sort),
        known("python", "dicts, lists, bytearrays, threads and children", PYTHON, python),
        Workload {
            answer: Answer::Driver,
            measure: Measure::Driver,
            ..known("redis", "redis-server, filled, then GETs by redis-benchmark", REDIS, redis)
        },
        known("perl", "hashes, arrays and strings", PERL, perl),
        known("node", "objects, maps and buffers in JavaScript", NODE, node),
        known("java", "small objects on a heap of fixed size", JAVA, java),
        known("g++", "a large file of templates, -O1", GXX, gxx),
        known("make", "make -j2 of a program in C, -O1", MAKE, make),
        known("git", "git repack -adf of large blobs, one thread", GIT, git),
        known("zstd", "zstd --long=28 of repetitive logs", ZSTD, zstd),
        known("7z", "7z, xz format at level 9, two threads", SEVEN_ZIP, seven_zip),
        known("xz", "xz -9, one thread", XZ, xz),
        known("ghostscript", "a page at high resolution, in one bitmap", GHOSTSCRIPT, ghostscript),
        known("samtools", "samtools sort of reads, all in memory", SAMTOOLS, samtools),
        known("ffmpeg", "x264 with a large lookahead", FFMPEG, ffmpeg),
        known("R", "a data frame sorted, joined and aggregated", R, r),
        known("polars", "frames joined, sorted and grouped", POLARS, polars),
        known("duckdb", "tables joined, sorted and grouped in memory, two threads", DUCKDB, duckdb),
    ]
}

/// What the start of a program costs, where there is memory enough: by itself, and in a tree that Quire runs already.
pub(crate) fn starts() -> Vec<Workload> {
    let each =
        |name, what, prepare| Workload { measure: Measure::Each(STARTS), ..known(name, what, TRUE, prepare) };
    vec![
        each("start", "start-up of true, each by a quire of its own", start),
        each("exec", "start-up of true in a tree that runs", exec),
    ]
}

/// Starts in a run.
const STARTS: u32 = 100;
const TRUE: &[Need] = &[command("sh", "dash"), command("true", "coreutils")];

/// A shell that runs a command again and again; where Quire comes before the command, or before the shell.
fn again(inputs: Inputs<'_>, outside: bool) -> Result<Job, Failure> {
    let times = STARTS.to_string();
    let script = r#"i=0; n=$1; shift; while [ $i -lt $n ]; do "$@" || exit 1; i=$((i+1)); done"#;
    let before = words([&"sh", &"-c", &script, &"sh", &times]);
    let outside = if outside { before.len() } else { 0 };
    let argv = [before, vec![program::find(OsStr::new("true"))?.into()]].concat();
    Ok(Job { outside, ..Job::new(inputs, argv) })
}

fn start(inputs: Inputs<'_>) -> Result<Job, Failure> {
    again(inputs, true)
}

fn exec(inputs: Inputs<'_>) -> Result<Job, Failure> {
    again(inputs, false)
}

/// What stands after `--`. Its stdout has to be the same each time.
pub(crate) fn custom(argv: Vec<OsString>) -> Workload {
    let name = argv.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let program = Program::Custom(argv);
    Workload { name, what: "as given", needs: &[], program, answer: Answer::Stdout, measure: Measure::Whole }
}

/// That runs where `quire bench` was started, whatever the scale is.
pub(super) fn as_it_is(argv: &[OsString]) -> Result<Job, Failure> {
    program::find(argv.first().map_or(OsStr::new(""), OsString::as_os_str))?;
    let cwd = env::current_dir().map_err(|error| {
        Failure::own(format!("the current directory is gone: {error}; change to one that is there"))
    })?;
    Ok(Job::new(Inputs { directory: &cwd, small: false }, argv.to_vec()))
}

fn known(
    name: &str,
    what: &'static str,
    needs: &'static [Need],
    prepare: fn(Inputs<'_>) -> Result<Job, Failure>,
) -> Workload {
    Workload {
        name: name.into(),
        what,
        needs,
        program: Program::Known(prepare),
        answer: Answer::Stdout,
        measure: Measure::Whole,
    }
}

const fn command(name: &'static str, package: &'static str) -> Need {
    Need::Command { name, package }
}

const BASH: Need = command("bash", "bash");
const SQLITE: &[Need] = &[command("sqlite3", "sqlite3")];
const SORT: &[Need] = &[BASH, command("sort", "coreutils")];
const PYTHON: &[Need] = &[command("python3", "python3")];
const REDIS: &[Need] = &[
    command("redis-server", "redis-server"),
    command("redis-cli", "redis-tools"),
    command("redis-benchmark", "redis-tools"),
];
const PERL: &[Need] = &[command("perl", "perl")];
const NODE: &[Need] = &[command("node", "nodejs")];
// A source file is run by the compiler.
const JAVA: &[Need] = &[command("java", "default-jdk-headless"), command("javac", "default-jdk-headless")];
const GXX: &[Need] = &[command("g++", "g++")];
const MAKE: &[Need] = &[BASH, command("make", "make"), command("gcc", "gcc"), command("mktemp", "coreutils")];
const GIT: &[Need] = &[BASH, command("git", "git")];
const ZSTD: &[Need] = &[BASH, command("zstd", "zstd")];
const SEVEN_ZIP: &[Need] = &[BASH, command("7z", "p7zip-full")];
const XZ: &[Need] = &[BASH, command("xz", "xz-utils")];
const GHOSTSCRIPT: &[Need] = &[BASH, command("gs", "ghostscript")];
const SAMTOOLS: &[Need] = &[BASH, command("samtools", "samtools")];
const FFMPEG: &[Need] = &[command("ffmpeg", "ffmpeg")];
const R: &[Need] = &[command("Rscript", "r-base-core")];
const POLARS: &[Need] = &[command("python3", "python3"), Need::Module("polars")];
const DUCKDB: &[Need] = &[command("python3", "python3"), Need::Module("duckdb")];

/// A command line.
fn words<const N: usize>(words: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().into()).collect()
}

/// A command of bash's whose stdout only `cksum` reads; `$1` and so on are the arguments. It fails when the first of them
/// does.
fn summed<const N: usize>(inputs: Inputs<'_>, script: &str, arguments: [&dyn AsRef<OsStr>; N]) -> Job {
    let mut argv = words([&"bash", &"-o", &"pipefail", &"-c", &format!("{script} | cksum"), &"bench"]);
    argv.extend(words(arguments));
    Job::new(inputs, argv)
}

fn touch(inputs: Inputs<'_>, data: Data, threads: u64) -> Result<Job, Failure> {
    let quire = env::current_exe().map_err(|error| {
        Failure::own(format!("quire doesn't find itself: {error}; name it with its path"))
    })?;
    // Small enough for a pager that is slow on purpose.
    let bytes = if inputs.small { 64 << 20 } else { 512_u64 << 20 }.to_string();
    let threads = threads.to_string();
    let mut argv =
        words([&quire, &"touch", &"--bytes", &bytes, &"--data", &data.name(), &"--threads", &threads]);
    argv.extend(inputs.small.then(|| "--small".into()));
    Ok(Job::new(inputs, argv))
}

fn touch_3x(inputs: Inputs<'_>) -> Result<Job, Failure> {
    touch(inputs, Data::Easy, 1)
}

fn touch_15x(inputs: Inputs<'_>) -> Result<Job, Failure> {
    touch(inputs, Data::Hard, 1)
}

fn touch_3x_twice(inputs: Inputs<'_>) -> Result<Job, Failure> {
    touch(inputs, Data::Easy, 2)
}

fn sqlite(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let stdin = Some(inputs.kept("rows.sql", inputs.scaled(400 * MB), inputs::sql)?);
    Ok(Job { stdin, ..Job::new(inputs, words([&"sqlite3", &":memory:"])) })
}

fn sort(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let lines = inputs.kept("lines.txt", inputs.scaled(150 * MB), inputs::lines)?;
    // It sorts by bytes, and two or three times its input fits into the buffer.
    let job = summed(inputs, r#"sort -S "$1" "$2""#, [&format!("{}K", inputs.scaled(600_000)), &lines]);
    Ok(Job { env: vec![("LC_ALL".into(), "C".into())], ..job })
}

fn system_python() -> PathBuf {
    needs::python().unwrap_or_else(|| "python3".into())
}

fn python(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("job.py", include_str!("../../../../../tests/programs/job.py"))?;
    let argv = words([&system_python(), &script, &"--mb", &inputs.scaled(600).to_string()]);
    Ok(Job::new(inputs, argv))
}

/// Keys of some 620 bytes with their values, and GETs for each.
const REDIS_KEYS: u64 = 480_000;

fn redis(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let keys = inputs.scaled(REDIS_KEYS);
    let fill = inputs.kept("commands.redis", keys, inputs::redis_commands)?;
    let argv = words([&"redis-server", &"--port", &"0", &"--unixsocket", &SOCKET, &"--save", &""]);
    let directory = inputs.directory.into();
    let driver = Some(Load { directory, fill, keys, requests: keys / 2, timeout: TIMEOUT });
    Ok(Job { driver, ..Job::new(inputs, argv) })
}

fn perl(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("job.pl", include_str!("scripts/job.pl"))?;
    Ok(Job::new(inputs, words([&"perl", &script, &inputs.scaled(160).to_string()])))
}

fn node(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("job.js", include_str!("scripts/job.js"))?;
    Ok(Job::new(inputs, words([&"node", &script, &inputs.scaled(200).to_string()])))
}

fn java(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("Job.java", include_str!("scripts/Job.java"))?;
    let most = format!("-Xmx{}m", if inputs.small { 160 } else { 512 });
    Ok(Job::new(inputs, words([&"java", &most, &script, &inputs.scaled(160).to_string()])))
}

fn gxx(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let source = inputs.kept("large.cc", inputs.scaled(280), inputs::source)?;
    Ok(Job::new(inputs, words([&"g++", &"-w", &"-O1", &"-S", &"-o", &"-", &source])))
}

/// The program that is made has four tables of about so many rules, which take the compiler's memory, and so many units, which
/// take its time.
const RULES: u64 = 120_000;
const UNITS: u64 = 44;

/// Its objects go to a directory of `TMPDIR`; what is printed is what the program says, and a checksum of them.
const MAKE_ALL: &str = r#"set -e
    objects=$(mktemp -d)
    trap 'rm -rf "$objects"' EXIT
    cd "$objects"
    ln -s "$1" source
    make -s -j2 -f source/Makefile SOURCES="$2" >&2
    ./project
    cat *.o | cksum"#;

fn make(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let directory = inputs.directory.join("project");
    fs::create_dir_all(&directory).map_err(|error| unwritable(&directory, &error))?;
    let project = Inputs { directory: &directory, ..inputs };
    let units = inputs.scaled(UNITS);
    // Each has a name of its own by its number of rules.
    let tables = [0, 1, 2, 3].map(|more| inputs.scaled(RULES) + more);
    // Two tables are compiled at once, and then two more.
    let files = tables[..2].iter().map(|rules| project.kept("table.c", *rules, inputs::table));
    let files = files.chain((0..units).map(|number| project.kept("unit.c", number, inputs::unit)));
    let files = files.chain(tables[2..].iter().map(|rules| project.kept("table.c", *rules, inputs::table)));
    let main = project.script(&format!("main-{units}.c"), &inputs::calls(&tables, units));
    project.script("project.h", inputs::HEADER)?;
    project.script("Makefile", include_str!("scripts/Makefile"))?;
    let sources: Vec<PathBuf> = files.chain([main]).collect::<Result<_, _>>()?;
    let sources: Vec<_> = sources.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let argv = words([&"bash", &"-c", &MAKE_ALL, &"bench", &directory, &sources.join(" ")]);
    // What a make around the bench has set is not for this one.
    Ok(Job { env: vec![("MAKEFLAGS".into(), "".into())], ..Job::new(inputs, argv) })
}

/// Runs what prepares an input, and fails when it does.
fn run(command: &mut Command, what: &Path) -> Result<(), Failure> {
    let status = command.stdout(Stdio::null()).status().map_err(|error| unwritable(what, &error))?;
    if status.success() {
        return Ok(());
    }
    let name = command.get_program().display().to_string();
    Err(unwritable(what, &io::Error::other(format!("{name} failed with {status}"))))
}

/// A repository; the first repack is done here, so that each one that is measured finds the same.
fn repository(inputs: Inputs<'_>, commits: u64) -> Result<PathBuf, Failure> {
    let stream = inputs.kept("history.git", commits, inputs::history)?;
    let path = stream.with_extension("repository");
    if path.exists() {
        return Ok(path);
    }
    let fresh = path.with_extension("fresh");
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&fresh, &error)),
        _ => {}
    }
    run(Command::new("git").args(["init", "-q", "--bare"]).arg(&fresh), &fresh)?;
    let stdin = File::open(&stream).map_err(|error| unwritable(&stream, &error))?;
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&fresh).args(words);
        command
    };
    run(git(&["fast-import", "--quiet", "--depth=0"]).stdin(stdin), &fresh)?;
    run(Command::new("bash").args(["-c", REPACK, "bench"]).arg(&fresh), &fresh)?;
    fs::rename(&fresh, &path).map_err(|error| unwritable(&path, &error))?;
    Ok(path)
}

/// Packs that a killed run has left half written.
fn remove_half_packs(repository: &Path) {
    let entries = fs::read_dir(repository.join("objects/pack")).into_iter().flatten().flatten();
    let half = |name: &OsStr| name.to_string_lossy().starts_with("tmp_");
    for entry in entries.filter(|entry| half(&entry.file_name())) {
        // What can't be removed only takes room.
        let _ = fs::remove_file(entry.path());
    }
}

/// One thread, so that it finds the same deltas each time; the name of the pack is its digest.
const REPACK: &str = r#"git -C "$1" -c pack.threads=1 -c core.fsync=none repack -adfq --window=10 --depth=50 \
    --window-memory=0 && (cd "$1/objects/pack" && echo *.pack)"#;

fn git(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let repository = repository(inputs, inputs.scaled(16))?;
    remove_half_packs(&repository);
    Ok(Job::new(inputs, words([&"bash", &"-c", &REPACK, &"bench", &repository])))
}

fn zstd(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let log = inputs.kept("log.txt", inputs.scaled(200 * MB), inputs::log)?;
    Ok(summed(inputs, r#"zstd -q -T1 -5 --long=28 -c "$1""#, [&log]))
}

fn seven_zip(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let archive = inputs.kept("archive.txt", inputs.scaled(24 * MB), inputs::archive)?;
    // From stdin, so that no name and no time is in the archive.
    Ok(summed(inputs, r#"7z a -txz -an -si -so -mmt2 -mx9 < "$1""#, [&archive]))
}

fn xz(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let archive = inputs.kept("archive.txt", inputs.scaled(24 * MB), inputs::archive)?;
    Ok(summed(inputs, r#"xz -T1 -9 -c "$1""#, [&archive]))
}

/// In RAM as a whole instead of in bands.
const DRAW: &str = "gs -q -dNOPAUSE -dBATCH -dSAFER -sDEVICE=ppmraw -dMaxBitmap=1000000000 -r\"$1\" \
    -sOutputFile=%stdout \"$2\"";

fn ghostscript(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let page = inputs.kept("page.ps", 150, inputs::drawing)?;
    // Half the resolution is a quarter of the bitmap.
    let resolution = if inputs.small { "600" } else { "1200" };
    Ok(summed(inputs, DRAW, [&resolution, &page]))
}

fn samtools(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let reads = inputs.kept("reads.sam", inputs.scaled(800_000), inputs::reads)?;
    let sort = r#"samtools sort -m 700M --no-PG -O sam -T bench-samtools "$1""#;
    Ok(summed(inputs, sort, [&reads]))
}

fn ffmpeg(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let frames = inputs.scaled(160).to_string();
    let [picture, lookahead] = ["testsrc2=size=1280x720:rate=30", "100"];
    let mut argv = words([&"ffmpeg", &"-v", &"error", &"-nostdin", &"-f", &"lavfi", &"-i", &picture]);
    argv.extend(words([&"-frames:v", &frames, &"-c:v", &"libx264", &"-preset", &"veryfast"]));
    argv.extend(words([&"-rc-lookahead", &lookahead, &"-threads", &"2", &"-f", &"md5", &"-"]));
    Ok(Job::new(inputs, argv))
}

fn r(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("job.R", include_str!("scripts/job.R"))?;
    let rows = inputs.scaled(2_000_000).to_string();
    Ok(Job::new(inputs, words([&"Rscript", &"--vanilla", &script, &rows])))
}

fn polars(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("frames.py", include_str!("scripts/frames.py"))?;
    let rows = inputs.scaled(2_000_000).to_string();
    Ok(Job::new(inputs, words([&system_python(), &script, &rows])))
}

fn duckdb(inputs: Inputs<'_>) -> Result<Job, Failure> {
    let script = inputs.script("tables.py", include_str!("scripts/tables.py"))?;
    let rows = inputs.scaled(2_000_000).to_string();
    Ok(Job::new(inputs, words([&system_python(), &script, &rows])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::run;
    use std::collections::BTreeSet;
    use std::process::Output;

    fn by_name(name: &str) -> Workload {
        catalogue().into_iter().find(|workload| workload.name == name).unwrap()
    }

    fn output(job: &Job) -> Output {
        let stdin = job.stdin.as_ref().map_or(Stdio::null(), |path| File::open(path).unwrap().into());
        let mut command = Command::new(&job.argv[0]);
        command.args(&job.argv[1..]).envs(job.env.iter().cloned()).current_dir(&job.cwd).stdin(stdin);
        command.output().unwrap()
    }

    /// The answer of a run that ends well.
    fn answer(workload: &Workload, job: &Job) -> String {
        let output = output(job);
        assert!(output.status.success(), "{}: {output:?}", workload.name);
        let text = String::from_utf8(output.stdout).unwrap();
        let (digest, bytes) = (xxhash_rust::xxh3::xxh3_128(text.as_bytes()), text.len() as u64);
        workload.judge(&run::Output { digest, bytes, text }, 1.0, None).unwrap().0
    }

    #[test]
    fn names_differ_and_say_what_they_do() {
        let all = catalogue();
        let names: BTreeSet<&str> = all.iter().map(|workload| workload.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|workload| !workload.what.is_empty() && workload.what.len() <= 70));
    }

    #[test]
    fn the_same_answer_comes_twice() {
        let directory = tempfile::tempdir().unwrap();
        let custom = custom(words([&"/bin/sh", &"-c", &"echo one; echo two"]));
        let names = ["sort", "sqlite", "perl", "g++", "make", "git", "duckdb"];
        let mut all: Vec<Workload> = names.map(by_name).into_iter().chain([custom]).collect();
        all.retain(|workload| workload.missing().is_none());
        assert!(all.len() >= 2, "sort and sh are everywhere");
        for workload in all {
            let job = workload.prepare(directory.path(), true).unwrap();
            let job = Job { cwd: directory.path().into(), ..job };
            assert_eq!(workload.prepare(directory.path(), true).unwrap().argv, job.argv);
            assert_eq!(answer(&workload, &job), answer(&workload, &job), "{}", workload.name);
        }
    }

    #[test]
    fn what_stands_in_a_pipe_may_not_fail() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs { directory: directory.path(), small: true };
        assert!(!output(&summed(inputs, "(echo half; exit 3)", [])).status.success());
        assert!(output(&summed(inputs, r#"echo "$1""#, [&"whole"])).status.success());
    }

    #[test]
    fn a_program_that_is_not_there_is_told_before_anything_is_run() {
        let custom = custom(vec!["quire-no-such-program".into()]);
        let failure = custom.prepare(Path::new("/"), false).unwrap_err();
        assert!(failure.message.contains("quire-no-such-program"), "{failure:?}");
        assert_eq!(custom.name, "quire-no-such-program");
    }

    #[test]
    fn what_is_missing_is_left_out_with_all_reasons() {
        const NEEDS: &[Need] = &[command("quire-no-one", "one"), command("quire-no-two", "two")];
        let left_out = Workload { needs: NEEDS, ..by_name("sort") }.missing().unwrap();
        assert_eq!(left_out.workload, "sort");
        assert!(left_out.why.contains("apt-get install one") && left_out.why.contains("apt-get install two"));
    }

    #[test]
    fn only_half_packs_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let packs = directory.path().join("objects/pack");
        fs::create_dir_all(&packs).unwrap();
        for name in ["tmp_pack_x", "pack-1.pack"] {
            fs::write(packs.join(name), "").unwrap();
        }
        remove_half_packs(directory.path());
        let left: Vec<_> = fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["pack-1.pack"]);
    }
}
