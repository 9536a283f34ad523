//! Reproducible streams of standard normal numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// Fills `out` with the standard normal stream number `unit` of `seed`.
///
/// Streams belong to units of work (a sample), never to threads, so that any number of threads
/// draws the same numbers.
pub fn fill_standard_normal(seed: u64, unit: u64, out: &mut [f64]) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(unit);
    for value in out {
        *value = StandardNormal.sample(&mut rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |seed, unit| {
            let mut out = [0.0; 16];
            fill_standard_normal(seed, unit, &mut out);
            out
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn moments_are_those_of_a_standard_normal() {
        let n = 200_000;
        let mut out = vec![0.0; n];
        fill_standard_normal(0, 0, &mut out);
        let count = n as f64;
        let mean = out.iter().sum::<f64>() / count;
        let second = out.iter().map(|v| v * v).sum::<f64>() / count;
        let fourth = out.iter().map(|v| v.powi(4)).sum::<f64>() / count;
        // Five standard errors: sqrt(1/n), sqrt(2/n), sqrt(96/n).
        assert!(mean.abs() < 5.0 / count.sqrt());
        assert!((second - 1.0).abs() < 5.0 * (2.0 / count).sqrt());
        assert!((fourth - 3.0).abs() < 5.0 * (96.0 / count).sqrt());
    }
}
