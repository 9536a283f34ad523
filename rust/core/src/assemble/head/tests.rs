//! Sums of a head against plain loops, in any batches, merged, and interrupted everywhere.

use super::*;
use crate::storage::blocks::column_start;
use crate::threads::Workers;
use proptest::prelude::*;

fn values(n: usize, salt: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f64 / 1000.0 - 1.0).collect()
}

fn blocks(
    outputs: Outputs,
    c: usize,
    d: usize,
    x: &[f64],
    f: &[f64],
    threads: usize,
    batch: usize,
) -> Vec<f64> {
    let workers = Workers::new(threads).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let mut sum = HeadSum::new(outputs, c, d).unwrap();
    for (x, f) in x.chunks(batch * d).zip(f.chunks(batch * c)) {
        sum.add(x, f, &mut driver).unwrap();
    }
    let blocks = sum.finish(&mut driver).unwrap();
    blocks
        .pattern()
        .pairs(blocks.outputs())
        .flat_map(|(a, b)| blocks.block(a, b).to_vec())
        .collect()
}

#[test]
fn same_bits_for_any_thread_count_and_batch() {
    let (n, c, d) = (2_500, 4, 150);
    let (x, f) = (values(n * d, 1), values(n * c, 2));
    let one = blocks(Outputs::Softmax, c, d, &x, &f, 1, n);
    for (threads, batch) in [(2, n), (3, n), (2, 7), (1, 1000)] {
        assert_eq!(one, blocks(Outputs::Softmax, c, d, &x, &f, threads, batch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn independent_outputs_give_weighted_grams(
        n in prop::sample::select(vec![1usize, 5, 511, 513, 2049]),
        d in prop::sample::select(vec![1usize, 3, 65, 127, 128, 129, 131, 260, 401]),
        c in 1usize..3,
    ) {
        let (x, f) = (values(n * d, 3), values(n * c, 4).iter().map(|v| v.abs()).collect::<Vec<_>>());
        let ours = blocks(Outputs::Independent, c, d, &x, &f, 2, n);
        let len = d * (d + 1) / 2;
        for (k, i, j) in [(0, 0, 0), (c - 1, d - 1, d / 2), (0, d / 2, d / 3), (c - 1, d - 1, d - 1)] {
            let (i, j) = (i.max(j), i.min(j));
            let dense: f64 = (0..n).map(|r| f[r * c + k] * x[r * d + i] * x[r * d + j]).sum();
            let bound: f64 = (0..n).map(|r| (f[r * c + k] * x[r * d + i] * x[r * d + j]).abs()).sum();
            let got = ours[k * len + column_start(d, j) + i - j];
            let tolerance = 2.0 * (n + 2) as f64 * f64::EPSILON * bound;
            prop_assert!((got - dense).abs() <= tolerance, "{got} {dense}");
        }
    }
}

#[test]
fn a_finished_sum_gives_its_panel_back_and_takes_more_data() {
    let workers = Workers::new(1).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let mut sum = HeadSum::new(Outputs::Independent, 1, 2).unwrap();
    let empty = sum.nbytes();
    sum.add(&[1.0, 2.0], &[1.0], &mut driver).unwrap();
    assert!(sum.nbytes() > empty);
    assert_eq!(sum.finish(&mut driver).unwrap().block(0, 0), [1.0, 2.0, 4.0]);
    assert_eq!(sum.nbytes(), empty);
    sum.add(&[1.0, 0.0], &[3.0], &mut driver).unwrap();
    assert_eq!(sum.finish(&mut driver).unwrap().block(0, 0), [4.0, 2.0, 4.0]);
}

#[test]
fn bad_input_adds_nothing() {
    let workers = Workers::new(1).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let mut sum = HeadSum::new(Outputs::Independent, 2, 3).unwrap();
    let error = sum.add(&[1.0, 2.0, f64::NAN], &[1.0, 1.0], &mut driver).unwrap_err();
    assert!(matches!(error, CoreError::NonFinite { what: "features", row: 0, column: 2, .. }));
    let error = sum.add(&[1.0, 2.0, 3.0], &[1.0, -1.0], &mut driver).unwrap_err();
    assert!(matches!(error, CoreError::NegativeWeight { row: 0, column: 1, .. }));
    let error = sum.add(&[1.0, 2.0, 3.0], &[1.0], &mut driver).unwrap_err();
    assert!(matches!(error, CoreError::Shape { expected: 2, found: 1, .. }));
    assert_eq!(sum.num_data(), 0);
    assert!(sum.finish(&mut driver).unwrap().block(0, 0).iter().all(|v| *v == 0.0));
    assert!(HeadSum::new(Outputs::Softmax, 1, 3).is_err());
    assert!(HeadSum::new(Outputs::Softmax, 2, 0).is_err());
}

/// Runs `verb` with a monitor that stops it at its k-th call, then again without, for every k
/// until it is not stopped any more.
fn interrupted_everywhere(mut verb: impl FnMut(&mut dyn FnMut(f64) -> bool) -> Option<Vec<f64>>) {
    let mut go = |_: f64| true;
    let whole = verb(&mut go).unwrap();
    for k in 1.. {
        let mut calls = 0;
        let mut stop_once = |_: f64| {
            calls += 1;
            calls != k
        };
        assert_eq!(whole, verb(&mut stop_once).unwrap(), "interrupt {k}");
        if calls < k {
            assert!(k > 4, "never interrupted");
            return;
        }
    }
}

#[test]
fn an_interrupted_call_goes_on_where_it_was() {
    let workers = Workers::new(1).unwrap();
    for outputs in [Outputs::Softmax, Outputs::Independent] {
        let (n, c, d) = (4_500, 3, 70);
        let x = values(n * d, 1);
        let f: Vec<f64> = values(n * c, 2).iter().map(|v| v.abs()).collect();
        interrupted_everywhere(|monitor| {
            let mut driver = Driver::new(&workers, monitor).with_round(1.0);
            let mut sum = HeadSum::new(outputs, c, d).unwrap();
            let mut other = HeadSum::new(outputs, c, d).unwrap();
            let half = 2_300;
            for (sum, part) in [(&mut sum, 0..half), (&mut other, half..n)] {
                let (x, f) = (&x[part.start * d..part.end * d], &f[part.start * c..part.end * c]);
                if sum.add(x, f, &mut driver).is_err() {
                    // Another batch is refused; the same one goes on.
                    let started = sum.unfinished.check_none().is_err();
                    let refused = sum.add(&x[..d], &f[..c], &mut driver);
                    if started {
                        assert_eq!(refused, Err(CoreError::Incomplete));
                        assert_eq!(sum.finish(&mut driver).unwrap_err(), CoreError::Incomplete);
                    } else {
                        assert_eq!(refused, Ok(()));
                        *sum = HeadSum::new(outputs, c, d).unwrap();
                    }
                    sum.add(x, f, &mut driver).unwrap();
                }
            }
            if sum.merge(&mut other, 1.0, &mut driver).is_err() {
                sum.merge(&mut other, 1.0, &mut driver).unwrap();
            }
            assert_eq!(sum.num_data(), n);
            if sum.finish(&mut driver).is_err() {
                sum.finish(&mut driver).unwrap();
            }
            Some(sum.finish(&mut driver).unwrap().values().to_vec())
        });
    }
}

#[test]
fn merged_parts_are_the_whole() {
    let workers = Workers::new(2).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    let (n, c, d) = (700, 4, 33);
    let (x, f) = (values(n * d, 1), values(n * c, 2));
    let mut part = |from: usize, to: usize| {
        let mut sum = HeadSum::new(Outputs::Softmax, c, d).unwrap();
        sum.add(&x[from * d..to * d], &f[from * c..to * c], &mut driver).unwrap();
        sum
    };
    let (mut whole, mut twin) = (part(0, n), part(0, 100));
    for count in [2, 3, 7] {
        let edges: Vec<usize> = (0..=count).map(|k| k * n / count).collect();
        let parts = |part: &mut dyn FnMut(usize, usize) -> HeadSum| {
            edges.windows(2).map(|e| part(e[0], e[1])).collect::<Vec<_>>()
        };
        let (left, again, mut right) = (parts(&mut part), parts(&mut part), parts(&mut part));
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let mut from_left = |sums: Vec<HeadSum>| {
            let mut sums = sums.into_iter();
            let mut first = sums.next().unwrap();
            sums.for_each(|mut sum| first.merge(&mut sum, 1.0, &mut driver).unwrap());
            assert_eq!(first.num_data(), n);
            first.finish(&mut driver).unwrap().values().to_vec()
        };
        let one = from_left(left);
        assert_eq!(one, from_left(again));
        let mut last = right.pop().unwrap();
        while let Some(mut sum) = right.pop() {
            sum.merge(&mut last, 1.0, &mut driver).unwrap();
            last = sum;
        }
        let two = last.finish(&mut driver).unwrap().values().to_vec();
        let truth = whole.finish(&mut driver).unwrap().values();
        for ((a, b), t) in one.iter().zip(&two).zip(truth) {
            let bound = 4.0 * n as f64 * f64::EPSILON * n as f64;
            assert!((a - t).abs() < bound && (b - t).abs() < bound);
        }
    }
    let mut other = HeadSum::new(Outputs::Softmax, 3, d).unwrap();
    let mut go = |_| true;
    let mut driver = Driver::new(&workers, &mut go);
    assert!(matches!(twin.merge(&mut other, 1.0, &mut driver), Err(CoreError::Shape { .. })));
    let mut other = HeadSum::new(Outputs::Independent, c, d).unwrap();
    assert!(matches!(twin.merge(&mut other, 1.0, &mut driver), Err(CoreError::Shape { .. })));
    assert_eq!(twin.num_data(), 100);
}
