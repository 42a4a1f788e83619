//! Logarithm and exponential from arithmetic alone. Those of std come from the system's library, whose last bits differ
//! between machines, and so would the events of a seed.

const LN_2: f64 = core::f64::consts::LN_2;
/// ln 2 in two parts: the high one has so few bits that its multiples by an exponent are exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

const EXPONENT_BIAS: i64 = 1023;
const MANTISSA_BITS: u32 = 52;

/// The natural logarithm of a normal, positive number, to about 15 digits.
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "no logarithm of {x}");
    // x is 2 to the exponent times m, with m from the root of 1/2 to that of 2. No branch: it would be a toss-up.
    let above_root = x.to_bits() as i64 - core::f64::consts::FRAC_1_SQRT_2.to_bits() as i64;
    let exponent = above_root >> MANTISSA_BITS;
    let m = f64::from_bits((x.to_bits() as i64 - (exponent << MANTISSA_BITS)) as u64);
    // ln m = 2 artanh s, and s is at most 0.172: the next term of it is below the last bit.
    let s = (m - 1.0) / (m + 1.0);
    exponent as f64 * LN_2 + 2.0 * s * polynomial(s * s, &ARTANH)
}

/// 1/1, 1/3, 1/5, ..
const ARTANH: [f64; 11] = {
    let mut terms = [1.0; 11];
    let mut i = 0;
    while i < terms.len() {
        terms[i] = 1.0 / (2 * i + 1) as f64;
        i += 1;
    }
    terms
};

/// 1/0!, 1/1!, 1/2!, ..
const EXP: [f64; 14] = {
    let mut terms = [1.0; 14];
    let mut i = 1;
    while i < terms.len() {
        terms[i] = terms[i - 1] / i as f64;
        i += 1;
    }
    terms
};

/// The sum of `terms[i]` times the i-th power of `x`, in four sums that do not wait for each other.
#[inline]
fn polynomial<const N: usize>(x: f64, terms: &[f64; N]) -> f64 {
    let square = x * x;
    let fourth = square * square;
    let mut sums = [0.0; 4];
    for i in (0..N).rev() {
        sums[i % 4] = sums[i % 4] * fourth + terms[i];
    }
    (sums[0] + x * sums[1]) + square * (sums[2] + x * sums[3])
}

/// e to the power of `x`, to about 15 digits. Beyond what a number can hold it is the smallest or largest that the
/// exponent allows.
pub(super) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    // To the nearest: what is below zero would be cut off upwards.
    let twos = (x * (1.0 / LN_2) + 2048.5) as i64 - 2048;
    let rest = x - twos as f64 * LN_2_HIGH - twos as f64 * LN_2_LOW;
    // The rest is at most 0.35: the next term is below the last bit.
    polynomial(rest, &EXP) * f64::from_bits(((twos + EXPONENT_BIAS) as u64) << MANTISSA_BITS)
}

/// (e^x - 1) / x, also where x is near 0.
pub(super) fn exp_slope(x: f64) -> f64 {
    if x.abs() > 1e-4 { (exp(x) - 1.0) / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0)) }
}

/// ln(1 + x) / x, also where x is near 0. What is not above -1 counts as just above it.
pub(super) fn ln_slope(x: f64) -> f64 {
    if x.abs() > 1e-4 {
        let x = x.max(f64::EPSILON - 1.0);
        ln(1.0 + x) / x
    } else {
        1.0 - x * (1.0 / 2.0 - x * (1.0 / 3.0 - x / 4.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, relative: f64) -> bool {
        (a - b).abs() <= relative * b.abs().max(1e-3)
    }

    #[test]
    fn logarithms_and_powers_are_those_of_std() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.37;
            assert!(near(ln(x), x.ln(), 1e-14), "ln {x}: {} {}", ln(x), x.ln());
            assert!(near(ln(1.0 / x), (1.0 / x).ln(), 1e-14), "ln 1/{x}");
            let y = f64::from(i - 10_000) * 0.0613;
            assert!(near(exp(y) / y.exp(), 1.0, 1e-14), "exp {y}: {} {}", exp(y), y.exp());
        }
        assert_eq!((ln(1.0), exp(0.0)), (0.0, 1.0));
    }

    #[test]
    fn slopes_hold_near_zero() {
        for i in -600..600 {
            let x = f64::from(i) * 1e-6 + 1e-9;
            assert!(near(exp_slope(x), x.exp_m1() / x, 1e-11), "{x}");
            assert!(near(ln_slope(x), x.ln_1p() / x, 1e-11), "{x}");
        }
        assert_eq!((exp_slope(0.0), ln_slope(0.0)), (1.0, 1.0));
        assert!(ln_slope(-2.0).is_finite());
    }
}
