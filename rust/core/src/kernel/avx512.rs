//! The kernel in AVX-512: up to three squares at a time in 24 registers.

use std::arch::x86_64::{
    __m512d, _mm512_fmadd_pd, _mm512_loadu_pd, _mm512_set1_pd, _mm512_setzero_pd, _mm512_storeu_pd,
};

use super::{LANE, Lane, Square, Target};

/// `super::add_products` on a processor that has AVX-512.
#[target_feature(enable = "avx512f")]
pub fn add_products(left: &[Lane], stride: usize, right: &[Lane], live: usize, target: Target<'_>) {
    // With few lanes of the right operand more squares are needed to keep the units busy.
    match live {
        1 => by_groups::<8, 1>(left, stride, right, target),
        2..=4 => by_groups::<6, 4>(left, stride, right, target),
        _ => by_groups::<3, LANE>(left, stride, right, target),
    }
}

#[target_feature(enable = "avx512f")]
fn by_groups<const P: usize, const J: usize>(
    left: &[Lane],
    stride: usize,
    right: &[Lane],
    target: Target<'_>,
) {
    let (count, Target { squares, step, sign }) = (target.len(), target);
    let panel = |k: usize| &left[k * stride..][..right.len()];
    let grouped = count - count % P;
    for k in (0..grouped).step_by(P) {
        let panels: [_; P] = std::array::from_fn(|t| panel(k + t));
        add::<P, J>(panels, right, sign, &mut squares[k * step..], step);
    }
    for k in grouped..count {
        add::<1, J>([panel(k)], right, sign, &mut squares[k * step..], step);
    }
}

#[target_feature(enable = "avx512f")]
fn add<const P: usize, const J: usize>(
    left: [&[Lane]; P],
    right: &[Lane],
    sign: f64,
    squares: &mut [Square],
    step: usize,
) {
    let mut sums = [[_mm512_setzero_pd(); P]; J];
    for (n, right) in right.iter().enumerate() {
        let lanes = left.map(|left| load(&left[n]));
        for (sums, value) in sums.iter_mut().zip(right) {
            let value = _mm512_set1_pd(*value);
            for (sum, lane) in sums.iter_mut().zip(lanes) {
                *sum = _mm512_fmadd_pd(lane, value, *sum);
            }
        }
    }
    put(&sums, sign, squares, step);
}

/// `super::add_products_transposed` on a processor that has AVX-512.
#[target_feature(enable = "avx512f")]
pub fn add_products_transposed(
    left: &[Lane],
    stride: usize,
    right: &[Square],
    right_step: usize,
    target: Target<'_>,
) {
    const P: usize = 3;
    let depth = right.len().div_ceil(right_step) * LANE;
    let (count, Target { squares, step, sign }) = (target.len(), target);
    let panel = |k: usize| &left[k * stride..][..depth];
    let grouped = count - count % P;
    for k in (0..grouped).step_by(P) {
        let panels: [_; P] = std::array::from_fn(|t| panel(k + t));
        add_transposed::<P>(panels, right, right_step, sign, &mut squares[k * step..], step);
    }
    for k in grouped..count {
        let squares = &mut squares[k * step..];
        add_transposed::<1>([panel(k)], right, right_step, sign, squares, step);
    }
}

#[target_feature(enable = "avx512f")]
fn add_transposed<const P: usize>(
    left: [&[Lane]; P],
    right: &[Square],
    right_step: usize,
    sign: f64,
    squares: &mut [Square],
    step: usize,
) {
    let mut sums = [[_mm512_setzero_pd(); P]; LANE];
    for (q, right) in right.iter().step_by(right_step).enumerate() {
        let left = left.map(|left| &left[q * LANE..][..LANE]);
        for n in 0..LANE {
            let lanes = left.map(|left| load(&left[n]));
            for (sums, lane) in sums.iter_mut().zip(right) {
                let value = _mm512_set1_pd(lane[n]);
                for (sum, lane) in sums.iter_mut().zip(lanes) {
                    *sum = _mm512_fmadd_pd(lane, value, *sum);
                }
            }
        }
    }
    put(&sums, sign, squares, step);
}

#[target_feature(enable = "avx512f")]
fn put<const P: usize, const J: usize>(
    sums: &[[__m512d; P]; J],
    sign: f64,
    squares: &mut [Square],
    step: usize,
) {
    let sign = _mm512_set1_pd(sign);
    for t in 0..P {
        for (lane, sums) in squares[t * step].iter_mut().zip(sums) {
            let value = _mm512_fmadd_pd(sums[t], sign, load(lane));
            store(lane, value);
        }
    }
}

#[target_feature(enable = "avx512f")]
fn load(lane: &Lane) -> __m512d {
    // SAFETY: a lane is eight values, and this load needs no alignment.
    unsafe { _mm512_loadu_pd(lane.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn store(lane: &mut Lane, values: __m512d) {
    // SAFETY: as in `load`.
    unsafe { _mm512_storeu_pd(lane.as_mut_ptr(), values) }
}
