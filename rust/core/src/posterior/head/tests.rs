//! Every answer of a layer's posterior against dense algebra over all `C D'` parameters.

use super::*;
use crate::threads::Workers;
use faer::Mat;
use faer::linalg::solvers::{DenseSolveCore, Solve};

struct Case {
    outputs: Outputs,
    classes: usize,
    dim: usize,
    prior: Vec<f64>,
}

fn value(i: usize, salt: usize) -> f64 {
    ((i * 7919 + salt * 104_729) % 2003) as f64 / 1000.0 - 1.0
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (outputs, classes, dim) in [
        (Outputs::Softmax, 2, 1),
        (Outputs::Softmax, 3, 5),
        (Outputs::Softmax, 4, 130),
        (Outputs::Softmax, 5, 61),
    ] {
        let by_feature: Vec<f64> = (0..dim).map(|i| 0.5 + (i % 3) as f64).collect();
        let all: Vec<f64> = (0..classes * dim).map(|k| 0.5 + (k % 7) as f64).collect();
        for prior in [vec![0.7; classes * dim], by_feature.repeat(classes), all] {
            cases.push(Case { outputs, classes, dim, prior });
        }
    }
    cases
}

/// Features and outputs of `n` points; outputs are logits or curvatures.
fn data(case: &Case, n: usize) -> (Vec<f64>, Vec<f64>) {
    let features = (0..n * case.dim).map(|i| value(i, 1)).collect();
    let outputs = (0..n * case.classes).map(|i| value(i, 2));
    match case.outputs {
        Outputs::Softmax => (features, outputs.map(|v| 2.0 * v).collect()),
        Outputs::Independent => (features, outputs.map(f64::abs).collect()),
    }
}

fn dense_precision(case: &Case, features: &[f64], outputs: &[f64]) -> Mat<f64> {
    let (c, d) = (case.classes, case.dim);
    let mut a = Mat::from_fn(c * d, c * d, |i, j| if i == j { case.prior[i] } else { 0.0 });
    for (x, f) in features.chunks_exact(d).zip(outputs.chunks_exact(c)) {
        let mut p = f.to_vec();
        if case.outputs == Outputs::Softmax {
            contrast::softmax(&mut p);
        }
        for r in 0..c * d {
            for s in 0..c * d {
                let (i, j) = (r / d, s / d);
                let lambda = match case.outputs {
                    Outputs::Softmax => p[i] * (f64::from(u8::from(i == j)) - p[j]),
                    Outputs::Independent => {
                        if i == j {
                            p[i]
                        } else {
                            0.0
                        }
                    }
                };
                a[(r, s)] += lambda * x[r % d] * x[s % d];
            }
        }
    }
    a
}

fn posterior(case: &Case, n: usize, driver: &mut Driver<'_>) -> (HeadPosterior, Mat<f64>) {
    let (features, outputs) = data(case, n);
    let mut sum = HeadSum::new(case.outputs, case.classes, case.dim).unwrap();
    sum.add(&features, &outputs, driver).unwrap();
    let posterior = HeadPosterior::new(&mut sum, &case.prior, driver).unwrap();
    (posterior, dense_precision(case, &features, &outputs))
}

fn variance(posterior: &HeadPosterior, driver: &mut Driver<'_>) -> Vec<f64> {
    let mut variance = vec![0.0; posterior.num_params()];
    posterior.variance(&mut variance, driver).unwrap();
    variance
}

