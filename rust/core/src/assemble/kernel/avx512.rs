//! The kernel in AVX-512: three squares at a time in 24 registers.

use std::arch::x86_64::{
    __m512d, _mm512_add_pd, _mm512_fmadd_pd, _mm512_loadu_pd, _mm512_set1_pd, _mm512_setzero_pd,
    _mm512_storeu_pd,
};

use super::{LANE, Lane, Square};

/// `super::add_products` on a processor that has AVX-512.
#[target_feature(enable = "avx512f")]
pub fn add_products(a: &[Lane], stride: usize, b: &[Lane], out: &mut [Square]) {
    let panel = |k: usize| &a[k * stride..][..b.len()];
    let (triples, rest) = out.as_chunks_mut::<3>();
    let done = 3 * triples.len();
    for (t, out) in triples.iter_mut().enumerate() {
        add([panel(3 * t), panel(3 * t + 1), panel(3 * t + 2)], b, out);
    }
    for (r, out) in rest.iter_mut().enumerate() {
        add([panel(done + r)], b, std::array::from_mut(out));
    }
}

#[target_feature(enable = "avx512f")]
fn add<const P: usize>(a: [&[Lane]; P], b: &[Lane], out: &mut [Square; P]) {
    let mut sums = [[_mm512_setzero_pd(); P]; LANE];
    for (n, b) in b.iter().enumerate() {
        let lanes = a.map(|a| load(&a[n]));
        for (sums, value) in sums.iter_mut().zip(b) {
            let value = _mm512_set1_pd(*value);
            for (sum, lane) in sums.iter_mut().zip(lanes) {
                *sum = _mm512_fmadd_pd(lane, value, *sum);
            }
        }
    }
    for (j, sums) in sums.into_iter().enumerate() {
        for (out, sum) in out.iter_mut().zip(sums) {
            let sum = _mm512_add_pd(load(&out[j]), sum);
            store(&mut out[j], sum);
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
