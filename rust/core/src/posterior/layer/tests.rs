//! Against the dense precision of a few parameters.

use super::*;
use crate::threads::Workers;

const POINTS: usize = 40;
const O: usize = 3;
const D: usize = 4;
const P: usize = O * D;

fn number(i: usize) -> f64 {
    ((i * 7919) % 2003) as f64 / 1000.0 - 1.0
}

/// Inputs, probabilities, and the priors of inputs and outputs.
fn problem() -> (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>) {
    let inputs = (0..POINTS * D).map(number).collect();
    let mut probabilities: Vec<f64> =
        (0..POINTS * O).map(|i| (3.0 * number(i + 77)).exp()).collect();
    for row in probabilities.chunks_exact_mut(O) {
        let total: f64 = row.iter().sum();
        for p in row.iter_mut() {
            *p /= total;
        }
    }
    (inputs, probabilities, vec![0.5, 1.0, 2.0, 1.5], vec![1.0, 3.0, 0.7])
}

fn sum_of(rows: &[f64], dim: usize, driver: &mut Driver<'_>) -> HeadSum {
    let mut sum = HeadSum::new(Outputs::Independent, 1, dim).unwrap();
    sum.add(rows, &vec![1.0; rows.len() / dim], driver).unwrap();
    sum
}

/// `weight B (x) A + scale S (x) R`, and the posterior of it.
fn both(weight: f64, scale: f64, driver: &mut Driver<'_>) -> (Vec<f64>, LayerPosterior) {
    let (inputs, p, r, s) = problem();
    let mut gram = sum_of(&inputs, D, driver);
    let mut products = sum_of(&p, O, driver);
    let outputs = OutputFactor::Softmax(&mut products);
    let basis = LayerBasis::new(&mut gram, outputs, &r, &s, driver).unwrap();
    let posterior = LayerPosterior::new(Arc::new(basis), weight, scale).unwrap();
    let a = |i: usize, k: usize| inputs.chunks_exact(D).map(|x| x[i] * x[k]).sum::<f64>();
    let b = |c: usize, d: usize| {
        let own = |p: &[f64]| if c == d { p[c] } else { 0.0 };
        p.chunks_exact(O).map(|p| own(p) - p[c] * p[d]).sum::<f64>()
    };
    let mut dense = vec![0.0; P * P];
    for (k, value) in dense.iter_mut().enumerate() {
        let ((c, i), (d, j)) = ((k / P / D, k / P % D), (k % P / D, k % P % D));
        *value = weight * b(c, d) * a(i, j);
        if k / P == k % P {
            *value += scale * s[c] * r[i];
        }
    }
    (dense, posterior)
}

fn close(found: &[f64], truth: &[f64], size: f64) -> bool {
    found.len() == truth.len() && found.iter().zip(truth).all(|(a, b)| (a - b).abs() < 1e-11 * size)
}

/// `x^T M y`.
fn form(matrix: &[f64], x: &[f64], y: &[f64]) -> f64 {
    let rows = matrix.chunks_exact(P).zip(x);
    rows.map(|(row, x)| x * row.iter().zip(y).map(|(m, y)| m * y).sum::<f64>()).sum()
}