#[test]
fn answers_agree_with_dense_algebra() {
    for case in cases() {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let n = 40;
        let (posterior, a) = posterior(&case, n, &mut driver);
        let p = posterior.num_params();
        let llt = a.llt(faer::Side::Lower).unwrap();
        let sigma = llt.inverse();
        let norm = (0..p).map(|i| (0..p).map(|j| a[(i, j)].abs()).sum::<f64>()).fold(0.0, f64::max);
        // Condition at most |A| / 0.5; every comparison below is backward stable up to it.
        let tolerance = 20.0 * p as f64 * f64::EPSILON * norm / 0.5;

        let log_det: f64 = 2.0 * (0..p).map(|i| llt.L()[(i, i)].ln()).sum::<f64>();
        assert!((posterior.log_det() - log_det).abs() < tolerance * p as f64);

        let variance = variance(&posterior, &mut driver);
        assert!((0..p).all(|i| (variance[i] - sigma[(i, i)]).abs() < tolerance));
        let by_feature = posterior.variance_by_feature(&mut driver).unwrap();
        for (i, sum) in by_feature.iter().enumerate() {
            let dense: f64 =
                (0..case.classes).map(|c| sigma[(c * case.dim + i, c * case.dim + i)]).sum();
            assert!((sum - dense).abs() < tolerance * case.classes as f64);
        }

        let order: Vec<usize> = (0..p).map(|i| (i * 3 + 1) % p).collect();
        let order = if p % 3 == 0 { (0..p).rev().collect() } else { order };
        let mut out = vec![0.0; p * p];
        posterior.covariance(&order, &mut out, &mut driver).unwrap();
        assert!((0..p).all(|i| {
            (0..p).all(|j| (out[order[i] * p + order[j]] - sigma[(i, j)]).abs() < tolerance)
        }));
        posterior.precision(&order, &mut out, &mut driver).unwrap();
        assert!(
            (0..p)
                .all(|i| (0..p)
                    .all(|j| (out[order[i] * p + order[j]] - a[(i, j)]).abs() < tolerance))
        );

        // Functional covariance by solves (a question about few points), then by blocks (many).
        let (features, _) = data(&case, 3);
        let (c, d) = (case.classes, case.dim);
        for question in [0, 100_000] {
            let mut v = vec![0.0; 3 * c * c];
            let mut diagonal = vec![0.0; 3 * c];
            posterior.functional_covariance(&features, question, &mut v, &mut driver).unwrap();
            posterior.functional_variance(&features, question, &mut diagonal, &mut driver).unwrap();
            assert_eq!(posterior.cached_bytes() > 0, question > 0 || d <= 3);
            for n in 0..3 {
                let x = &features[n * d..(n + 1) * d];
                for a in 0..c {
                    let rhs = Mat::from_fn(p, 1, |k, _| if k / d == a { x[k % d] } else { 0.0 });
                    let solved = llt.solve(&rhs);
                    for b in 0..c {
                        let dense: f64 = (0..d).map(|i| x[i] * solved[(b * d + i, 0)]).sum();
                        assert!((v[(n * c + a) * c + b] - dense).abs() < tolerance * d as f64);
                    }
                    assert!(
                        (diagonal[n * c + a] - v[(n * c + a) * c + a]).abs() < tolerance * d as f64
                    );
                }
            }
        }
    }
}

#[test]
fn draws_have_the_posterior_covariance() {
    for case in cases().into_iter().filter(|case| case.dim < 20) {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let (posterior, a) = posterior(&case, 20, &mut driver);
        let (p, draws) = (posterior.num_params(), 20_000);
        let mut out = vec![0.0; draws * p];
        posterior.sample(11, &mut out, &mut driver).unwrap();
        // Whitened, R^T x with A = R R^T is standard normal: each second moment within 5 deviations.
        let llt = a.llt(faer::Side::Lower).unwrap();
        let mut moments = Mat::<f64>::zeros(p, p);
        for draw in out.chunks_exact(p) {
            let white: Vec<f64> =
                (0..p).map(|i| (i..p).map(|k| llt.L()[(k, i)] * draw[k]).sum()).collect();
            for i in 0..p {
                for j in 0..p {
                    moments[(i, j)] += white[i] * white[j] / draws as f64;
                }
            }
        }
        for i in 0..p {
            for j in 0..p {
                let (expected, spread) = if i == j { (1.0, 2f64) } else { (0.0, 1.0) };
                assert!((moments[(i, j)] - expected).abs() < 5.0 * (spread / draws as f64).sqrt());
            }
        }
    }
}

