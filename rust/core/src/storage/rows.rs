//! Rows over the parameters, which curvatures and posteriors share: what is held never changes, and
//! nothing is copied where one list of rows grows out of another.

use std::sync::Arc;

use crate::error::CoreError;
use crate::input::{Real, widen};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, misfit};

/// Values of a block that has room for more rows than it was made for, at the most.
const ROOM: usize = 1 << 23;

/// Some rows, one after the other, and room behind them.
#[derive(Debug)]
struct Block {
    values: Buffer,
    count: usize,
}

/// Rows of `P` values in float64, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Rows {
    columns: usize,
    count: usize,
    blocks: Vec<Arc<Block>>,
}

impl Rows {
    /// None yet.
    pub fn new(columns: usize) -> Self {
        Self { columns, count: 0, blocks: Vec::new() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Values of each.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes held, by others too where they are shared.
    pub fn nbytes(&self) -> usize {
        self.blocks.iter().map(|block| block.values.nbytes()).sum()
    }

    /// Adds rows, widened.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], before anything is changed.
    pub fn push<T: Real>(&mut self, values: &[T]) -> Result<(), CoreError> {
        let added = values.len() / self.columns;
        if added == 0 {
            return Ok(());
        }
        let last = self.blocks.last_mut().and_then(Arc::get_mut);
        if let Some(block) = last
            && block.values.len() >= (block.count + added) * self.columns
        {
            widen(values, &mut block.values[block.count * self.columns..]);
            block.count += added;
        } else {
            // Twice as much each time, so that small batches do not make many blocks.
            let room = self.count.min(ROOM / self.columns).max(added);
            let mut block = Block { values: new_block(room * self.columns)?, count: added };
            widen(values, &mut block.values);
            self.take(Arc::new(block))?;
        }
        self.count += added;
        Ok(())
    }

    /// Adds the rows of another list times a factor: at 1 they are shared, else copied.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], before anything is changed.
    pub fn append(&mut self, other: &Self, factor: f64) -> Result<(), CoreError> {
        let mut added = Vec::new();
        list::reserve("blocks of rows", &mut added, other.blocks.len())?;
        for block in &other.blocks {
            if factor == 1.0 {
                added.push(Arc::clone(block));
                continue;
            }
            let own = &block.values[..block.count * self.columns];
            let mut values = new_block(own.len())?;
            values.iter_mut().zip(own).for_each(|(target, value)| *target = factor * value);
            added.push(Arc::new(Block { values, count: block.count }));
        }
        list::reserve("blocks of rows", &mut self.blocks, added.len())?;
        self.blocks.append(&mut added);
        self.count += other.count;
        Ok(())
    }

    /// Every row.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn slices(&self) -> Result<Vec<&[f64]>, CoreError> {
        let mut found = Vec::new();
        list::reserve("a list of rows", &mut found, self.count)?;
        for block in &self.blocks {
            found.extend(block.values.chunks_exact(self.columns).take(block.count));
        }
        Ok(found)
    }

    /// Adds them, block by block.
    pub fn add_to<'a>(&'a self, content: &mut Content<'a>) {
        content.size("", "columns", self.columns);
        content.size("", "blocks", self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            content.size("", &format!("rows.{index}"), block.count);
            content.array(
                "",
                &format!("block.{index}"),
                &block.values[..block.count * self.columns],
            );
        }
    }

    /// The rows of a file.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(source: &Source) -> Result<Self, CoreError> {
        let columns = source.size("", "columns")?;
        if columns == 0 {
            return Err(misfit("columns", columns, "values"));
        }
        let mut rows = Self::new(columns);
        for index in 0..source.size("", "blocks")? {
            let count = source.size("", &format!("rows.{index}"))?;
            let len = count.saturating_mul(columns);
            let values = source.array("rows", "", &format!("block.{index}"), len)?;
            rows.take(Arc::new(Block { values, count }))?;
            rows.count += count;
        }
        Ok(rows)
    }

    fn take(&mut self, block: Arc<Block>) -> Result<(), CoreError> {
        list::extend("blocks of rows", &mut self.blocks, [block])
    }
}

fn new_block(len: usize) -> Result<Buffer, CoreError> {
    Buffer::zeros("rows of the curvature", len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shared_does_not_change_when_one_of_both_grows() {
        let mut rows = Rows::new(3);
        for k in 0..20u8 {
            rows.push(&[f32::from(k); 3]).unwrap();
        }
        assert!(rows.blocks.len() < 8);
        let shared = rows.clone();
        rows.push(&[20.0f64; 6]).unwrap();
        let mut merged = Rows::new(3);
        merged.push(&[-1.0; 3]).unwrap();
        merged.append(&shared, 1.0).unwrap();
        merged.append(&shared, 2.0).unwrap();
        let values =
            |rows: &Rows| rows.slices().unwrap().iter().map(|row| row[2]).collect::<Vec<_>>();
        assert_eq!((shared.count(), rows.count(), merged.count()), (20, 22, 41));
        assert_eq!(values(&shared), (0..20).map(f64::from).collect::<Vec<_>>());
        assert_eq!(values(&rows)[19..], [19.0, 20.0, 20.0]);
        assert_eq!((values(&merged)[20], values(&merged)[40]), (19.0, 38.0));
    }
}
