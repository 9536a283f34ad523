//! The innermost products, over operands packed in lanes of eight: shared by assembly, Cholesky and
//! triangular solves.
//!
//! A step multiplies lanes of the left operand by each of a few numbers of the right one, and all of
//! the result stays in registers. The loop in plain Rust is compiled for each instruction set; for
//! AVX-512, where compilers shuffle the sums about, it is written out. Sums run over the depth in
//! order, so that instruction sets with fused multiply-adds agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod dot;
pub mod lanes;
pub mod rows;

/// Neighbouring rows or columns that lie together.
pub const LANE: usize = 8;

/// Eight neighbours at one place of the depth.
pub type Lane = [f64; LANE];

/// Eight by eight values of a result: lanes one after the other.
pub type Square = [Lane; LANE];

/// Where a product goes: square `k` is `squares[k * step]`, and gets `sign` times the sum.
pub struct Target<'a> {
    /// From the first square on.
    pub squares: &'a mut [Square],
    /// From one square to the next.
    pub step: usize,
    /// 1 adds, -1 subtracts.
    pub sign: f64,
}

impl Target<'_> {
    fn len(&self) -> usize {
        self.squares.len().div_ceil(self.step)
    }
}

/// Square `k`, lane `j`, place `i` gets `sign * sum_n left[k * stride + n][i] * right[n][j]`, for
/// the first `live` lanes; what is asked of the others is left open.
pub fn add_products(left: &[Lane], stride: usize, right: &[Lane], live: usize, target: Target<'_>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: this processor has the instructions.
            return unsafe { avx512::add_products(left, stride, right, live, target) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(left, stride, right, live, target) };
        }
    }
    // Where there is no such instruction, a fused multiply-add is a slow call.
    by_halves::<{ cfg!(target_arch = "aarch64") }>(
        left,
        stride,
        right.len(),
        live,
        target,
        |n, j| right[n][j],
    );
}

