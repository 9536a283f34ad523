//! Rows gathered, in float64, until there are enough for a product worth its memory traffic.

use crate::assemble::Real;
use crate::buffer::Buffer;
use crate::error::CoreError;

/// Rows of a full panel. A weighted product reads and writes its result once a panel, so the
/// caller's batch size must not set this depth.
pub const PANEL_ROWS: usize = 2048;

/// Up to [`PANEL_ROWS`] rows of features and of outputs.
#[derive(Debug)]
pub struct Panel {
    num_features: usize,
    num_outputs: usize,
    rows: usize,
    features: Buffer,
    outputs: Buffer,
}

impl Panel {
    /// An empty panel.
    pub fn new(num_features: usize, num_outputs: usize) -> Result<Self, CoreError> {
        Ok(Self {
            num_features,
            num_outputs,
            rows: 0,
            features: Buffer::zeros("a panel of features", PANEL_ROWS * num_features)?,
            outputs: Buffer::zeros("a panel of outputs", PANEL_ROWS * num_outputs)?,
        })
    }

    /// Bytes that a panel takes.
    pub fn bytes_of(num_features: usize, num_outputs: usize) -> usize {
        PANEL_ROWS * (num_features + num_outputs) * size_of::<f64>()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.features.nbytes() + self.outputs.nbytes()
    }

    /// Takes as many leading rows as there is room for; returns how many.
    pub fn take<T: Real, U: Real>(&mut self, features: &[T], outputs: &[U]) -> usize {
        let (d, c) = (self.num_features, self.num_outputs);
        let taken = (outputs.len() / c).min(PANEL_ROWS - self.rows);
        widen(&features[..taken * d], &mut self.features[self.rows * d..]);
        widen(&outputs[..taken * c], &mut self.outputs[self.rows * c..]);
        self.rows += taken;
        taken
    }

    /// Whether the panel has no more room.
    pub fn is_full(&self) -> bool {
        self.rows == PANEL_ROWS
    }

    /// Number of rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows of features held, row by row.
    pub fn features(&self) -> &[f64] {
        &self.features[..self.rows * self.num_features]
    }

    /// The rows of outputs held, row by row.
    pub fn outputs(&self) -> &[f64] {
        &self.outputs[..self.rows * self.num_outputs]
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.rows = 0;
    }

    /// Gives back the memory of an empty panel until [`Panel::prepare`]: a factor needs it more.
    pub fn release(&mut self) -> Result<(), CoreError> {
        if self.rows == 0 {
            self.features = Buffer::zeros("a panel of features", 0)?;
            self.outputs = Buffer::zeros("a panel of outputs", 0)?;
        }
        Ok(())
    }

    /// Takes the memory that [`Panel::release`] gave back.
    pub fn prepare(&mut self) -> Result<(), CoreError> {
        if self.features.is_empty() {
            *self = Self::new(self.num_features, self.num_outputs)?;
        }
        Ok(())
    }
}

/// Copies `values` to the front of `out`, widened.
pub fn widen<T: Real>(values: &[T], out: &mut [f64]) {
    for (target, value) in out.iter_mut().zip(values) {
        *target = (*value).into();
    }
}
