//! `quire doctor`: what this machine allows, and the command that mends the rest.

use crate::failure::{End, Failure};
use crate::files;
use quire_linux::probe::{Capabilities, Right, Thp, probe};
use std::fmt::Write as _;

/// Prints the findings. Status 0: programs can be run; 125: they can't.
pub(crate) fn execute() -> Result<End, Failure> {
    let found = probe();
    files::print(&describe(&found), "the findings")?;
    Ok(End::Status(if found.suffices() { 0 } else { 125 }))
}

/// What programs can't do under Quire on any machine, and what to do then.
const LIMITS: [(&str, &str); 2] = [
    (
        "a userfaultfd of a program's own",
        "memory that it registers is the kernel's from then on; quire run --exclude NAME leaves the program alone",
    ),
    ("core files", "what was moved out of memory is not in them; without -m they are whole"),
];

/// The findings, a line each, and then what to mend, and what can't be mended.
fn describe(found: &Capabilities) -> String {
    let right = match found.uffd {
        Ok(Right::Root) => "yes, as root",
        Ok(Right::Capability) => "yes, by CAP_SYS_PTRACE",
        Ok(Right::Sysctl) => "yes, by vm.unprivileged_userfaultfd=1",
        Ok(Right::Device) => "yes, by /dev/userfaultfd",
        Err(_) => "no",
    };
    let thp = match found.thp {
        Thp::Always => "always",
        Thp::Madvise => "madvise",
        Thp::Never => "never",
        Thp::Unknown => "not known",
    };
    let (major, minor) = found.kernel;
    let rows = [
        ("kernel", format!("{major}.{minor}")),
        ("userfaultfd", right.into()),
        ("moving pages", yes(found.can_move)),
        ("write tracking", yes(found.write_tracking)),
        ("2M pages", thp.into()),
        ("real-time handler", yes(found.fifo)),
        ("address space", found.address_space.map_or("unlimited".into(), crate::size::human)),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<18}{value}");
    }
    for mend in found.mends() {
        let _ = writeln!(text, "{} {mend}", if mend.fatal { "must be mended:" } else { "could be better:" });
    }
    for (what, limit) in LIMITS {
        let _ = writeln!(text, "limit: {what}: {limit}");
    }
    let verdict = if found.suffices() { "quire run works here" } else { "quire run does not work here yet" };
    text + verdict + "\n"
}

fn yes(answer: bool) -> String {
    if answer { "yes" } else { "no" }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_linux::probe::Denial;

    #[test]
    fn a_refusal_names_its_mend() {
        let found = Capabilities { uffd: Err(Denial::NoDevice), can_move: false, ..probe() };
        let text = describe(&found);
        assert!(text.contains("vm.unprivileged_userfaultfd=1") && text.contains("not work"), "{text}");
        assert!(text.contains("limit: core files") && text.contains("--exclude"), "{text}");
    }
}
