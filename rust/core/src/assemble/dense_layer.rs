//! `H = sum_n B_n (x) a_n a_n^T` for a Dense layer: features `a_n` and output curvature `B_n` move,
//! the Jacobian never exists.
//!
//! Each pair of outputs is one weighted symmetric product `Phi^T diag(w) Phi`.

use crate::assemble::panel::{PANEL_ROWS, Panel};
use crate::assemble::weighted::{add_strip, scratch_len, strips};
use crate::assemble::{Real, check_matrix};
use crate::blocks::{Pattern, SymmetricBlocks};
use crate::buffer::Buffer;
use crate::contrast::{Factors, factors, softmax};
use crate::error::CoreError;
use crate::threads::Driver;

/// What the outputs that come with the features are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Logits of a softmax over `C` classes; blocks are the `C (C - 1) / 2` of its contrast.
    Softmax,
    /// Curvatures of `C` outputs that do not interact; one block each.
    Independent,
}

/// The growing sum of a Dense layer's curvature.
#[derive(Debug)]
pub struct DenseLayerSum {
    outputs: Outputs,
    num_outputs: usize,
    blocks: SymmetricBlocks,
    panel: Panel,
    /// Per row of the panel: factors of the output curvature, plane by plane.
    weights: Buffer,
    num_data: usize,
    incomplete: bool,
}