#[test]
fn agrees_with_the_dense_precision() {
    for threads in [1, 2] {
        let workers = Workers::new(threads).unwrap();
        let mut go = |_| true;
        let driver = &mut Driver::new(&workers, &mut go);
        let (weight, scale) = (0.3, 0.8);
        let (dense, posterior) = both(weight, scale, driver);
        let order: Vec<usize> = (0..P).collect();
        let (mut precision, mut sigma) = (vec![0.0; P * P], vec![0.0; P * P]);
        posterior.precision(&order, &mut precision, driver).unwrap();
        assert!(close(&precision, &dense, 100.0));
        posterior.covariance(&order, &mut sigma, driver).unwrap();
        let identity: Vec<f64> = (0..P * P)
            .map(|k| (0..P).map(|n| sigma[k / P * P + n] * dense[n * P + k % P]).sum())
            .collect();
        let eye: Vec<f64> = (0..P * P).map(|k| f64::from(u8::from(k / P == k % P))).collect();
        assert!(close(&identity, &eye, 10.0));
        let mut variance = vec![0.0; P];
        posterior.variance(&mut variance, driver).unwrap();
        let diagonal: Vec<f64> = (0..P).map(|k| sigma[k * (P + 1)]).collect();
        assert!(close(&variance, &diagonal, 1.0));
        let (_, _, r, s) = problem();
        let traces = (0..P).map(|k| scale * s[k / D] * r[k % D] * sigma[k * (P + 1)]);
        assert!((posterior.prior_trace() - traces.sum::<f64>()).abs() < 1e-11);
        let v: Vec<f64> = (0..P).map(number).collect();
        assert!((posterior.quadratic(&v, driver).unwrap() - form(&dense, &v, &v)).abs() < 1e-10);
        let backwards: Vec<usize> = (0..P).rev().collect();
        let mut turned = vec![0.0; P * P];
        posterior.covariance(&backwards, &mut turned, driver).unwrap();
        turned.reverse();
        assert!(close(&turned, &sigma, 1.0));
        // Whitened rows have the products of the covariance.
        let mut white = vec![0.0; P];
        posterior.whitened(&v, &mut white, driver).unwrap();
        let square: f64 = white.iter().map(|x| x * x).sum();
        assert!((square - form(&sigma, &v, &v)).abs() < 1e-11);
        // The log-determinant, by elimination.
        let (mut left, mut log_det) = (dense.clone(), 0.0);
        for k in 0..P {
            log_det += left[k * (P + 1)].ln();
            for i in k + 1..P {
                let ratio = left[i * P + k] / left[k * (P + 1)];
                (k..P).for_each(|j| left[i * P + j] -= ratio * left[k * P + j]);
            }
        }
        assert!((posterior.log_det() - log_det).abs() < 1e-11);
    }
}

#[test]
fn outputs_at_points_are_those_of_the_dense_covariance() {
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let driver = &mut Driver::new(&workers, &mut go);
    let (_, posterior) = both(0.3, 0.8, driver);
    let order: Vec<usize> = (0..P).collect();
    let mut sigma = vec![0.0; P * P];
    posterior.covariance(&order, &mut sigma, driver).unwrap();
    let points = 2 * ROWS + 3;
    let inputs: Vec<f64> = (0..points * D).map(|i| number(i + 5)).collect();
    let jacobian: Vec<f64> = (0..points * 2 * O).map(|i| number(i + 9)).collect();
    let (mut each, mut through) = (vec![0.0; points * O * O], vec![0.0; points * 4]);
    posterior.covariance_at(&inputs, &mut each, driver).unwrap();
    posterior.covariance_through(&inputs, &jacobian, 2, &mut through, driver).unwrap();
    let mut variance = vec![0.0; points * O];
    posterior.variance_at(&inputs, &mut variance, driver).unwrap();
    for (n, a) in inputs.chunks_exact(D).enumerate() {
        let row =
            |g: &dyn Fn(usize) -> f64| (0..P).map(|k| g(k / D) * a[k % D]).collect::<Vec<_>>();
        let own: Vec<_> = (0..O).map(|c| row(&|o| f64::from(u8::from(c == o)))).collect();
        let outer: Vec<_> = (0..2).map(|c| row(&|o| jacobian[(n * 2 + c) * O + o])).collect();
        for (k, value) in each[n * O * O..][..O * O].iter().enumerate() {
            assert!((value - form(&sigma, &own[k / O], &own[k % O])).abs() < 1e-11);
        }
        for (k, value) in through[n * 4..][..4].iter().enumerate() {
            assert!((value - form(&sigma, &outer[k / 2], &outer[k % 2])).abs() < 1e-11);
        }
        assert!(
            (0..O).all(|c| (variance[n * O + c] - each[n * O * O + c * (O + 1)]).abs() < 1e-12)
        );
    }
    assert!(posterior.variance_at(&inputs[1..], &mut variance, driver).is_err());
    assert!(posterior.covariance_through(&inputs, &jacobian, 0, &mut through, driver).is_err());
}

