//! Sums, factorisations and posteriors through a file: the same bits, and errors for what is amiss.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::assemble::diagonal::DiagonalSum;
use crate::assemble::full::FullSum;
use crate::assemble::head::{HeadSum, Outputs};
use crate::error::CoreError;
use crate::posterior::block_diagonal::{self, BlockDiagonalPosterior};
use crate::posterior::diagonal::DiagonalPosterior;
use crate::posterior::full::{self, FullPosterior};
use crate::posterior::head::{self, HeadPosterior};
use crate::posterior::kronecker::{KroneckerBasis, KroneckerPosterior};
use crate::storage::stored::{Content, Source, Stored};
use crate::threads::{Driver, Workers};

type Places = Vec<(String, u64, usize)>;

/// A file of a content whose arrays begin at odd multiples of `align`.
fn written(content: &Content<'_>, align: usize) -> (File, Places) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("hoarfrost-{}-{number}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    let (mut arrays, mut end) = (Vec::new(), 0);
    for (name, values) in &content.arrays {
        let first = end / (2 * align) * (2 * align) + 3 * align;
        file.write_all(&vec![0; first - end]).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        arrays.push((name.clone(), first as u64, values.len()));
        end = first + bytes.len();
    }
    let file = File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    (file, arrays)
}

/// The same through a file: mapped where `align` suits a buffer, else read.
fn through_a_file<T: Stored>(value: &T, align: usize) -> Result<T, CoreError> {
    let content = value.content()?;
    let (file, arrays) = written(&content, align);
    T::restored(&Source::new(file, content.numbers, arrays)?)
}

/// The bits of everything that a thing is made of.
fn bits(value: &impl Stored) -> Vec<(String, Vec<u64>)> {
    let content = value.content().unwrap();
    let numbers = content.numbers.iter().map(|(name, x)| (name.clone(), vec![x.to_bits()]));
    let arrays = content.arrays.iter();
    numbers
        .chain(arrays.map(|(name, x)| (name.clone(), x.iter().map(|x| x.to_bits()).collect())))
        .collect()
}

