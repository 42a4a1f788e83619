//! What everything costs: the table that turns counts into modelled time.

use core::fmt;
use quire_core::Order;

macro_rules! costs {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:literal,)+) => {
        /// Costs in ns. The default was measured by `quire replay --calibrate` on the machine that `docs/replay.md`
        /// names.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct Costs {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Default for Costs {
            fn default() -> Costs {
                Costs { $($name: $default,)+ }
            }
        }

        impl Costs {
            /// Every cost: its name, its value, and what it is.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
                [$((stringify!($name), self.$name, concat!($($doc),+).trim_ascii()),)+].into_iter()
            }

            fn of(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($name) => Some(&mut self.$name),)+
                    _ => None,
                }
            }
        }
    };
}

costs! {
    /// An access whose translation the first level of the TLB has.
    access = 2,
    /// What it takes longer when only the second level has it.
    second_level = 6,
    /// What it takes longer when the page table is walked.
    walk = 36,
    /// A fault from touch to going on, without what is done for it.
    fault = 11683,
    /// To overwrite a page with zeroes.
    zero_page = 446,
    /// To get a page of zeroes from the system.
    fresh_page = 3220,
    /// To move pages in or out, however few: a flush of the TLBs of all processors is in it.
    move_call = 1305,
    /// To move one page more.
    move_page = 88,
    /// To copy pages in, however few.
    copy_call = 979,
    /// To copy one page more.
    copy_page = 1668,
    /// What the program loses when another processor moves its pages out.
    interrupt = 1450,
    /// A call that discards pages, changes rights or gives memory back.
    call = 1831,
    /// To give back one page of memory.
    release_page = 400,
    /// To find that a page's contents are known or zeroes.
    hash_page = 194,
    /// To hash, compress and store a page.
    compress_page = 5217,
    /// To read a stored page from RAM and check it.
    expand_page = 2326,
    /// To read from the disk, however little.
    read_call = 46614,
    /// To read one page more from the disk.
    read_page = 5975,
    /// To write to the disk, however little.
    write_call = 38964,
    /// To write one page more to the disk.
    write_page = 5129,
}

/// What is wrong with a table of costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CostError {
    /// A line, from 1, is no cost: what it says.
    Unknown(usize, String),
    /// A line, from 1, names a cost that an earlier one has named: what it says.
    Twice(usize, String),
    /// No cost is named.
    Empty,
}

impl fmt::Display for CostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CostError::Unknown(line, text) => {
                write!(f, "line {line}: '{text}' is no cost: write a name and ns, as --calibrate does")
            }
            CostError::Twice(line, text) => {
                write!(f, "line {line}: '{text}' is a cost that an earlier line has: leave one out")
            }
            CostError::Empty => {
                f.write_str("no cost is in it; make a table with quire replay --calibrate FILE")
            }
        }
    }
}

impl std::error::Error for CostError {}

impl Costs {
    /// The same on a machine with base pages of this size: what is done to each byte of a page takes longer, what is done
    /// to its entry does not.
    pub(super) fn of_pages(&self, base: Order) -> Costs {
        let mut costs = *self;
        for cost in [
            &mut costs.zero_page,
            &mut costs.fresh_page,
            &mut costs.copy_page,
            &mut costs.hash_page,
            &mut costs.compress_page,
            &mut costs.expand_page,
            &mut costs.read_page,
            &mut costs.write_page,
        ] {
            *cost *= u64::from(base.pages());
        }
        costs
    }

    /// A cost is below this: an hour.
    const END: u64 = 3_600_000_000_000;

    /// Reads a table: a name and a number of ns on each line; what follows `#` is a comment. Costs that are not named
    /// keep their default; one at least is named, and none twice.
    pub fn parse(text: &str) -> Result<Costs, CostError> {
        let mut costs = Costs::default();
        let mut named = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or("").trim();
            if said.is_empty() {
                continue;
            }
            let mut words = said.split_whitespace();
            let name = words.next().unwrap_or("");
            let value = words.next().and_then(|word| word.parse().ok()).filter(|&ns| ns < Costs::END);
            match (costs.of(name), value, words.next()) {
                (Some(_), Some(_), None) if named.contains(&name) => {
                    return Err(CostError::Twice(number + 1, said.into()));
                }
                (Some(place), Some(value), None) => *place = value,
                _ => return Err(CostError::Unknown(number + 1, said.into())),
            }
            named.push(name);
        }
        if named.is_empty() { Err(CostError::Empty) } else { Ok(costs) }
    }
}

/// As [`Costs::parse`] reads it.
impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all().try_for_each(|(name, ns, what)| writeln!(f, "{name:<14}{ns:>8}  # {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_is_printed() {
        let costs = Costs { walk: 77, read_call: 1, ..Costs::default() };
        assert_eq!(Costs::parse(&costs.to_string()), Ok(costs));
        assert_eq!(Costs::parse("# nothing\n\n  walk 5 # five\n").map(|c| c.walk), Ok(5));
    }

    #[test]
    fn what_is_no_cost_is_named_with_its_line() {
        for line in ["walks 5", "walk", "walk five", "walk 5 6", "walk -1", "walk 3600000000000"] {
            assert_eq!(Costs::parse(&format!("access 1\n{line}")), Err(CostError::Unknown(2, line.into())));
        }
    }

    #[test]
    fn a_table_has_costs_and_none_twice() {
        assert_eq!(Costs::parse("walk 5\n#\nwalk 5 # again"), Err(CostError::Twice(3, "walk 5".into())));
        for text in ["", "\n# nothing\n"] {
            assert_eq!(Costs::parse(text), Err(CostError::Empty));
        }
    }
}
