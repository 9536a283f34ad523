//! The innermost product of the assembly, `C += A^T B`, for operands packed in lanes of eight columns.
//!
//! A step multiplies a lane of `A`, one or two registers, by each of a few numbers of `B`, and all of
//! `C` stays in registers. The loop in plain Rust is compiled for each instruction set; for AVX-512,
//! where compilers shuffle `C` about, it is written out. Sums run over the rows in order, so that
//! instruction sets with fused multiply-adds agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx512;

/// Columns of a lane.
pub const LANE: usize = 8;

/// Eight neighbouring columns of one row.
pub type Lane = [f64; LANE];

/// Eight by eight values of a result, column by column.
pub type Square = [Lane; LANE];

/// Adds `sum_n a[k * stride + n][i] * b[n][j]` to `out[k][j][i]`.
pub fn add_products(a: &[Lane], stride: usize, b: &[Lane], out: &mut [Square]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: this processor has the instructions.
            return unsafe { avx512::add_products(a, stride, b, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(a, stride, b, out) };
        }
    }
    // Where there is no such instruction, a fused multiply-add is a slow call.
    by_halves::<{ cfg!(target_arch = "aarch64") }>(a, stride, b, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(a: &[Lane], stride: usize, b: &[Lane], out: &mut [Square]) {
    by_halves::<true>(a, stride, b, out);
}

/// One square at a time, four columns at once: eight registers of four values, or 16 of two.
// Inlined so that it is compiled for the instructions of its caller.
#[allow(clippy::inline_always)]
#[inline(always)]
fn by_halves<const FUSED: bool>(a: &[Lane], stride: usize, b: &[Lane], out: &mut [Square]) {
    for (k, out) in out.iter_mut().enumerate() {
        let a = &a[k * stride..][..b.len()];
        for first in [0, 4] {
            let mut sums = [[0.0; LANE]; 4];
            for (a, b) in a.iter().zip(b) {
                for j in 0..4 {
                    for i in 0..LANE {
                        let (x, y, sum) = (a[i], b[first + j], sums[j][i]);
                        sums[j][i] = if FUSED { x.mul_add(y, sum) } else { x * y + sum };
                    }
                }
            }
            for j in 0..4 {
                for i in 0..LANE {
                    out[first + j][i] += sums[j][i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(count: usize, salt: usize) -> Vec<Lane> {
        let value = |k: usize| ((k * 7919 + salt * 104_729) % 2003) as f64 / 1000.0 - 1.0;
        (0..count).map(|n| std::array::from_fn(|i| value(n * LANE + i))).collect()
    }

    #[test]
    fn every_instruction_set_agrees_with_the_sum() {
        for (depth, stride, count) in [(0, 3, 2), (1, 1, 1), (5, 9, 2), (256, 256, 3), (31, 32, 7)]
        {
            let (a, b) = (lanes(count * stride, 1), lanes(depth, 2));
            let mut ours = vec![[[1.0; LANE]; LANE]; count];
            add_products(&a, stride, &b, &mut ours);
            let (mut fused, mut plain) = (ours.clone(), ours.clone());
            fused.fill([[1.0; LANE]; LANE]);
            plain.fill([[1.0; LANE]; LANE]);
            by_halves::<true>(&a, stride, &b, &mut fused);
            by_halves::<false>(&a, stride, &b, &mut plain);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("fma") {
                assert_eq!(ours, fused);
            }
            for k in 0..count {
                for j in 0..LANE {
                    for i in 0..LANE {
                        let terms = (0..depth).map(|n| a[k * stride + n][i] * b[n][j]);
                        let bound: f64 = 1.0 + terms.clone().map(f64::abs).sum::<f64>();
                        let sum = 1.0 + terms.sum::<f64>();
                        let tolerance = 2.0 * (depth + 2) as f64 * f64::EPSILON * bound;
                        for got in [ours[k][j][i], fused[k][j][i], plain[k][j][i]] {
                            assert!((got - sum).abs() <= tolerance, "{got} {sum}");
                        }
                    }
                }
            }
        }
    }
}
