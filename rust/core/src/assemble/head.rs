//! `H = sum_n B_n (x) a_n a_n^T` for a last layer: features `a_n` and output curvature `B_n` move, the
//! Jacobian never exists.
//!
//! Each pair of outputs is one weighted symmetric product `Phi^T diag(w) Phi`.

use crate::assemble::panel::{PANEL_ROWS, Panel};
use crate::assemble::unfinished::{Identity, Unfinished, print_of};
use crate::assemble::weighted::{add_strip, scratch_len, strips};
use crate::error::CoreError;
use crate::input::{Real, check_matrix, check_weights};
pub use crate::output::weights::Outputs;
use crate::output::weights::Planes;
use crate::storage::blocks::SymmetricBlocks;
use crate::threads::Driver;

/// Values of blocks that one task of a merge adds.
const MERGED: usize = 1 << 18;

/// The growing sum of a head's curvature.
#[derive(Debug)]
pub struct HeadSum {
    identity: Identity,
    outputs: Outputs,
    num_outputs: usize,
    blocks: SymmetricBlocks,
    panel: Panel,
    /// Output curvatures of the panel, while it is added.
    planes: Option<Planes>,
    /// Tasks of the panel's product that are done.
    tasks: usize,
    num_data: usize,
    unfinished: Unfinished,
}

impl HeadSum {
    /// An empty sum for `num_outputs` outputs and layer inputs of length `num_features` (`D'`).
    ///
    /// # Errors
    /// [`CoreError::Shape`] without outputs (two for a softmax) or features,
    /// [`CoreError::Allocation`] when the memory is not there.
    pub fn new(
        outputs: Outputs,
        num_outputs: usize,
        num_features: usize,
    ) -> Result<Self, CoreError> {
        let least = outputs.least();
        if num_outputs < least {
            return Err(CoreError::Shape {
                what: "number of outputs",
                expected: least,
                found: num_outputs,
            });
        }
        if num_features == 0 {
            return Err(CoreError::Shape { what: "number of features", expected: 1, found: 0 });
        }
        let (k, pattern) = outputs.basis(num_outputs);
        let blocks = SymmetricBlocks::zeros("the curvature of a layer", k, num_features, pattern)?;
        Ok(Self {
            identity: Identity::new(),
            outputs,
            num_outputs,
            blocks,
            panel: Panel::new(num_features, num_outputs)?,
            planes: None,
            tasks: 0,
            num_data: 0,
            unfinished: Unfinished::default(),
        })
    }

    /// Bytes of such a sum, and of the panel beside it while points are added.
    pub fn bytes_of(outputs: Outputs, num_outputs: usize, num_features: usize) -> (usize, usize) {
        let (k, pattern) = outputs.basis(num_outputs);
        let panel = Panel::bytes_of(num_features, num_outputs).saturating_add(Planes::bytes_of(
            outputs,
            num_outputs,
            PANEL_ROWS,
        ));
        (SymmetricBlocks::bytes_of(k, num_features, pattern), panel)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        let planes = self.planes.as_ref().map_or(0, Planes::nbytes);
        self.blocks.nbytes() + self.panel.nbytes() + planes
    }

    /// Number of data added.
    pub fn num_data(&self) -> usize {
        self.num_data
    }

    /// Number of outputs `C`.
    pub fn num_outputs(&self) -> usize {
        self.num_outputs
    }

    /// Length of a layer input `D'`.
    pub fn num_features(&self) -> usize {
        self.blocks.dim()
    }

    /// What the outputs are.
    pub fn outputs(&self) -> Outputs {
        self.outputs
    }

    /// Adds `B` points: `features` is `B x D'`, `outputs` is `B x C` (logits, or curvatures `>= 0`).
    /// Cost: `B D'^2` flops a block.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::NegativeWeight`],
    /// [`CoreError::Allocation`] before anything is added; [`CoreError::Interrupted`], after which
    /// the same call goes on, and any other is [`CoreError::Incomplete`].
    pub fn add<T: Real, U: Real>(
        &mut self,
        features: &[T],
        outputs: &[U],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (d, c) = (self.num_features(), self.num_outputs);
        let rows = features.len() / d;
        check_matrix("features", features, rows, d, driver)?;
        check_matrix("outputs", outputs, rows, c, driver)?;
        if self.outputs == Outputs::Independent {
            check_weights(outputs, c, driver)?;
        }
        let print = || print_of(features, outputs);
        let mut taken = self.unfinished.taken(print)?;
        self.prepare()?;
        let outcome = self.take(features, outputs, &mut taken, driver);
        match outcome {
            Ok(()) => {
                self.unfinished.clear();
                self.num_data += rows;
            }
            Err(_) => self.unfinished.keep_add(taken, print),
        }
        outcome
    }