impl DenseLayerSum {
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
        let least = if outputs == Outputs::Softmax { 2 } else { 1 };
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
        let (k, pattern) = Self::basis(outputs, num_outputs);
        Ok(Self {
            outputs,
            num_outputs,
            blocks: SymmetricBlocks::zeros("the curvature of a layer", k, num_features, pattern)?,
            panel: Panel::new(num_features, num_outputs)?,
            weights: Buffer::zeros(
                "output curvatures",
                PANEL_ROWS * Self::planes(outputs, num_outputs),
            )?,
            num_data: 0,
            incomplete: false,
        })
    }

    fn basis(outputs: Outputs, num_outputs: usize) -> (usize, Pattern) {
        match outputs {
            Outputs::Softmax => (num_outputs.saturating_sub(1), Pattern::Full),
            Outputs::Independent => (num_outputs, Pattern::Diagonal),
        }
    }

    fn planes(outputs: Outputs, num_outputs: usize) -> usize {
        match outputs {
            Outputs::Softmax => 3 * (num_outputs - 1),
            Outputs::Independent => num_outputs,
        }
    }

    /// Bytes that such a sum takes.
    pub fn bytes_of(outputs: Outputs, num_outputs: usize, num_features: usize) -> usize {
        let (k, pattern) = Self::basis(outputs, num_outputs);
        let weights = PANEL_ROWS * Self::planes(outputs, num_outputs.max(1)) * size_of::<f64>();
        SymmetricBlocks::bytes_of(k, num_features, pattern)
            .saturating_add(Panel::bytes_of(num_features, num_outputs))
            .saturating_add(weights)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.blocks.nbytes() + self.panel.nbytes() + self.weights.nbytes()
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
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::NegativeWeight`] before
    /// anything is added; [`CoreError::Interrupted`] leaves a sum that can not be used.
    pub fn add<T: Real, U: Real>(
        &mut self,
        features: &[T],
        outputs: &[U],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        if self.incomplete {
            return Err(CoreError::Incomplete);
        }
        let (d, c) = (self.num_features(), self.num_outputs);
        let rows = features.len() / d;
        check_matrix("features", features, rows, d)?;
        check_matrix("outputs", outputs, rows, c)?;
        let negative = match self.outputs {
            Outputs::Softmax => None,
            Outputs::Independent => outputs.iter().position(|w| (*w).into() < 0.0),
        };
        if let Some(i) = negative {
            let (row, column) = (i / c, i % c);
            return Err(CoreError::NegativeWeight { row, column, value: outputs[i].into() });
        }
        self.panel.prepare()?;
        self.incomplete = true;
        let mut start = 0;
        while start < rows {
            start += self.panel.take(&features[start * d..], &outputs[start * c..], driver)?;
            if self.panel.is_full() {
                self.add_panel(driver)?;
            }
        }
        self.incomplete = false;
        self.num_data += rows;
        Ok(())
    }

    /// The blocks of the sum, with every added point in them.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Incomplete`], [`CoreError::Allocation`].
    pub fn finish(&mut self, driver: &mut Driver<'_>) -> Result<&SymmetricBlocks, CoreError> {
        if self.incomplete {
            return Err(CoreError::Incomplete);
        }
        self.incomplete = true;
        self.add_panel(driver)?;
        self.incomplete = false;
        self.panel.release()?;
        Ok(&self.blocks)
    }

    fn add_panel(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if self.panel.rows() > 0 {
            self.fill_weights();
            self.add_products(driver)?;
            self.panel.clear();
        }
        Ok(())
    }

    /// Output curvatures of the panel, one plane of `PANEL_ROWS` a factor, so that a pair's weights
    /// are contiguous.
    fn fill_weights(&mut self) {
        let (c, planes) = (self.num_outputs, Self::planes(self.outputs, self.num_outputs));
        let mut scratch = vec![0.0; c + planes];
        let (p, point) = scratch.split_at_mut(c);
        for (row, outputs) in self.panel.outputs().chunks_exact(c).enumerate() {
            match self.outputs {
                Outputs::Independent => point.copy_from_slice(outputs),
                Outputs::Softmax => {
                    p.copy_from_slice(outputs);
                    softmax(p);
                    let (low, rest) = point.split_at_mut(c - 1);
                    let (high, diagonal) = rest.split_at_mut(c - 1);
                    factors(p, &mut Factors { low, high, diagonal });
                }
            }
            for (plane, value) in point.iter().enumerate() {
                self.weights[plane * PANEL_ROWS + row] = *value;
            }
        }
    }

    fn add_products(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (dim, rows, k) = (self.blocks.dim(), self.panel.rows(), self.blocks.outputs());
        let (weights, kind) = (&self.weights, self.outputs);
        let plane = |index: usize| &weights[index * PANEL_ROWS..][..rows];
        let pair_weights = |(c, d): (usize, usize)| match kind {
            Outputs::Independent => (plane(c), None),
            Outputs::Softmax if c == d => (plane(2 * k + c), None),
            Outputs::Softmax => (plane(d), Some(plane(k + c))),
        };
        let (features, num_blocks) = (self.panel.features(), self.blocks.num_blocks());
        let mut tasks = Vec::new();
        for (pair, block) in self.blocks.blocks_mut() {
            let weights = pair_weights(pair);
            tasks.extend(strips(features, block).into_iter().map(|strip| (weights, strip)));
        }
        let flops = (rows * dim * dim * num_blocks) as f64 / tasks.len() as f64;
        driver.for_each(tasks, flops, scratch_len(features), |((w, w2), strip), scratch| {
            add_strip(features, w, w2, strip, scratch);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::column_start;
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
        let mut sum = DenseLayerSum::new(outputs, c, d).unwrap();
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
            d in prop::sample::select(vec![1usize, 3, 127, 128, 129, 260]),
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
        let mut sum = DenseLayerSum::new(Outputs::Independent, 1, 2).unwrap();
        let empty = sum.nbytes();
        sum.add(&[1.0, 2.0], &[1.0], &mut driver).unwrap();
        assert_eq!(sum.finish(&mut driver).unwrap().block(0, 0), [1.0, 2.0, 4.0]);
        assert!(sum.nbytes() < empty);
        sum.add(&[1.0, 0.0], &[3.0], &mut driver).unwrap();
        assert_eq!(sum.finish(&mut driver).unwrap().block(0, 0), [4.0, 2.0, 4.0]);
    }

    #[test]
    fn bad_input_adds_nothing() {
        let workers = Workers::new(1).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let mut sum = DenseLayerSum::new(Outputs::Independent, 2, 3).unwrap();
        let error = sum.add(&[1.0, 2.0, f64::NAN], &[1.0, 1.0], &mut driver).unwrap_err();
        assert!(matches!(error, CoreError::NonFinite { what: "features", row: 0, column: 2, .. }));
        let error = sum.add(&[1.0, 2.0, 3.0], &[1.0, -1.0], &mut driver).unwrap_err();
        assert!(matches!(error, CoreError::NegativeWeight { row: 0, column: 1, .. }));
        let error = sum.add(&[1.0, 2.0, 3.0], &[1.0], &mut driver).unwrap_err();
        assert!(matches!(error, CoreError::Shape { expected: 2, found: 1, .. }));
        assert_eq!(sum.num_data(), 0);
        assert!(sum.finish(&mut driver).unwrap().block(0, 0).iter().all(|v| *v == 0.0));
        assert!(DenseLayerSum::new(Outputs::Softmax, 1, 3).is_err());
        assert!(DenseLayerSum::new(Outputs::Softmax, 2, 0).is_err());
    }

    #[test]
    fn an_interrupted_sum_refuses_to_go_on() {
        let workers = Workers::new(1).unwrap();
        let mut stop = |_| false;
        let mut driver = Driver::new(&workers, &mut stop);
        let mut sum = DenseLayerSum::new(Outputs::Independent, 1, 2).unwrap();
        assert_eq!(sum.add(&[1.0, 2.0], &[1.0], &mut driver), Err(CoreError::Interrupted));
        assert_eq!(sum.finish(&mut driver).unwrap_err(), CoreError::Incomplete);
    }
}
