//! What the machine is, and how much of it the hypervisor gave to others while something was measured.

use crate::bench::model::Machine;
use crate::run::budget::machine_memory;
use quire_linux::control::build_id::BUILD_ID;
use std::fs;
use std::thread::available_parallelism;

/// Describes this machine; `swap` says what the kernel swapped to, or why to nothing.
pub(crate) fn describe(swap: String) -> Machine {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Machine {
        processor: processor(&text("/proc/cpuinfo")),
        processors: available_parallelism().map_or(1, usize::from),
        memory_bytes: machine_memory(),
        kernel: text("/proc/sys/kernel/osrelease").trim().into(),
        swap,
        quire: format!("{} (build {BUILD_ID})", env!("CARGO_PKG_VERSION")),
    }
}

/// The name that the processor gives itself; those that give none have an architecture.
fn processor(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned()).filter(|value| !value.is_empty())
    };
    value("model name").or_else(|| value("Model")).unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// The time of all processors together, since the boot, in clock ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Steal {
    stolen: u64,
    all: u64,
}

impl Steal {
    /// What it is now; nothing of a kernel that tells none.
    pub(crate) fn look() -> Option<Steal> {
        Steal::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The share of all time since an earlier look that went to other guests, from 0 to 1.
    pub(crate) fn since(self, earlier: Steal) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        if all == 0 { 0.0 } else { stolen as f64 / all as f64 }
    }

    fn parse(stat: &str) -> Option<Steal> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        // Steal is the eighth; the time of guests behind it is in the first two already.
        Some(Steal { stolen: *ticks.get(7)?, all: ticks.iter().take(8).sum() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_name() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7R13\nModel\t: Board\n";
        assert_eq!(processor(text), "AMD EPYC 7R13");
        assert_eq!(processor("processor : 0\nModel\t: Raspberry Pi 5\n"), "Raspberry Pi 5");
        assert_eq!(processor("model name\t:\n"), std::env::consts::ARCH);
    }

    #[test]
    fn this_machine_is_described() {
        let machine = describe("none: not root".into());
        assert!(
            machine.processors >= 1 && (16 << 20..u64::MAX).contains(&machine.memory_bytes),
            "{machine:?}"
        );
        assert!(machine.kernel.starts_with(|digit: char| digit.is_ascii_digit()), "{}", machine.kernel);
        assert!(machine.quire.contains(BUILD_ID) && !machine.processor.is_empty());
        assert_eq!(machine.swap, "none: not root");
    }

    #[test]
    fn steal_is_a_share_of_all_time_between_two_looks() {
        let stat = |user: u64, steal: u64| {
            Steal::parse(&format!("cpu  {user} 10 20 300 5 6 7 {steal} 999 999\ncpu0 1 2\n")).unwrap()
        };
        assert_eq!(stat(100, 8), Steal { stolen: 8, all: 456 });
        assert_eq!(stat(175, 33).since(stat(100, 8)), 0.25);
        assert_eq!(stat(100, 8).since(stat(100, 8)), 0.0);
        assert_eq!(Steal::parse("cpu  1 2 3 4 5 6 7\n"), None);
        let look = Steal::look().unwrap();
        assert!((0.0..=1.0).contains(&Steal::look().unwrap().since(look)));
    }
}