fn values(count: usize, salt: usize) -> Vec<f32> {
    (0..count).map(|k| ((k * 7919 + salt * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

/// Goes through a file between batches, and ends with the bits of a sum that did not.
fn resumes<T: Stored>(
    new: impl Fn() -> T,
    add: impl Fn(&mut T, usize),
    bits: impl Fn(T) -> Vec<u64>,
) {
    for align in [64, 8] {
        let (mut whole, mut broken) = (new(), new());
        for batch in 0..5 {
            add(&mut whole, batch);
            add(&mut broken, batch);
            broken = through_a_file(&broken, align).unwrap();
        }
        assert_eq!(bits(whole), bits(broken));
    }
}

fn to_bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn sums_go_on_from_a_file() {
    let workers = Workers::new(2).unwrap();
    let drive = |work: &mut dyn FnMut(&mut Driver<'_>)| {
        let mut go = |_| true;
        work(&mut Driver::new(&workers, &mut go));
    };
    // Panels are full in the middle of a batch; the larger ones are mapped.
    for (dim, outputs) in [(7, 3), (300, 4)] {
        for kind in [Outputs::Softmax, Outputs::Independent] {
            resumes(
                || HeadSum::new(kind, outputs, dim).unwrap(),
                |sum, batch| {
                    let features = values(700 * dim, batch);
                    let logits: Vec<f32> =
                        values(700 * outputs, batch + 9).iter().map(|x| x.abs()).collect();
                    drive(&mut |driver| sum.add(&features, &logits, driver).unwrap());
                },
                |mut sum| {
                    let mut found = vec![sum.num_data() as u64];
                    drive(&mut |driver| {
                        found.extend(to_bits(sum.finish(driver).unwrap().values()));
                    });
                    found
                },
            );
        }
    }
    for n in [5, 600] {
        resumes(
            || FullSum::new(n).unwrap(),
            |sum, batch| {
                let rows = values(450 * n, batch);
                drive(&mut |driver| sum.add_rows(&rows, driver).unwrap());
            },
            |mut sum| {
                let mut found = Vec::new();
                drive(&mut |driver| {
                    let tiles = sum.finish(driver).unwrap();
                    found = (0..n * n).map(|k| tiles.get(k / n, k % n).to_bits()).collect();
                });
                found
            },
        );
    }
    resumes(
        || DiagonalSum::new(200_000).unwrap(),
        |sum, batch| {
            let rows = values(2 * 200_000, batch);
            drive(&mut |driver| sum.add_rows(&rows, driver).unwrap());
        },
        |sum| to_bits(sum.values().unwrap()),
    );
}

#[test]
fn a_broken_off_call_is_not_stored() {
    let workers = Workers::new(1).unwrap();
    let mut calls = 0;
    let mut stop = |_| {
        calls += 1;
        calls != 7
    };
    let mut driver = Driver::new(&workers, &mut stop).with_round(1.0);
    let mut sum = FullSum::new(40).unwrap();
    assert_eq!(sum.add_rows(&values(3_000 * 40, 0), &mut driver), Err(CoreError::Interrupted));
    assert_eq!(sum.content().unwrap_err(), CoreError::Incomplete);
}

#[test]
fn posteriors_come_back() {
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let (dim, outputs, rows) = (180, 3, 400);
    let (features, logits) = (values(rows * dim, 1), values(rows * outputs, 2));
    let mut softmax = HeadSum::new(Outputs::Softmax, outputs, dim).unwrap();
    softmax.add(&features, &logits, &mut driver).unwrap();
    let (same, each) = (vec![0.5; dim * outputs], {
        let mut prior = vec![0.5; dim * outputs];
        prior[7] = 2.0;
        prior
    });
    let draws = |sample: &mut dyn FnMut(&mut [f64])| {
        let mut out = vec![0.0; 3 * dim * outputs];
        sample(&mut out);
        to_bits(&out)
    };
    for align in [64, 8] {
        for prior in [&same, &each] {
            let posterior = HeadPosterior::new(&mut softmax, prior, &mut driver).unwrap();
            let again = through_a_file(&posterior, align).unwrap();
            assert_eq!(bits(&posterior), bits(&again));
            assert_eq!(posterior.log_det().to_bits(), again.log_det().to_bits());
            let [one, other] = [&posterior, &again]
                .map(|p| draws(&mut |out| p.sample(3, out, &mut driver).unwrap()));
            assert_eq!(one, other);
        }
        let weights = vec![0.25f32; rows * outputs];
        let mut independent = HeadSum::new(Outputs::Independent, outputs, dim).unwrap();
        independent.add(&features, &weights, &mut driver).unwrap();
        let posterior = BlockDiagonalPosterior::new(&mut independent, &same, &mut driver).unwrap();
        let again = through_a_file(&posterior, align).unwrap();
        let [one, other] =
            [&posterior, &again].map(|p| draws(&mut |out| p.sample(3, out, &mut driver).unwrap()));
        assert_eq!((one, bits(&posterior)), (other, bits(&again)));

        let mut gram = HeadSum::new(Outputs::Independent, 1, dim).unwrap();
        gram.add(&features, &vec![1.0f32; rows], &mut driver).unwrap();
        let basis = KroneckerBasis::new(&mut gram, &same[..dim], &mut driver).unwrap();
        let posterior =
            KroneckerPosterior::new(std::sync::Arc::new(basis), 1.5, &[1.0, 2.0, 4.0]).unwrap();
        let again = through_a_file(&posterior, align).unwrap();
        let [one, other] =
            [&posterior, &again].map(|p| draws(&mut |out| p.sample(3, out, &mut driver).unwrap()));
        assert_eq!((one, bits(&posterior)), (other, bits(&again)));

        let mut sum = FullSum::new(dim).unwrap();
        sum.add_rows(&features, &mut driver).unwrap();
        let posterior = FullPosterior::new(&mut sum, &same[..dim], &mut driver).unwrap();
        assert_eq!(bits(&posterior), bits(&through_a_file(&posterior, align).unwrap()));
        let posterior = DiagonalPosterior::new(&[1.0, 3.0], &[1.0, 2.0]).unwrap();
        assert_eq!(bits(&posterior), bits(&through_a_file(&posterior, align).unwrap()));
    }
}

/// Breaks a factorisation off at many moments, each time through a file; the bits of its factor.
fn factored<T: Stored, U: Stored>(
    new: impl Fn() -> T,
    run: impl Fn(&mut T, &mut Driver<'_>) -> Result<(), CoreError>,
    into: impl Fn(T) -> U,
) {
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut work = new();
    run(&mut work, &mut Driver::new(&workers, &mut go)).unwrap();
    let truth = bits(&into(work));
    let (mut work, mut through) = (new(), 0);
    // More each time: what comes before the first step and after the last begins anew.
    for most in (12..).step_by(2) {
        let mut calls = 0;
        let mut few = |_| {
            calls += 1;
            calls < most
        };
        match run(&mut work, &mut Driver::new(&workers, &mut few).with_round(1.0)) {
            Ok(()) => break,
            Err(error) => assert_eq!(error, CoreError::Interrupted),
        }
        match through_a_file(&work, if through % 2 == 0 { 64 } else { 8 }) {
            Ok(again) => (work, through) = (again, through + 1),
            // Before it begins, and while it is verified, there is nothing worth a file.
            Err(error) => assert_eq!(error, CoreError::Incomplete),
        }
    }
    assert!(through > 2, "{through}");
    assert_eq!(bits(&into(work)), truth);
}

#[test]
fn factorisations_go_on_from_a_file() {
    let workers = Workers::new(2).unwrap();
    let drive = |work: &mut dyn FnMut(&mut Driver<'_>)| {
        let mut go = |_| true;
        work(&mut Driver::new(&workers, &mut go));
    };
    let n = 800;
    let prior = vec![0.5; n];
    factored(
        || {
            let mut sum = FullSum::new(n).unwrap();
            drive(&mut |driver| {
                sum.add_rows(&values(300 * n, 4), driver).unwrap();
                sum.finish(driver).unwrap();
            });
            let mut work = full::InPlace::new(&sum, &prior).unwrap();
            work.take(sum).unwrap();
            work
        },
        |work, driver| work.run(&prior, driver),
        |work| work.into_posterior().unwrap(),
    );
    let (outputs, dim) = (4, 260);
    let head = |kind| {
        let mut sum = HeadSum::new(kind, outputs, dim).unwrap();
        let weights: Vec<f32> = values(300 * outputs, 6).iter().map(|x| x.abs()).collect();
        drive(&mut |driver| sum.add(&values(300 * dim, 5), &weights, driver).unwrap());
        sum
    };
    let prior = vec![0.5; outputs * dim];
    factored(
        || {
            let sum = head(Outputs::Softmax);
            let mut work = head::InPlace::new(&sum, &prior).unwrap();
            work.take(sum);
            work
        },
        |work, driver| work.run(&prior, driver),
        |work| work.into_posterior().unwrap(),
    );
}

#[test]
fn factors_of_outputs_go_on_from_a_file() {
    let (outputs, dim) = (4, 20);
    let prior = vec![0.5; outputs * dim];
    let workers = Workers::new(1).unwrap();
    let new = || {
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let mut sum = HeadSum::new(Outputs::Independent, outputs, dim).unwrap();
        sum.add(&values(50 * dim, 5), &vec![0.25f32; 50 * outputs], &mut driver).unwrap();
        let mut work = block_diagonal::InPlace::new(&sum, &prior).unwrap();
        work.take(sum);
        work
    };
    let mut go = |_| true;
    let mut whole = new();
    whole.run(&prior, &mut Driver::new(&workers, &mut go)).unwrap();
    let truth = bits(&whole.into_posterior().unwrap());
    let mut through = 0;
    for stop in 1.. {
        let (mut work, mut calls) = (new(), 0);
        let mut few = |_| {
            calls += 1;
            calls < stop
        };
        let mut driver = Driver::new(&workers, &mut few).with_round(1.0);
        if work.run(&prior, &mut driver).is_ok() {
            break;
        }
        if let Ok(again) = through_a_file(&work, 8) {
            through += 1;
            work = again;
        }
        let mut go = |_| true;
        work.run(&prior, &mut Driver::new(&workers, &mut go)).unwrap();
        assert_eq!(bits(&work.into_posterior().unwrap()), truth);
    }
    assert!(through > 0);
}

#[test]
fn what_a_file_does_not_hold_is_an_error() {
    let three = [1.0, 2.0, 3.0];
    let mut content = Content::default();
    content.size("", "n", 3);
    content.number("", "half", 0.5);
    content.array("1.", "values", &three);
    let (file, arrays) = written(&content, 8);
    let beyond = vec![("values".to_owned(), arrays[0].1 + 8, 3)];
    assert!(Source::new(file.try_clone().unwrap(), Vec::new(), beyond).is_err());
    let source = Source::new(file, content.numbers, arrays).unwrap();
    assert_eq!(&*source.array("values", "1.", "values", 3).unwrap(), &three);
    assert_eq!(source.size("", "n"), Ok(3));
    for error in [
        source.size("", "half").unwrap_err(),
        source.number("1.", "n").unwrap_err(),
        source.array("values", "1.", "values", 2).unwrap_err(),
        source.array("values", "", "values", 3).unwrap_err(),
    ] {
        assert!(matches!(error, CoreError::Stored { .. }));
    }
    assert!(source.holds("1.", "values") && !source.holds("", "values"));
}

#[test]
fn no_numbers_of_another_thing_are_taken() {
    let sum = DiagonalSum::new(4).unwrap();
    let content = sum.content().unwrap();
    let changed = [("edge", 5.0), ("edge", 0.0), ("edge", f64::NAN), ("edge", 2f64.powi(60))];
    for (name, value) in changed {
        let (file, arrays) = written(&content, 8);
        let numbers = vec![(name.to_owned(), value)];
        let source = Source::new(file, numbers, arrays).unwrap();
        assert!(matches!(DiagonalSum::restored(&source), Err(CoreError::Stored { .. })));
        assert!(HeadSum::restored(&source).is_err() && FullSum::restored(&source).is_err());
        assert!(HeadPosterior::restored(&source).is_err());
        assert!(BlockDiagonalPosterior::restored(&source).is_err());
        assert!(KroneckerPosterior::restored(&source).is_err());
    }
}
