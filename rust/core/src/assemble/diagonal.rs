//! The diagonal of `H` alone: sums of squares, whether rows or a head's factors come in.

use crate::assemble::unfinished::{Unfinished, print_of};
use crate::error::CoreError;
use crate::input::{Real, check_matrix, check_weight, check_weights};
use crate::storage::buffer::Buffer;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// Parameters that one task adds.
const PART: usize = 4096;

/// The growing diagonal of a curvature.
#[derive(Debug)]
pub struct DiagonalSum {
    values: Buffer,
    unfinished: Unfinished,
}

impl DiagonalSum {
    /// `num_params` zeros.
    ///
    /// # Errors
    /// [`CoreError::Shape`] without parameters, [`CoreError::Allocation`].
    pub fn new(num_params: usize) -> Result<Self, CoreError> {
        if num_params == 0 {
            return Err(CoreError::Shape { what: "number of parameters", expected: 1, found: 0 });
        }
        let values = Buffer::zeros("the diagonal of the curvature", num_params)?;
        Ok(Self { values, unfinished: Unfinished::default() })
    }

    /// Number of parameters `P`.
    pub fn num_params(&self) -> usize {
        self.values.len()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.values.nbytes()
    }

    /// The sum.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] after an interrupt.
    pub fn values(&self) -> Result<&[f64], CoreError> {
        self.unfinished.check_none()?;
        Ok(&self.values)
    }

    /// Adds `sum_r rows[r, p]^2`; `rows` is `R x P`, already multiplied by a root of `Lambda`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`] before anything is added;
    /// [`CoreError::Interrupted`], after which the same call goes on, and any other is
    /// [`CoreError::Incomplete`].
    pub fn add_rows<T: Real>(
        &mut self,
        rows: &[T],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.values.len();
        check_matrix("rows", rows, rows.len() / n, n, driver)?;
        let print = || print_of::<T, f64>(rows, &[]);
        let flops = (2 * rows.len() / n * PART.min(n)) as f64;
        self.add_parts(PART, 0, flops, print, driver, |part, sums, _| {
            for row in rows.chunks_exact(n) {
                for (sum, value) in sums.iter_mut().zip(&row[part * PART..]) {
                    let value: f64 = (*value).into();
                    *sum += value * value;
                }
            }
        })
    }

    /// Adds `sum_n weights[n, c] features[n, i]^2` to entry `c D' + i`.
    ///
    /// # Errors
    /// As [`DiagonalSum::add_rows`], and [`CoreError::NegativeWeight`].
    pub fn add_head<T: Real, U: Real>(
        &mut self,
        features: &[T],
        weights: &[U],
        num_outputs: usize,
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let d = self.values.len() / num_outputs.max(1);
        CoreError::check_len("parameters of the head", self.values.len(), d * num_outputs)?;
        let rows = features.len() / d;
        check_matrix("features", features, rows, d, driver)?;
        check_matrix("weights", weights, rows, num_outputs, driver)?;
        check_weights(weights, num_outputs, driver)?;
        let print = || print_of(features, weights);
        // A few outputs a task, whose sums stay in the first-level cache.
        let outputs = (PART / d).clamp(1, num_outputs);
        let flops = (3 * rows * d * outputs) as f64;
        self.add_parts(outputs * d, d, flops, print, driver, |part, sums, squares| {
            let own = part * outputs..(part * outputs + sums.len() / d);
            for (a, w) in features.chunks_exact(d).zip(weights.chunks_exact(num_outputs)) {
                for (square, value) in squares.iter_mut().zip(a) {
                    let value: f64 = (*value).into();
                    *square = value * value;
                }
                for (sums, w) in sums.chunks_exact_mut(d).zip(&w[own.clone()]) {
                    let w: f64 = (*w).into();
                    sums.iter_mut().zip(&*squares).for_each(|(sum, square)| *sum += w * square);
                }
            }
        })
    }

