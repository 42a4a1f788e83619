//! Sources of a program in C: tables and units of functions, and what calls them.

use quire_sim::rng::Rng;
use std::io::{self, Write};

/// What all of its files include.
pub(crate) const HEADER: &str = "\
struct rule { unsigned key, weight, step; const char *name; };
struct state { unsigned seed, total, counts[8]; };
";

/// Steps that a table's rules name; a unit has some of them.
const STEPS: u64 = 64;

/// A function of a unit, with its numbers to be filled in.
const STEP: &str = "
static unsigned step{f}(struct state *s, unsigned x) {
    unsigned a[4] = { x, s->seed, {a}u, x ^ {b}u };
    for (unsigned i = 0; i < {c}u; i++) {
        switch ((a[i % 4] + i) % 6) {
        case 0: a[(i + 1) % 4] += a[i % 4] * {a}u; break;
        case 1: a[(i + 2) % 4] ^= a[i % 4] >> {d}; break;
        case 2: s->seed = s->seed * 1664525u + {b}u; a[i % 4] ^= s->seed; break;
        case 3: if (a[0] > a[1]) { unsigned t = a[0]; a[0] = a[1]; a[1] = t; } break;
        case 4: a[3] = (a[3] << {d} | a[3] >> (32 - {d})) + s->counts[i % 8]; break;
        default: s->counts[(a[2] + i) % 8] += {c}u;
        }
    }
    return a[0] + a[1] * 3 + a[2] * 5 + a[3] * 7;
}
";

/// A table of so many rules, which is `table` and their number.
pub(crate) fn table(file: &mut dyn Write, rules: u64, rng: &mut Rng) -> io::Result<()> {
    write!(file, "#include \"project.h\"\n\nconst struct rule table{rules}[] = {{\n")?;
    for _ in 0..rules {
        let [key, weight, step, name] = [1 << 32, 1000, STEPS, 1 << 32].map(|end| rng.below(end));
        writeln!(file, "    {{ {key}u, {weight}, {step}, \"rule-{name:08x}\" }},")?;
    }
    writeln!(file, "}};")
}

/// A unit, which is `unit` and its number: one function follows rules, by others that are its own.
pub(crate) fn unit(file: &mut dyn Write, number: u64, rng: &mut Rng) -> io::Result<()> {
    // So that units differ, which all begin with the same seed.
    for _ in 0..number {
        rng.any();
    }
    let steps = 16 + number % 16;
    file.write_all(b"#include \"project.h\"\n")?;
    for step in 0..steps {
        let numbers = [step, rng.below(1000), rng.below(1000), 3 + rng.below(30), 1 + rng.below(31)];
        let named = ["{f}", "{a}", "{b}", "{c}", "{d}"].into_iter().zip(numbers);
        let text = named.fold(STEP.to_string(), |text, (name, value)| text.replace(name, &value.to_string()));
        file.write_all(text.as_bytes())?;
    }
    write!(
        file,
        "\nunsigned unit{number}(struct state *s, const struct rule *rules, unsigned count, unsigned x) {{\n    \
         for (unsigned i = 0; i < 2000; i++) {{\n        const struct rule *rule = &rules[x % count];\n        \
         switch (rule->step % {steps}u) {{\n"
    )?;
    for step in 0..steps {
        writeln!(file, "        case {step}: x = step{step}(s, x ^ rule->key) + rule->name[5]; break;")?;
    }
    write!(
        file,
        "        }}\n        s->total += x % (rule->weight + 1);\n    }}\n    return x + s->total;\n}}\n"
    )
}

/// Runs each unit on each table.
pub(crate) fn calls(tables: &[u64], units: u64) -> String {
    let mut text = String::from("#include <stdio.h>\n#include \"project.h\"\n\n");
    for rules in tables {
        text += &format!("extern const struct rule table{rules}[];\n");
    }
    for unit in 0..units {
        text += &format!("unsigned unit{unit}(struct state *, const struct rule *, unsigned, unsigned);\n");
    }
    text += "\nint main(void) {\n    struct state s = { 1, 0, { 0 } };\n    unsigned x = 1;\n";
    for rules in tables {
        for unit in 0..units {
            text += &format!("    x = unit{unit}(&s, table{rules}, {rules}u, x);\n");
        }
    }
    text + "    printf(\"%08x %u\\n\", x, s.total);\n    return 0;\n}\n"
}
