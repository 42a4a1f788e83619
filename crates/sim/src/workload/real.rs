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
    let bits = x.to_bits();
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1);
    let mut exponent = (bits >> MANTISSA_BITS) as i64 - EXPONENT_BIAS;
    let mut m = f64::from_bits(mantissa | (EXPONENT_BIAS as u64) << MANTISSA_BITS);
    if m > core::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh s, and s is at most 0.172: the next term is below the last bit.
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for i in (0..11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * i + 1);
    }
    exponent as f64 * LN_2 + 2.0 * s * sum
}

/// e to the power of `x`, to about 15 digits. Beyond what a number can hold it is the smallest or largest that the
/// exponent allows.
pub(super) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    let twos = (x / LN_2).round();
    let rest = x - twos * LN_2_HIGH - twos * LN_2_LOW;
    // The rest is at most 0.35: the next term is below the last bit.
    let mut sum = 1.0;
    for i in (1..14).rev() {
        sum = 1.0 + sum * rest * (1.0 / f64::from(i));
    }
    sum * f64::from_bits(((twos as i64 + EXPONENT_BIAS) as u64) << MANTISSA_BITS)
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
