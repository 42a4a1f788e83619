//! What has to be installed.

use crate::run::program::find;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Something that a workload runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// A command, and the package of Debian that has it.
    Command { name: &'static str, package: &'static str },
    /// A module of the system's Python, which pip installs.
    Module(&'static str),
}

impl Need {
    /// Why it can't be had; `None` where it is there.
    pub(super) fn missing(&self) -> Option<String> {
        match self {
            Need::Command { name, .. } if found(name).is_some() => None,
            Need::Command { name, package } => {
                Some(format!("{name} is not installed (apt-get install {package})"))
            }
            Need::Module(name) if has_module(name) => None,
            Need::Module(name) => {
                let python = python().unwrap_or_else(|| "python3".into());
                Some(format!("{} has no {name} ({0} -m pip install {name})", python.display()))
            }
        }
    }
}

/// Where a command is, by the rules of a shell.
pub(super) fn found(name: &str) -> Option<PathBuf> {
    find(name.as_ref()).ok()
}

/// The system's Python, not one that a version manager put in front of it.
pub(super) fn python() -> Option<PathBuf> {
    found("/usr/bin/python3").or_else(|| found("python3"))
}

fn has_module(name: &str) -> bool {
    let find = format!("import importlib.util as u, sys; sys.exit(u.find_spec('{name}') is None)");
    python().is_some_and(|python| {
        let mut command = Command::new(python);
        command.args(["-c", &find]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_missing() {
        assert_eq!(Need::Command { name: "sh", package: "dash" }.missing(), None);
        assert_eq!(found("/bin/sh"), Some("/bin/sh".into()));
    }

    #[test]
    fn what_is_not_there_is_told_with_what_brings_it() {
        let need = Need::Command { name: "quire-no-such-command", package: "a-package" };
        let why = "quire-no-such-command is not installed (apt-get install a-package)";
        assert_eq!(need.missing().as_deref(), Some(why));
        let why = Need::Module("quire_no_such_module").missing().unwrap();
        assert!(why.contains(" has no quire_no_such_module (") && why.contains(" -m pip install "), "{why}");
    }
}
