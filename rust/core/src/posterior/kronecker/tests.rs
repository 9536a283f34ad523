//! Against outputs that do not interact, each with a factor of its own.

use super::*;
use crate::posterior::block_diagonal::BlockDiagonalPosterior;
use crate::threads::Workers;

/// Against outputs that do not interact, each with its own weight and factor.
#[test]
fn agrees_with_one_factor_an_output() {
    let (points, dim, noise) = (50, 20, [0.5, 2.0, 7.0]);
    let features: Vec<f64> =
        (0..points * dim).map(|i| ((i * 7919) % 2003) as f64 / 1000.0 - 1.0).collect();
    let prior: Vec<f64> = (0..dim).map(|i| 0.5 + (i % 4) as f64).collect();
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let mut gram = HeadSum::new(Outputs::Independent, 1, dim).unwrap();
    gram.add(&features, &vec![1.0; points], &mut driver).unwrap();
    let mut all = HeadSum::new(Outputs::Independent, 3, dim).unwrap();
    all.add(&features, &noise.repeat(points), &mut driver).unwrap();
    for scale in [1.0, 3.0] {
        let basis = KroneckerBasis::new(&mut gram, &prior, &mut driver).unwrap();
        let ours = KroneckerPosterior::new(Arc::new(basis), scale, &noise).unwrap();
        let scaled: Vec<f64> = prior.iter().map(|t| t * scale).collect();
        let truth = BlockDiagonalPosterior::new(&mut all, &scaled.repeat(3), &mut driver).unwrap();
        assert!((ours.log_det() - truth.log_det()).abs() < 1e-10);
        let close = |a: &[f64], b: &[f64], size: f64| {
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-11 * size)
        };
        let (mut variance, mut b) = (vec![0.0; 60], vec![0.0; 60]);
        ours.variance(&mut variance, &mut driver).unwrap();
        truth.variance(&mut b, &mut driver).unwrap();
        assert!(close(&variance, &b, 1.0));
        let (mut a, mut b) = (vec![0.0; 150], vec![0.0; 150]);
        ours.functional_variance(&features, &mut a, &mut driver).unwrap();
        truth.functional_variance(&features, points, &mut b, &mut driver).unwrap();
        assert!(close(&a, &b, 10.0));
        let order: Vec<usize> = (0..60).rev().collect();
        let (mut a, mut b) = (vec![0.0; 3600], vec![0.0; 3600]);
        ours.covariance(&order, &mut a, &mut driver).unwrap();
        truth.covariance(&order, &mut b, &mut driver).unwrap();
        assert!(close(&a, &b, 1.0));
        ours.precision(&order, &mut a, &mut driver).unwrap();
        truth.precision(&order, &mut b, &mut driver).unwrap();
        assert!(close(&a, &b, 1e3));

        // Standardised draws: each marginal second moment within five standard errors.
        let draws = 4_000;
        let mut z = vec![0.0; draws * 60];
        ours.sample(5, &mut z, &mut driver).unwrap();
        for k in 0..60 {
            let second: f64 = (0..draws).map(|s| z[s * 60 + k].powi(2)).sum::<f64>() / draws as f64;
            assert!((second / variance[k] - 1.0).abs() < 5.0 * (2.0 / draws as f64).sqrt());
        }
    }
    assert!(KroneckerBasis::new(&mut all, &prior, &mut driver).is_err());
}