    /// Takes rows from `taken` on into the panel, which is added whenever it is full.
    fn take<T: Real, U: Real>(
        &mut self,
        features: &[T],
        outputs: &[U],
        taken: &mut usize,
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (d, c) = (self.num_features(), self.num_outputs);
        loop {
            if self.panel.is_full() {
                self.add_panel(driver)?;
            }
            if *taken * c == outputs.len() {
                return Ok(());
            }
            let (features, outputs) = (&features[*taken * d..], &outputs[*taken * c..]);
            *taken += self.panel.take(features, outputs, driver)?;
        }
    }

    /// Adds the points of `other`, a sum of the same kind, which stays as it is. What lies in the
    /// panels of either is added first.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the kinds differ, [`CoreError::Allocation`];
    /// [`CoreError::Interrupted`], after which the same call goes on, and any other is
    /// [`CoreError::Incomplete`].
    pub fn merge(&mut self, other: &mut Self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        CoreError::check_len(
            "features of the other sum",
            self.num_features(),
            other.num_features(),
        )?;
        CoreError::check_len("outputs of the other sum", self.num_outputs, other.num_outputs)?;
        if self.outputs != other.outputs {
            return Err(CoreError::Shape { what: "kind of the other sum", expected: 0, found: 1 });
        }
        let mut tasks = self.unfinished.merged(&other.identity)?;
        let added = other.finish(driver)?;
        self.flush(driver)?;
        let parts = self.blocks.values_mut().chunks_mut(MERGED).zip(added.values().chunks(MERGED));
        let outcome =
            driver.resume(&mut tasks, parts.collect(), MERGED as f64, 0, |(sum, part), _| {
                sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
            });
        match outcome {
            Ok(()) => {
                self.unfinished.clear();
                self.num_data += other.num_data;
            }
            Err(_) => self.unfinished.keep_merge(&other.identity, tasks),
        }
        outcome
    }

    /// The blocks of the sum, with every added point in them.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], [`CoreError::Interrupted`] (the next call goes on),
    /// [`CoreError::Incomplete`].
    pub fn finish(&mut self, driver: &mut Driver<'_>) -> Result<&SymmetricBlocks, CoreError> {
        self.unfinished.check_none()?;
        self.flush(driver)?;
        self.panel.release()?;
        self.planes = None;
        Ok(&self.blocks)
    }

    /// The blocks alone, given up by the sum.
    ///
    /// # Errors
    /// As [`HeadSum::finish`], which must have been called.
    pub fn into_blocks(self) -> Result<SymmetricBlocks, CoreError> {
        self.unfinished.check_none()?;
        CoreError::check_len("rows that are not added yet", 0, self.panel.rows())?;
        Ok(self.blocks)
    }

    /// Memory for what comes, before anything is touched.
    fn prepare(&mut self) -> Result<(), CoreError> {
        if self.planes.is_none() {
            self.planes = Some(Planes::new(self.outputs, self.num_outputs, PANEL_ROWS)?);
        }
        self.panel.prepare()
    }

    fn flush(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if self.panel.rows() > 0 { self.add_panel(driver) } else { Ok(()) }
    }

    fn add_panel(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (dim, rows) = (self.blocks.dim(), self.panel.rows());
        let (features, num_blocks) = (self.panel.features(), self.blocks.num_blocks());
        let Some(planes) = &mut self.planes else { return Err(CoreError::Incomplete) };
        planes.fill(self.panel.outputs());
        let mut tasks = Vec::new();
        for ((c, d), block) in self.blocks.blocks_mut() {
            let weights = planes.pair(c, d, rows);
            tasks.extend(strips(features, block).into_iter().map(|strip| (weights, strip)));
        }
        let flops = (rows * dim * dim * num_blocks) as f64 / tasks.len() as f64;
        let scratch = scratch_len(features);
        driver.resume(&mut self.tasks, tasks, flops, scratch, |(weights, strip), scratch| {
            add_strip(features, weights, strip, scratch);
        })?;
        self.panel.clear();
        self.tasks = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
            .iter()
            .flat_map(|&(a, b)| blocks.block(a, b).to_vec())
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
    fn interrupted_everywhere(
        mut verb: impl FnMut(&mut dyn FnMut(f64) -> bool) -> Option<Vec<f64>>,
    ) {
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
                    let (x, f) =
                        (&x[part.start * d..part.end * d], &f[part.start * c..part.end * c]);
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
                if sum.merge(&mut other, &mut driver).is_err() {
                    sum.merge(&mut other, &mut driver).unwrap();
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
                sums.for_each(|mut sum| first.merge(&mut sum, &mut driver).unwrap());
                assert_eq!(first.num_data(), n);
                first.finish(&mut driver).unwrap().values().to_vec()
            };
            let one = from_left(left);
            assert_eq!(one, from_left(again));
            let mut last = right.pop().unwrap();
            while let Some(mut sum) = right.pop() {
                sum.merge(&mut last, &mut driver).unwrap();
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
        assert!(matches!(twin.merge(&mut other, &mut driver), Err(CoreError::Shape { .. })));
        let mut other = HeadSum::new(Outputs::Independent, c, d).unwrap();
        assert!(matches!(twin.merge(&mut other, &mut driver), Err(CoreError::Shape { .. })));
        assert_eq!(twin.num_data(), 100);
    }
}