    /// Adds `weight` times `other`, which stays as it is.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the numbers of parameters differ, [`CoreError::Incomplete`].
    pub fn merge(&mut self, other: &Self, weight: f64) -> Result<(), CoreError> {
        check_weight(weight)?;
        CoreError::check_len("parameters of the other sum", self.num_params(), other.num_params())?;
        self.unfinished.check_none()?;
        let added = other.values()?;
        self.values.iter_mut().zip(added).for_each(|(sum, value)| *sum += weight * value);
        Ok(())
    }

    /// Lets `add` add to each part of `size` parameters, with some scratch.
    fn add_parts(
        &mut self,
        size: usize,
        scratch: usize,
        flops: f64,
        print: impl Fn() -> u64,
        driver: &mut Driver<'_>,
        add: impl Fn(usize, &mut [f64], &mut [f64]) + Sync,
    ) -> Result<(), CoreError> {
        let mut taken = self.unfinished.taken(&print)?;
        let parts = self.values.chunks_mut(size).enumerate();
        let outcome = driver.resume(&mut taken, parts, flops, scratch, |(k, part), scratch| {
            add(k, part, scratch);
        });
        match outcome {
            Ok(()) => self.unfinished.clear(),
            Err(_) => self.unfinished.keep_add(taken, &print),
        }
        outcome
    }
}

impl Stored for DiagonalSum {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        content.size("", "edge", self.num_params());
        content.array("", "values", self.values()?);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let n = source.size("", "edge")?;
        if n == 0 {
            return Err(misfit("the diagonal", n, "values"));
        }
        let values = source.array("the diagonal of the curvature", "", "values", n)?;
        Ok(Self { values, unfinished: Unfinished::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn rows_and_head_agree() {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        // Two outputs, features (1, 2): J rows are sqrt(w_c) (e_c (x) a).
        let mut rows = DiagonalSum::new(4).unwrap();
        rows.add_rows(&[2.0f32, 4.0, 0.0, 0.0, 0.0, 0.0, 3.0, 6.0], &mut driver).unwrap();
        let mut head = DiagonalSum::new(4).unwrap();
        head.add_head(&[1.0, 2.0], &[4.0, 9.0], 2, &mut driver).unwrap();
        assert_eq!(rows.values().unwrap(), [4.0, 16.0, 9.0, 36.0]);
        assert_eq!(rows.values(), head.values());
        let bad = [f64::INFINITY, 9.0];
        assert!(head.add_head(&[1.0, 2.0], &bad, 2, &mut driver).is_err());
        // Three outputs do not divide four parameters, and no outputs hold none.
        for outputs in [0, 3] {
            let error = head.add_head(&[1.0], &[1.0; 3], outputs, &mut driver);
            assert!(matches!(error, Err(CoreError::Shape { .. })));
        }
        assert!(rows.add_rows(&[1.0, 2.0], &mut driver).is_err());
        assert_eq!(rows.values(), head.values());
        head.merge(&rows, 1.0).unwrap();
        assert_eq!(head.values().unwrap(), [8.0, 32.0, 18.0, 72.0]);
        assert!(head.merge(&DiagonalSum::new(5).unwrap(), 1.0).is_err());
        assert!(DiagonalSum::new(0).is_err());
    }

    #[test]
    fn an_interrupted_call_goes_on_where_it_was() {
        let workers = Workers::new(1).unwrap();
        let n = 3 * PART + 5;
        let rows: Vec<f64> = (0..2 * n).map(|i| (i % 9) as f64).collect();
        let mut truth = None;
        for k in 0..6 {
            let mut calls = 0;
            let mut monitor = |_| {
                calls += 1;
                calls != k
            };
            let mut driver = Driver::new(&workers, &mut monitor).with_round(1.0);
            let mut sum = DiagonalSum::new(n).unwrap();
            if sum.add_rows(&rows, &mut driver).is_err() {
                assert_eq!(sum.values(), Err(CoreError::Incomplete));
                assert_eq!(sum.add_rows(&rows[n..], &mut driver), Err(CoreError::Incomplete));
                sum.add_rows(&rows, &mut driver).unwrap();
            }
            let values = sum.values().unwrap().to_vec();
            assert_eq!(truth.get_or_insert_with(|| values.clone()), &values);
        }
    }
}
