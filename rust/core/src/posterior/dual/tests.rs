use super::*;
use crate::assemble::full::FullSum;
use crate::posterior::full::FullPosterior;
use crate::threads::Workers;

fn values(count: usize, salt: usize) -> Vec<f64> {
    (0..count).map(|k| ((k * 7919 + salt * 104_729 + k * k) % 2003) as f64 / 1000.0 - 1.0).collect()
}

/// Every answer, of a posterior with 40 rows over 300 parameters.
fn answers(
    prior: &[f64],
    rows: &[f64],
    driver: &mut Driver<'_>,
) -> Result<(DualPosterior, Vec<f64>), CoreError> {
    let n = prior.len();
    let mut sum = RowSum::new(n)?;
    sum.add_rows(rows, driver)?;
    let posterior = DualPosterior::new(&sum, prior, driver)?;
    let order: Vec<usize> = (0..n).map(|i| (i * 7) % n).collect();
    let mut all = vec![posterior.log_det(), posterior.quadratic(&values(n, 3), driver)?];
    let mut part = vec![0.0; n];
    posterior.variance(&mut part, driver)?;
    all.extend(&part);
    let mut matrix = vec![0.0; n * n];
    posterior.covariance(&order, &mut matrix, driver)?;
    all.extend(&matrix);
    posterior.precision(&order, &mut matrix, driver)?;
    all.extend(&matrix);
    let (mut v, jacobian) = (vec![0.0; 2 * 9], values(6 * n, 4));
    posterior.functional_covariance(&jacobian, 3, &mut v, driver)?;
    all.extend(&v);
    Ok((posterior, all))
}

