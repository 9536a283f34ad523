//! Dot products in eight sums: one strictly ordered sum is a chain of additions that no processor
//! can overlap.

use crate::kernel::LANE;

/// `sum_i x_i y_i`, over the shorter of the two.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    let len = x.len().min(y.len());
    let (x_lanes, x_rest) = x[..len].as_chunks::<LANE>();
    let (y_lanes, y_rest) = y[..len].as_chunks::<LANE>();
    let mut sums = [0.0; LANE];
    for (x, y) in x_lanes.iter().zip(y_lanes) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    total(&sums) + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// The sum of a lane, by halves.
pub fn total(sums: &[f64; LANE]) -> f64 {
    let pair = |i: usize| sums[i] + sums[i + 4];
    (pair(0) + pair(2)) + (pair(1) + pair(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_sum() {
        for n in 0..40 {
            let x: Vec<f64> = (0..n).map(f64::from).collect();
            let y: Vec<f64> = (0..n).map(|i| f64::from(i % 5) - 2.0).collect();
            // Whole numbers add up exactly in any order.
            let sum = x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>();
            assert_eq!(dot(&x, &y), sum);
            let longer = [&y[..], &[3.0; 13]].concat();
            assert_eq!((dot(&x, &longer), dot(&longer, &x)), (sum, sum));
        }
    }
}