#[test]
fn same_bits_for_any_thread_count() {
    let case = Case { outputs: Outputs::Softmax, classes: 4, dim: 200, prior: vec![0.1; 800] };
    let bits = |threads| {
        let workers = Workers::new(threads).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let (posterior, _) = posterior(&case, 60, &mut driver);
        let mut draws = vec![0.0; 5 * 800];
        posterior.sample(3, &mut draws, &mut driver).unwrap();
        let (features, _) = data(&case, 50);
        let mut v = vec![0.0; 50 * 16];
        posterior.functional_covariance(&features, 50, &mut v, &mut driver).unwrap();
        let variance = variance(&posterior, &mut driver);
        [draws, v, variance, vec![posterior.log_det()]]
            .concat()
            .into_iter()
            .map(f64::to_bits)
            .collect::<Vec<_>>()
    };
    let one = bits(1);
    assert_eq!(one, bits(2));
    assert_eq!(one, bits(3));
}

#[test]
fn rank_deficient_features_factor_without_jitter() {
    // Duplicated columns and dead features, |H| near 1e6, prior precision from 1e-6 to 1e6.
    let (classes, dim, n) = (3, 120, 400);
    let features: Vec<f64> = (0..n * dim)
        .map(|k| if k % dim >= 100 { 0.0 } else { 60.0 * value(k / dim * dim + (k % dim) / 2, 5) })
        .collect();
    let logits: Vec<f64> = (0..n * classes).map(|i| value(i, 2)).collect();
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let mut sum = HeadSum::new(Outputs::Softmax, classes, dim).unwrap();
    sum.add(&features, &logits, &mut driver).unwrap();
    for tau in [1e-6, 1e-3, 1.0, 1e3, 1e6] {
        let posterior =
            HeadPosterior::new(&mut sum, &vec![tau; classes * dim], &mut driver).unwrap();
        let variance = variance(&posterior, &mut driver);
        // A dead feature keeps exactly the prior's variance.
        assert!((variance[110] * tau - 1.0).abs() < 1e-9);
    }
}

