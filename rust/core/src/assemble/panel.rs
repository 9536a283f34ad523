//! Points gathered, in float64, until there are enough for a product worth its memory traffic.

use crate::error::CoreError;
use crate::input::{Real, widen};
use crate::kernel::lanes::Lanes;
use crate::storage::buffer::Buffer;
use crate::storage::stored::{Content, Source, misfit};
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
    /// An empty panel, which takes its memory in [`Panel::prepare`].
    pub fn new(num_features: usize, num_outputs: usize) -> Result<Self, CoreError> {
        Ok(Self {
            num_features,
            num_outputs,
            features: Lanes::new("a panel of features", num_features)?,
            outputs: Buffer::zeros("a panel of outputs", 0)?,
        })
    }

    /// Adds the rows held.
    pub fn add_to<'a>(&'a self, content: &mut Content<'a>) {
        content.size("", "panel_rows", self.rows());
        self.features.add_to("panel_features", content);
        if self.rows() > 0 {
            content.array("", "panel_outputs", self.outputs());
        }
    }

    /// The panel of a file.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(
        num_features: usize,
        num_outputs: usize,
        source: &Source,
    ) -> Result<Self, CoreError> {
        let (what, rows) = ("a panel of features", source.size("", "panel_rows")?);
        if rows > PANEL_ROWS {
            return Err(misfit("the panel", rows, "rows"));
        }
        let mut panel = Self {
            features: Lanes::of_source(what, num_features, rows, "panel_features", source)?,
            ..Self::new(num_features, num_outputs)?
        };
        if rows > 0 {
            let len = rows * num_outputs;
            let held = source.array("a panel of outputs", "", "panel_outputs", len)?;
            panel.prepare()?;
            panel.outputs[..len].copy_from_slice(&held);
        }
        Ok(panel)
    }

    /// Bytes that a panel takes.
    pub fn bytes_of(num_features: usize, num_outputs: usize) -> usize {
        let outputs = num_outputs.saturating_mul(PANEL_ROWS * size_of::<f64>());
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

    /// Takes the memory of a panel, unless it is there.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], before anything is changed.
    pub fn prepare(&mut self) -> Result<(), CoreError> {
        self.features.reserve(PANEL_ROWS)?;
        if self.outputs.is_empty() {
            self.outputs = Buffer::zeros("a panel of outputs", PANEL_ROWS * self.num_outputs)?;
        }
        Ok(())
    }

    /// Gives back the memory of an empty panel until [`Panel::prepare`]: a factor needs it more.
    ///
    /// # Errors
    /// None: an empty buffer can always be had.
    pub fn release(&mut self) -> Result<(), CoreError> {
        if self.rows() == 0 {
            self.features.release()?;
            self.outputs = Buffer::zeros("a panel of outputs", 0)?;
        }
        Ok(())
    }
}