#[test]
fn draws_have_the_covariance() {
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let driver = &mut Driver::new(&workers, &mut go);
    let (dense, posterior) = both(0.3, 0.8, driver);
    let draws = 8_000;
    let mut z = vec![0.0; draws * P];
    posterior.sample(5, &mut z, driver).unwrap();
    // The mean of `z z^T A` is the identity; v^T A z has the variance v^T A v.
    for k in 0..P {
        let v: Vec<f64> = (0..P).map(|i| number(i + 31 * k)).collect();
        let variance = form(&dense, &v, &v);
        let found: f64 =
            z.chunks_exact(P).map(|z| form(&dense, &v, z).powi(2)).sum::<f64>() / draws as f64;
        assert!((found / variance - 1.0).abs() < 5.0 * (2.0 / draws as f64).sqrt());
    }
}

#[test]
fn other_factors_of_outputs_and_a_prior_lost_in_rounding() {
    let workers = Workers::new(1).unwrap();
    let mut go = |_| true;
    let driver = &mut Driver::new(&workers, &mut go);
    let (inputs, p, r, s) = problem();
    let mut gram = sum_of(&inputs, D, driver);
    let mut diagonal = DiagonalSum::new(O).unwrap();
    diagonal.add_head(&vec![1.0; POINTS], &p, O, driver).unwrap();
    // The rows of a diagonal root have the same sum.
    let rows: Vec<f64> = (0..POINTS * O * O)
        .map(|k| if k / O % O == k % O { p[k / (O * O) * O + k % O].sqrt() } else { 0.0 })
        .collect();
    let mut products = sum_of(&rows, O, driver);
    let outputs = OutputFactor::Diagonal(&diagonal);
    let ours = LayerBasis::new(&mut gram, outputs, &r, &s, driver).unwrap();
    let outputs = OutputFactor::Gram(&mut products);
    let same = LayerBasis::new(&mut gram, outputs, &r, &s, driver).unwrap();
    let log_det = |basis| LayerPosterior::new(Arc::new(basis), 0.5, 2.0).unwrap().log_det();
    let (basis, same) = (Arc::new(ours), log_det(same));
    let ours = LayerPosterior::new(Arc::clone(&basis), 0.5, 2.0).unwrap().log_det();
    assert!((ours - same).abs() < 1e-11);

    // One point leaves directions without curvature, which a tiny prior does not carry.
    let mut one = sum_of(&inputs[..D], D, driver);
    let outputs = OutputFactor::Diagonal(&diagonal);
    let basis = Arc::new(LayerBasis::new(&mut one, outputs, &r, &s, driver).unwrap());
    assert!(LayerPosterior::new(Arc::clone(&basis), 1.0, 1e-9).is_ok());
    let error = LayerPosterior::new(Arc::clone(&basis), 1.0, 1e-19).unwrap_err();
    let CoreError::LostInRounding { least, .. } = error else { panic!("{error}") };
    let scale = least / (0.5 * 0.7);
    assert!(scale > 1e-19 && LayerPosterior::new(basis, 1.0, scale).is_ok());
    let outputs = OutputFactor::Diagonal(&diagonal);
    assert!(LayerBasis::new(&mut one, outputs, &r[1..], &s, driver).is_err());
    let outputs = OutputFactor::Diagonal(&diagonal);
    assert!(LayerBasis::new(&mut one, outputs, &r, &s[1..], driver).is_err());
    let outputs = OutputFactor::Gram(&mut products);
    assert!(LayerBasis::new(&mut one, outputs, &r, &[0.0, 1.0, 1.0], driver).is_err());
}
