//! `cargo xtask dist`: what is handed to people, in `target/dist`: the binary, linked so that it runs on an old glibc too; man
//! pages; completions; a Debian package.

// The command line is that of `quire`, of which only the descriptions are read here.
#[allow(dead_code, unreachable_pub)]
#[path = "../../quire/src/cli.rs"]
mod cli;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::{Shell, generate_to};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As `quire` says it of itself; pages have no commit.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The oldest glibc that the binary and its library run on. `cargo-zigbuild` links against the symbols of this version.
const GLIBC: &str = "2.17";
const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(Parser)]
struct Tasks {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make what is handed to people, in target/dist
    Dist {
        /// Link against this machine's glibc, without cargo-zigbuild
        #[arg(long)]
        native: bool,
        /// No Debian package, without cargo-deb
        #[arg(long)]
        no_deb: bool,
    },
}

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let Task::Dist { native, no_deb } = Tasks::parse().task;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    // Where the description of the Debian package looks for it, wherever cargo builds.
    let dist = workspace.join("target/dist");
    let _ = fs::remove_dir_all(&dist);
    fs::create_dir_all(&dist)?;
    let built = if native { build(&workspace, &target)? } else { build_for_old(&workspace, &target)? };
    fs::copy(&built, dist.join("quire"))?;
    run(Command::new("strip").arg("--strip-debug").arg(dist.join("quire")))?;
    man_pages(&dist.join("man"))?;
    completions(&dist.join("completions"))?;
    if !no_deb {
        package(&workspace, &dist)?;
    }
    println!("{}", dist.display());
    Ok(())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
}

fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn build(workspace: &Path, target: &Path) -> Result<PathBuf, Box<dyn Error>> {
    run(cargo().current_dir(workspace).args(["build", "--release", "--package", "quire-mm"]))?;
    Ok(target.join("release/quire"))
}

fn build_for_old(workspace: &Path, target: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let triple = format!("{TARGET}.{GLIBC}");
    let mut zigbuild = cargo();
    zigbuild.current_dir(workspace).args([
        "zigbuild",
        "--release",
        "--package",
        "quire-mm",
        "--target",
        &triple,
    ]);
    run(&mut zigbuild).map_err(|error| {
        format!("{error}; it needs: pip install cargo-zigbuild ziglang (or say --native)")
    })?;
    Ok(target.join(TARGET).join("release/quire"))
}

/// A page for the command, and one for each verb that people use.
fn man_pages(directory: &Path) -> Outcome {
    fs::create_dir_all(directory)?;
    let quire = cli::Cli::command();
    let verbs = quire.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let mut pages = vec![(String::from("quire"), quire.clone())];
    for verb in verbs {
        let name = format!("quire-{}", verb.get_name());
        pages.push((name.clone(), verb.display_name(&*name).name(name.clone())));
    }
    for (name, command) in pages {
        let mut text = Vec::new();
        clap_mangen::Man::new(command.version(VERSION)).render(&mut text)?;
        fs::write(directory.join(format!("{name}.1")), text)?;
    }
    Ok(())
}

fn completions(directory: &Path) -> Outcome {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut cli::Cli::command(), "quire", directory)?;
    }
    Ok(())
}

/// By cargo-deb, from `package.metadata.deb` of `quire-mm`.
fn package(workspace: &Path, dist: &Path) -> Outcome {
    let mut deb = cargo();
    deb.current_dir(workspace)
        .args(["deb", "--no-build", "--no-strip", "--package", "quire-mm", "--output"])
        .arg(dist);
    run(&mut deb).map_err(|error| {
        format!("{error}; it needs: cargo install cargo-deb --locked (or say --no-deb)").into()
    })
}
