//! `H = sum_n B_n (x) a_n a_n^T` for a last layer: features `a_n` and output curvature `B_n` move, the
//! Jacobian never exists.
//!
//! Each pair of outputs is one weighted symmetric product `Phi^T diag(w) Phi`.

use crate::assemble::panel::{PANEL_ROWS, Panel};
use crate::assemble::unfinished::{Identity, Unfinished, print_of};
use crate::assemble::weighted::{add_strip, num_strips, scratch_len, strips};
use crate::error::CoreError;
use crate::input::{Real, check_matrix, check_weight, check_weights};
pub use crate::output::weights::Outputs;
use crate::output::weights::Planes;
use crate::storage::blocks::SymmetricBlocks;
use crate::storage::stored::{Content, Source, Stored, misfit};
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

    /// Adds the points of `other`, a sum of the same kind, which stays as it is, with a weight. What
    /// lies in the panels of either is added first.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the kinds differ, [`CoreError::Allocation`];
    /// [`CoreError::Interrupted`], after which the same call goes on, and any other is
    /// [`CoreError::Incomplete`].
    pub fn merge(
        &mut self,
        other: &mut Self,
        weight: f64,
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        check_weight(weight)?;
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
        let outcome = driver.resume(&mut tasks, parts, MERGED as f64, 0, |(sum, part), _| {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += weight * value);
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
        let planes = &*planes;
        let tasks = self.blocks.blocks_mut().flat_map(|((c, d), block)| {
            let weights = planes.pair(c, d, rows);
            strips(features, block).map(move |strip| (weights, strip))
        });
        let count = num_blocks * num_strips(features);
        let flops = (rows * dim * dim * num_blocks) as f64 / count as f64;
        let scratch = scratch_len(features);
        driver.resume(&mut self.tasks, tasks, flops, scratch, |(weights, strip), scratch| {
            add_strip(features, weights, strip, scratch);
        })?;
        self.panel.clear();
        self.tasks = 0;
        Ok(())
    }
}

impl Stored for HeadSum {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        self.unfinished.check_none()?;
        if self.tasks > 0 {
            return Err(CoreError::Incomplete);
        }
        let mut content = Content::default();
        content.size("", "softmax", usize::from(self.outputs == Outputs::Softmax));
        content.size("", "outputs", self.num_outputs);
        content.size("", "features", self.num_features());
        content.size("", "points", self.num_data);
        content.array("", "blocks", self.blocks.values());
        self.panel.add_to(&mut content);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let softmax = source.size("", "softmax")? == 1;
        let outputs = if softmax { Outputs::Softmax } else { Outputs::Independent };
        let (c, d) = (source.size("", "outputs")?, source.size("", "features")?);
        if c < outputs.least() || d == 0 {
            return Err(misfit("the curvature", c.min(d), "outputs or features"));
        }
        let ((k, pattern), what) = (outputs.basis(c), "the curvature of a layer");
        let mut sum = Self {
            identity: Identity::new(),
            outputs,
            num_outputs: c,
            blocks: SymmetricBlocks::of_source(what, k, d, pattern, source)?,
            panel: Panel::of_source(d, c, source)?,
            planes: None,
            tasks: 0,
            num_data: source.size("", "points")?,
            unfinished: Unfinished::default(),
        };
        if sum.panel.rows() > 0 {
            sum.prepare()?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests;