/// The same with the right operand transposed square by square: its number at depth `8 q + r` and
/// lane `j` is `right[q * right_step][j][r]`.
pub fn add_products_transposed(
    left: &[Lane],
    stride: usize,
    right: &[Square],
    right_step: usize,
    target: Target<'_>,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: this processor has the instructions.
            unsafe { avx512::add_products_transposed(left, stride, right, right_step, target) };
            return;
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2_transposed(left, stride, right, right_step, target) };
        }
    }
    transposed::<{ cfg!(target_arch = "aarch64") }>(left, stride, right, right_step, target);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(left: &[Lane], stride: usize, right: &[Lane], live: usize, target: Target<'_>) {
    by_halves::<true>(left, stride, right.len(), live, target, |n, j| right[n][j]);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2_transposed(
    left: &[Lane],
    stride: usize,
    right: &[Square],
    right_step: usize,
    target: Target<'_>,
) {
    transposed::<true>(left, stride, right, right_step, target);
}

// Inlined so that it is compiled for the instructions of its caller.
#[allow(clippy::inline_always)]
#[inline(always)]
fn transposed<const FUSED: bool>(
    left: &[Lane],
    stride: usize,
    right: &[Square],
    right_step: usize,
    target: Target<'_>,
) {
    let depth = right.len().div_ceil(right_step) * LANE;
    by_halves::<FUSED>(left, stride, depth, LANE, target, |n, j| {
        right[n / LANE * right_step][j][n % LANE]
    });
}

/// One square at a time, four lanes at once: eight registers of four values, or 16 of two.
#[allow(clippy::inline_always)]
#[inline(always)]
fn by_halves<const FUSED: bool>(
    left: &[Lane],
    stride: usize,
    depth: usize,
    live: usize,
    Target { squares, step, sign }: Target<'_>,
    right: impl Fn(usize, usize) -> f64,
) {
    let fused = |x: f64, y: f64, sum: f64| if FUSED { x.mul_add(y, sum) } else { x * y + sum };
    for (k, square) in squares.iter_mut().step_by(step).enumerate() {
        let left = &left[k * stride..][..depth];
        for first in (0..live).step_by(LANE / 2) {
            let mut sums = [[0.0; LANE]; LANE / 2];
            for (n, lane) in left.iter().enumerate() {
                for (j, sums) in sums.iter_mut().enumerate() {
                    let value = right(n, first + j);
                    for (sum, x) in sums.iter_mut().zip(lane) {
                        *sum = fused(*x, value, *sum);
                    }
                }
            }
            for (lane, sums) in square[first..].iter_mut().zip(sums) {
                for (out, sum) in lane.iter_mut().zip(sums) {
                    *out = fused(sum, sign, *out);
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

    fn fill(squares: &[Square]) -> Vec<Square> {
        vec![[[1.0; LANE]; LANE]; squares.len()]
    }

    /// Runs every implementation on squares of ones and compares with the plain sum.
    fn compare(
        count: usize,
        step: usize,
        live: usize,
        sum: impl Fn(usize, usize, usize) -> (f64, f64),
        runs: [&dyn Fn(Target<'_>); 3],
    ) {
        let start = vec![[[1.0; LANE]; LANE]; (count - 1) * step + 1];
        let results = runs.map(|run| {
            let mut squares = fill(&start);
            run(Target { squares: &mut squares, step, sign: -1.0 });
            squares
        });
        for k in 0..count {
            for j in 0..live {
                for i in 0..LANE {
                    let (sum, tolerance) = sum(k, i, j);
                    for squares in &results {
                        let got = squares[k * step][j][i];
                        assert!((got - (1.0 - sum)).abs() <= tolerance, "{got} {sum}");
                    }
                    #[cfg(target_arch = "x86_64")]
                    if is_x86_feature_detected!("fma") {
                        assert_eq!(results[0][k * step][j][i], results[1][k * step][j][i]);
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_agrees_with_the_sum() {
        for (depth, stride, count) in
            [(0, 3, 2), (1, 1, 1), (5, 9, 2), (256, 256, 9), (31, 32, 7), (8, 8, 17)]
        {
            for (live, step) in [(8, 1), (1, 2), (3, 1), (5, 3)] {
                let (a, b) = (lanes(count * stride, 1), lanes(depth, 2));
                let sum = |k: usize, i: usize, j: usize| {
                    let terms = (0..depth).map(|n| a[k * stride + n][i] * b[n][j]);
                    let bound: f64 = 1.0 + terms.clone().map(f64::abs).sum::<f64>();
                    (terms.sum::<f64>(), 2.0 * (depth + 2) as f64 * f64::EPSILON * bound)
                };
                let value = |n: usize, j: usize| b[n][j];
                compare(
                    count,
                    step,
                    live,
                    sum,
                    [
                        &|target| add_products(&a, stride, &b, live, target),
                        &|target| by_halves::<true>(&a, stride, depth, live, target, value),
                        &|target| by_halves::<false>(&a, stride, depth, live, target, value),
                    ],
                );
            }
        }
    }

    #[test]
    fn a_transposed_operand_agrees_with_the_sum() {
        for (depth, right_step, count) in [(8, 1, 1), (64, 3, 4), (256, 2, 11)] {
            let (a, squares) = (lanes(count * depth, 1), lanes(depth * right_step, 2));
            let b = squares.as_chunks::<LANE>().0;
            let b = &b[..=(depth / LANE - 1) * right_step];
            let sum = |k: usize, i: usize, j: usize| {
                let terms =
                    (0..depth).map(|n| a[k * depth + n][i] * b[n / LANE * right_step][j][n % LANE]);
                let bound: f64 = 1.0 + terms.clone().map(f64::abs).sum::<f64>();
                (terms.sum::<f64>(), 2.0 * (depth + 2) as f64 * f64::EPSILON * bound)
            };
            compare(
                count,
                2,
                LANE,
                sum,
                [
                    &|target| add_products_transposed(&a, depth, b, right_step, target),
                    &|target| transposed::<true>(&a, depth, b, right_step, target),
                    &|target| transposed::<false>(&a, depth, b, right_step, target),
                ],
            );
        }
    }
}
