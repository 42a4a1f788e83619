//! Plays random sequences of verbs to the kernel and to the simulated tables, and compares after each step what
//! was answered, what is present, and what it holds.
//!
//! `QUIRE_SEED` sets the first seed and `QUIRE_SEQUENCES` how many there are. A sequence that differs is cut down
//! to the steps that matter before it is printed.

mod kernel;
mod ops;
mod pair;
mod rng;

use kernel::Kernel;
use ops::Op;
use pair::Pair;
use rng::Rng;

/// Steps in a sequence.
const STEPS: usize = 40;
/// Sequences, when nothing else is asked for.
const SEQUENCES: u64 = 1000;

#[test]
fn the_simulated_tables_answer_as_the_kernel_does() {
    let mut kernel = match Kernel::new() {
        Ok(kernel) => kernel,
        Err(errno) => {
            println!("skipped: this machine gives no userfaultfd that can move pages ({errno})");
            return;
        }
    };
    let (first, count) = (setting("QUIRE_SEED", 1), setting("QUIRE_SEQUENCES", SEQUENCES));
    let mut answers = pair::Answers::default();
    for seed in first..first + count {
        let ops = sequence(seed);
        if let Err((step, why)) = play(&mut kernel, &ops, &mut answers) {
            let ops = shrink(&mut kernel, ops[..=step].to_vec());
            let why = play(&mut kernel, &ops, &mut answers).map_or_else(|(_, why)| why, |()| why);
            let steps: String = ops.iter().map(|op| format!("\n  {op:?}")).collect();
            panic!("seed {seed}: {why}\nafter{steps}\nagain: QUIRE_SEED={seed} QUIRE_SEQUENCES=1");
        }
    }
    println!("{count} sequences of {STEPS} verbs from seed {first}: {answers:?}");
    answers.expect_all();
}

#[expect(clippy::disallowed_methods, reason = "whoever runs the test decides")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn sequence(seed: u64) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    (0..STEPS).map(|_| Op::any(&mut rng)).collect()
}

/// Plays a sequence on fresh memory; the step that differed, and how.
fn play(kernel: &mut Kernel, ops: &[Op], answers: &mut pair::Answers) -> Result<(), (usize, String)> {
    let mut pair = Pair::new(kernel.window());
    for (i, op) in ops.iter().enumerate() {
        pair.step(op, answers).map_err(|why| (i, why))?;
    }
    Ok(())
}

/// Drops every step without which the sequence still differs.
fn shrink(kernel: &mut Kernel, mut ops: Vec<Op>) -> Vec<Op> {
    let mut at = ops.len();
    while at > 0 {
        at -= 1;
        let mut fewer = ops.clone();
        fewer.remove(at);
        if let Err((step, _)) = play(kernel, &fewer, &mut pair::Answers::default()) {
            fewer.truncate(step + 1);
            ops = fewer;
            at = at.min(ops.len());
        }
    }
    ops
}