/// Factors in place with an interrupt at every k-th look, until there is none; the bits of the factor's
/// draws and of `log|A|`.
fn in_place_bits<W, P>(
    start: impl Fn(&mut Driver<'_>) -> W,
    run: impl Fn(&mut W, &mut Driver<'_>) -> Result<(), CoreError>,
    finish: impl Fn(W) -> P,
    bits: impl Fn(&P, &mut Driver<'_>) -> Vec<u64>,
) {
    let workers = Workers::new(2).unwrap();
    let mut truth: Option<Vec<u64>> = None;
    for k in 0.. {
        let mut go = |_: f64| true;
        let mut work = start(&mut Driver::new(&workers, &mut go));
        let (mut calls, mut stopped) = (0, false);
        let mut monitor = |_: f64| {
            calls += 1;
            stopped |= calls == k;
            calls != k
        };
        let mut driver = Driver::new(&workers, &mut monitor).with_round(1.0);
        while let Err(error) = run(&mut work, &mut driver) {
            assert_eq!(error, CoreError::Interrupted);
        }
        let own = bits(&finish(work), &mut Driver::new(&workers, &mut go));
        assert_eq!(truth.get_or_insert_with(|| own.clone()), &own, "interrupt {k}");
        if k > 0 && !stopped {
            assert!(k > 8, "{k}");
            return;
        }
    }
}

#[test]
fn a_curvature_that_is_given_up_goes_on_after_an_interrupt() {
    let (classes, dim) = (4, 150);
    let by_class: Vec<f64> = (0..classes * dim).map(|k| 0.5 + (k % 7) as f64).collect();
    for prior in [vec![0.7; classes * dim], by_class] {
        let case = Case { outputs: Outputs::Softmax, classes, dim, prior };
        let sum = |driver: &mut Driver<'_>| {
            let (features, outputs) = data(&case, 40);
            let mut sum = HeadSum::new(case.outputs, classes, dim).unwrap();
            sum.add(&features, &outputs, driver).unwrap();
            sum
        };
        let bits = |posterior: &HeadPosterior, driver: &mut Driver<'_>| {
            let mut draws = vec![0.0; 2 * classes * dim];
            posterior.sample(3, &mut draws, driver).unwrap();
            draws.push(posterior.log_det());
            draws.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        in_place_bits(
            |driver| given_up(sum(driver), &case.prior),
            |work, driver| {
                let outcome = work.run(&case.prior, driver);
                if outcome.is_err() {
                    let other = vec![0.1; classes * dim];
                    assert_eq!(work.run(&other, driver), Err(CoreError::Incomplete));
                }
                outcome
            },
            |work| work.into_posterior().unwrap(),
            bits,
        );
        // The same bits as with the curvature kept.
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let mut kept = sum(&mut driver);
        let kept = HeadPosterior::new(&mut kept, &case.prior, &mut driver).unwrap();
        let mut given = given_up(sum(&mut driver), &case.prior);
        given.run(&case.prior, &mut driver).unwrap();
        let given = given.into_posterior().unwrap();
        assert_eq!(bits(&kept, &mut driver), bits(&given, &mut driver));
    }
}

#[test]
fn independent_outputs_that_are_given_up_go_on_after_an_interrupt() {
    use crate::posterior::block_diagonal::{BlockDiagonalPosterior, InPlace as Separate};
    let (classes, dim) = (3, 270);
    let prior: Vec<f64> = (0..classes * dim).map(|k| 0.5 + (k % 7) as f64).collect();
    let case = Case { outputs: Outputs::Independent, classes, dim, prior };
    let sum = |driver: &mut Driver<'_>| {
        let (features, outputs) = data(&case, 40);
        let mut sum = HeadSum::new(case.outputs, classes, dim).unwrap();
        sum.add(&features, &outputs, driver).unwrap();
        sum
    };
    in_place_bits(
        |driver| {
            let sum = sum(driver);
            let mut work = Separate::new(&sum, &case.prior).unwrap();
            work.take(sum);
            work
        },
        |work, driver| work.run(&case.prior, driver),
        |work| work.into_posterior().unwrap(),
        |posterior: &BlockDiagonalPosterior, driver| {
            let mut draws = vec![0.0; 2 * classes * dim];
            posterior.sample(3, &mut draws, driver).unwrap();
            draws.into_iter().map(f64::to_bits).collect()
        },
    );
}

#[test]
fn any_parameters_that_are_given_up_go_on_after_an_interrupt() {
    use crate::assemble::full::FullSum;
    use crate::posterior::full::{FullPosterior, InPlace as Whole};
    let (n, prior) = (300, vec![0.5; 300]);
    let rows: Vec<f64> = (0..20 * n).map(|i| value(i, 3)).collect();
    let sum = |driver: &mut Driver<'_>| {
        let mut sum = FullSum::new(n).unwrap();
        sum.add_rows(&rows, driver).unwrap();
        sum.finish(driver).unwrap();
        sum
    };
    in_place_bits(
        |driver| {
            let sum = sum(driver);
            let mut work = Whole::new(&sum, &prior).unwrap();
            work.take(sum).unwrap();
            work
        },
        |work, driver| work.run(&prior, driver),
        |work| work.into_posterior().unwrap(),
        |posterior: &FullPosterior, driver| {
            let mut draws = vec![0.0; 2 * n];
            posterior.factor().sample(3, 0, &mut draws, driver).unwrap();
            draws.into_iter().map(f64::to_bits).collect()
        },
    );
}

fn given_up(sum: HeadSum, prior: &[f64]) -> InPlace {
    let mut work = InPlace::new(&sum, prior).unwrap();
    work.take(sum);
    work
}
