//! The softmax contrast: an orthonormal `C x (C-1)` basis of what a softmax can see.
//!
//! A softmax does not change when one number is added to every logit, so its curvature
//! `Lambda = diag(p) - p p^T` has `Lambda 1 = 0`, and with the Helmert contrast `Q`
//! (`Q^T Q = I`, `Q^T 1 = 0`) the `C-1` square `Lambda' = Q^T Lambda Q` loses nothing.
//!
//! Column `k = 1 .. C-1` of `Q` is `h_k` on rows `0 .. k`, `-k h_k` on row `k`, zero below, with
//! `h_k = 1 / sqrt(k (k + 1))`. With prefix sums `S_k = p_0 + ... + p_{k-1}` and tail sums
//! `T_k = p_k + ... + p_{C-1}`,
//!
//! ```text
//! Lambda'_{lk} = h_l (S_l - l p_l) * h_k (T_k + k p_k)                            l < k
//! Lambda'_{kk} = h_k^2 (S_k T_k + k^2 p_k (1 - p_k) + 2 k S_k p_k)
//! ```
//!
//! a product for each pair and sums of positive numbers: nothing cancels where the network is sure.

use crate::error::CoreError;
use crate::storage::buffer::Buffer;

/// `h_k = 1 / sqrt(k (k + 1))`.
pub fn scale(k: usize) -> f64 {
    1.0 / ((k * (k + 1)) as f64).sqrt()
}

/// The contrast of one point: factors of `Lambda'` (module docs), index `k - 1` for column `k`.
pub struct Factors<'a> {
    /// `h_l (S_l - l p_l)`.
    pub low: &'a mut [f64],
    /// `h_k (T_k + k p_k)`.
    pub high: &'a mut [f64],
    /// `Lambda'_kk`.
    pub diagonal: &'a mut [f64],
}

/// Softmax of `logits` in place, safe for any finite values.
pub fn softmax(logits: &mut [f64]) {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for value in logits.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    for value in logits {
        *value /= sum;
    }
}

/// Fills the factors of `Lambda'` for the probabilities `p` of one point.
pub fn factors(p: &[f64], out: &mut Factors<'_>) {
    // Tail sums first, kept in `high`, so that 1 - S is never formed by subtraction.
    let mut tail = 0.0;
    for k in (1..p.len()).rev() {
        tail += p[k];
        out.high[k - 1] = tail;
    }
    let mut prefix = 0.0;
    for k in 1..p.len() {
        prefix += p[k - 1];
        let (pk, kf, h) = (p[k], k as f64, scale(k));
        let tail = out.high[k - 1];
        let beyond = if k + 1 < p.len() { out.high[k] } else { 0.0 };
        let others = prefix + beyond;
        out.low[k - 1] = h * (prefix - kf * pk);
        out.high[k - 1] = h * (tail + kf * pk);
        out.diagonal[k - 1] =
            h * h * (prefix * tail + kf * kf * pk * others + 2.0 * kf * prefix * pk);
    }
}

/// The contrast as a dense `C x (C-1)` matrix, row by row.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn matrix(classes: usize) -> Result<Buffer, CoreError> {
    let columns = classes - 1;
    let mut q = Buffer::zeros("the contrast", classes * columns)?;
    for k in 1..classes {
        for row in 0..k {
            q[row * columns + k - 1] = scale(k);
        }
        q[k * columns + k - 1] = -(k as f64) * scale(k);
    }
    Ok(q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contrast_is_orthonormal_and_blind_to_constants() {
        for classes in 2..12 {
            let (q, k) = (matrix(classes).unwrap(), classes - 1);
            for a in 0..k {
                let sum: f64 = (0..classes).map(|c| q[c * k + a]).sum();
                assert!(sum.abs() < 1e-14);
                for b in 0..k {
                    let dot: f64 = (0..classes).map(|c| q[c * k + a] * q[c * k + b]).sum();
                    assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-14);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn factors_give_the_rotated_curvature(logits in prop::collection::vec(-30.0..30.0f64, 2..9)) {
            let classes = logits.len();
            let k = classes - 1;
            let mut p = logits;
            softmax(&mut p);
            let (mut low, mut high, mut diagonal) = (vec![0.0; k], vec![0.0; k], vec![0.0; k]);
            factors(&p, &mut Factors { low: &mut low, high: &mut high, diagonal: &mut diagonal });
            let q = matrix(classes).unwrap();
            for a in 0..k {
                for b in 0..=a {
                    let mut dense = 0.0;
                    for c in 0..classes {
                        for d in 0..classes {
                            let delta = if c == d { p[c] } else { 0.0 };
                            dense += q[c * k + a] * q[d * k + b] * (delta - p[c] * p[d]);
                        }
                    }
                    let ours = if a == b { diagonal[a] } else { low[b] * high[a] };
                    // The dense sum of C^2 terms of size at most one is what rounds.
                    prop_assert!((ours - dense).abs() < 4.0 * 81.0 * f64::EPSILON, "{ours} {dense}");
                }
            }
        }
    }

    #[test]
    fn a_sure_point_keeps_its_relative_accuracy() {
        // p = (1 - 2e, e, e): Lambda'_11 = (p0 p1 4 + (p0 + p1) p2) / 2 = (4 e + e)/2 to first order.
        let e = 1e-30;
        let p = [1.0, e, e];
        let (mut low, mut high, mut diagonal) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        factors(&p, &mut Factors { low: &mut low, high: &mut high, diagonal: &mut diagonal });
        assert!((diagonal[0] / (2.5 * e) - 1.0).abs() < 1e-14);
        assert!((diagonal[1] / (1.5 * e) - 1.0).abs() < 1e-14);
    }
}
