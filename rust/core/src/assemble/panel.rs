//! Points gathered, in float64, until there are enough for a product worth its memory traffic.

use crate::assemble::Real;
use crate::assemble::lanes::Lanes;
use crate::buffer::Buffer;
use crate::error::CoreError;
use crate::threads::Driver;

/// Rows of a full panel. A weighted product reads and writes its result once a panel, so the
/// caller's batch size must not set this depth.
pub const PANEL_ROWS: usize = 2048;

/// Up to [`PANEL_ROWS`] rows of features and of outputs.
#[derive(Debug)]
pub struct Panel {
    num_features: usize,
    num_outputs: usize,
    features: Lanes,
    outputs: Buffer,
}

impl Panel {
    /// An empty panel.
    pub fn new(num_features: usize, num_outputs: usize) -> Result<Self, CoreError> {
        Ok(Self {
            num_features,
            num_outputs,
            features: Lanes::new("a panel of features", num_features, PANEL_ROWS)?,
            outputs: Buffer::zeros("a panel of outputs", PANEL_ROWS * num_outputs)?,
        })
    }

    /// Bytes that a panel takes.
    pub fn bytes_of(num_features: usize, num_outputs: usize) -> usize {
        let outputs = PANEL_ROWS * num_outputs * size_of::<f64>();
        Lanes::bytes_of(num_features, PANEL_ROWS).saturating_add(outputs)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.features.nbytes() + self.outputs.nbytes()
    }

    /// Takes as many leading rows as there is room for; returns how many.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`].
    pub fn take<T: Real, U: Real>(
        &mut self,
        features: &[T],
        outputs: &[U],
        driver: &mut Driver<'_>,
    ) -> Result<usize, CoreError> {
        let (d, c, rows) = (self.num_features, self.num_outputs, self.rows());
        let taken = (outputs.len() / c).min(PANEL_ROWS - rows);
        widen(&outputs[..taken * c], &mut self.outputs[rows * c..]);
        self.features.push(&features[..taken * d], driver)?;
        Ok(taken)
    }

    /// Whether the panel has no more room.
    pub fn is_full(&self) -> bool {
        self.rows() == PANEL_ROWS
    }

    /// Number of rows held.
    pub fn rows(&self) -> usize {
        self.features.rows()
    }

    /// The rows of features held.
    pub fn features(&self) -> &Lanes {
        &self.features
    }

    /// The rows of outputs held, row by row.
    pub fn outputs(&self) -> &[f64] {
        &self.outputs[..self.rows() * self.num_outputs]
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.features.clear();
    }

    /// Gives back the memory of an empty panel until [`Panel::prepare`]: a factor needs it more.
    pub fn release(&mut self) -> Result<(), CoreError> {
        if self.rows() == 0 {
            self.features = Lanes::new("a panel of features", self.num_features, 0)?;
            self.outputs = Buffer::zeros("a panel of outputs", 0)?;
        }
        Ok(())
    }

    /// Takes the memory that [`Panel::release`] gave back.
    pub fn prepare(&mut self) -> Result<(), CoreError> {
        if self.features.capacity() == 0 {
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