#[test]
fn every_answer_is_that_of_the_full_matrix_for_any_number_of_threads() {
    let n = 300;
    let (rows, jacobian) = (values(40 * n, 1), values(6 * n, 4));
    let order: Vec<usize> = (0..n).map(|i| (i * 7) % n).collect();
    let priors: [Vec<f64>; 3] = [
        vec![0.7; n],
        (0..n).map(|i| if i < 100 { 0.5 } else { 3.0 }).collect(),
        (0..n).map(|i| 0.5 + (i % 17) as f64).collect(),
    ];
    for prior in priors {
        let mut bits = Vec::new();
        for threads in 1..=3 {
            let workers = Workers::new(threads).unwrap();
            let mut go = |_| true;
            let mut driver = Driver::new(&workers, &mut go);
            let (posterior, all) = answers(&prior, &rows, &mut driver).unwrap();
            if threads == 2 {
                let mut sum = FullSum::new(n).unwrap();
                sum.add_rows(&rows, &mut driver).unwrap();
                let full = FullPosterior::new(&mut sum, &prior, &mut driver).unwrap();
                let factor = full.factor();
                let mut known = vec![factor.log_det()];
                known.push(factor.quadratic(&values(n, 3), &mut driver).unwrap());
                known.extend(&*factor.inverse_diagonal(&mut driver).unwrap());
                let mut matrix = vec![0.0; n * n];
                full.covariance(&order, &mut matrix, &mut driver).unwrap();
                known.extend(&matrix);
                full.precision(&order, &mut matrix, &mut driver).unwrap();
                known.extend(&matrix);
                let (mut v, mut own) = (vec![0.0; 2 * 9], jacobian.clone());
                full.functional_covariance(&mut own, 3, &mut v, &mut driver).unwrap();
                known.extend(&v);
                for (k, (one, other)) in all.iter().zip(&known).enumerate() {
                    assert!(
                        (one - other).abs() < 1e-11 * other.abs().max(1.0),
                        "{k}: {one} {other}"
                    );
                }
                let mut v = vec![0.0; 6];
                posterior.functional_variance(&jacobian, &mut v, &mut driver).unwrap();
                assert!((0..6).all(|k| v[k] == known[known.len() - 18 + k / 3 * 9 + k % 3 * 4]
                    || (v[k] - known[known.len() - 18 + k / 3 * 9 + k % 3 * 4]).abs() < 1e-11));
            }
            bits.push(all.into_iter().map(f64::to_bits).collect::<Vec<_>>());
        }
        assert!(bits.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn traces_are_those_of_the_variances_and_draws_have_the_covariance() {
    let (n, count) = (60, 20_000);
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let prior: Vec<f64> = (0..n).map(|i| if i % 3 == 0 { 0.5 } else { 3.0 }).collect();
    let (posterior, _) = answers(&prior, &values(7 * n, 1), &mut driver).unwrap();
    let mut variance = vec![0.0; n];
    posterior.variance(&mut variance, &mut driver).unwrap();
    let groups: Vec<usize> = (0..n).map(|i| if i % 3 == 0 { 2 } else { i % 2 }).collect();
    let mut traces = vec![0.0; 3];
    assert!(posterior.prior_traces(&groups, &mut traces, &mut driver).unwrap());
    for (g, trace) in traces.iter().enumerate() {
        let own = (0..n).filter(|i| groups[*i] == g);
        let known: f64 = own.map(|i| prior[i] * variance[i]).sum();
        assert!((trace - known).abs() < 1e-12, "{trace} {known}");
    }
    assert!(!posterior.prior_traces(&vec![0; n], &mut [0.0], &mut driver).unwrap());

    // G of the root: S S^T is the covariance.
    let mut root = vec![0.0; posterior.num_rows() * n];
    posterior.root(&mut root, &mut driver).unwrap();
    let order: Vec<usize> = (0..n).collect();
    let mut covariance = vec![0.0; n * n];
    posterior.covariance(&order, &mut covariance, &mut driver).unwrap();
    let factor = |i: usize, j: usize| {
        let low: f64 = root.chunks_exact(n).map(|row| row[i] * row[j]).sum();
        (f64::from(u8::from(i == j)) - low) / prior[i].sqrt()
    };
    for i in 0..n {
        for j in 0..n {
            let product: f64 = (0..n).map(|k| factor(i, k) * factor(j, k)).sum();
            assert!((product - covariance[i * n + j]).abs() < 1e-12);
        }
    }

    let mut draws = vec![0.0; count * n];
    posterior.sample(5, &mut draws, &mut driver).unwrap();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = draws.chunks_exact(n).map(|draw| draw[i] * draw[j]).sum();
            let (a, b, c) = (variance[i], variance[j], covariance[i * n + j]);
            // Five and a half standard errors, of 1,830 numbers.
            let error = 5.5 * ((a * b + c * c) / count as f64).sqrt();
            assert!((sum / count as f64 - c).abs() < error, "{i} {j}");
        }
    }
}

#[test]
fn what_was_kept_does_not_change_the_bits_and_a_file_gives_them_back() {
    let n = 200;
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let prior: Vec<f64> = (0..n).map(|i| if i < 80 { 0.3 } else { 2.0 }).collect();
    let (first, all) = answers(&prior, &values(11 * n, 1), &mut driver).unwrap();
    let sum = first.curvature();
    for other in [vec![1.0; n], vec![2.5; n]] {
        DualPosterior::new(&sum, &other, &mut driver).unwrap();
    }
    let again = DualPosterior::new(&sum, &prior, &mut driver).unwrap();
    assert_eq!(again.log_det().to_bits(), all[0].to_bits());
    let (content, mut file) = (first.content().unwrap(), tempfile());
    let mut places = Vec::new();
    for (name, values) in &content.arrays {
        places.push((name.clone(), place(&mut file), values.len()));
        write(&mut file, values);
    }
    let source = Source::new(file, content.numbers.clone(), places).unwrap();
    let restored = DualPosterior::restored(&source).unwrap();
    let (mut one, mut other) = (vec![0.0; 3 * n], vec![0.0; 3 * n]);
    first.sample(1, &mut one, &mut driver).unwrap();
    restored.sample(1, &mut other, &mut driver).unwrap();
    assert_eq!(one, other);
}

fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("hoarfrost-dual-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

fn place(file: &mut std::fs::File) -> u64 {
    std::io::Seek::stream_position(file).unwrap()
}

fn write(file: &mut std::fs::File, values: &[f64]) {
    for value in values {
        std::io::Write::write_all(file, &value.to_le_bytes()).unwrap();
    }
}

#[test]
fn a_prior_that_rounding_swallows_is_an_error_that_names_one_that_does() {
    let n = 120;
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    // Two equal rows: one direction of the Gram matrix is the prior alone.
    let mut rows = values(9 * n, 1);
    rows.copy_within(..n, n);
    for rows in [&rows[..], &rows[n..]] {
        let mut seen = 0;
        for exponent in 0..24 {
            let tau = 10f64.powi(-exponent);
            match answers(&vec![tau; n], rows, &mut driver) {
                Ok((posterior, _)) => {
                    // A variance against its value by a sum of squares: |S^T e|^2.
                    let (mut variance, mut root) =
                        (vec![0.0; n], vec![0.0; posterior.num_rows() * n]);
                    posterior.variance(&mut variance, &mut driver).unwrap();
                    posterior.root(&mut root, &mut driver).unwrap();
                    let known: f64 = (0..n)
                        .map(|k| {
                            let low: f64 = root.chunks_exact(n).map(|r| r[5] * r[k]).sum();
                            (f64::from(u8::from(k == 5)) - low).powi(2) / tau
                        })
                        .sum();
                    assert!((variance[5] / known - 1.0).abs() < 1e-3, "{tau}");
                }
                Err(
                    CoreError::LostInRounding { least, .. }
                    | CoreError::NotPositiveDefinite { least, .. },
                ) => {
                    seen += 1;
                    assert!(least > tau && least < 1e-6, "{tau} {least}");
                    answers(&vec![least; n], rows, &mut driver).unwrap();
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(seen > 3);
    }
    let sum = RowSum::new(3).unwrap();
    assert!(DualPosterior::new(&sum, &[1.0; 3], &mut driver).is_err());
    assert!(DualPosterior::new(&sum, &[0.0; 3], &mut driver).is_err());
    assert!(DualPosterior::new(&sum, &[1.0; 2], &mut driver).is_err());
}
