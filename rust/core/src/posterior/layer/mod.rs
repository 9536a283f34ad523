//! The posterior of a Dense layer by its Kronecker factors, `H = weight B (x) A`.
//!
//! `A` is a sum of `a a^T` over the layer's inputs, `B` one of the curvature of its outputs. For a
//! prior `T = scale S (x) R` with diagonal `S` (outputs) and `R` (inputs), one eigendecomposition each,
//! `R^-1/2 A R^-1/2 = U diag(m) U^T` and `S^-1/2 B S^-1/2 = V diag(l) V^T`, gives the precision
//! `T'^1/2 (V (x) U) diag(weight l_j m_k + scale) (V (x) U)^T T'^1/2` with `T' = S (x) R`: of any
//! multiple of the prior, and of any weight, in `O(O D')`. Parameters go by output, then input.

mod dense;
mod functional;

use std::sync::Arc;

use crate::assemble::diagonal::DiagonalSum;
use crate::assemble::head::{HeadSum, Outputs};
use crate::cholesky::CLEAR;
use crate::error::{CoreError, check_prior_precision};
use crate::posterior::PRIOR;
use crate::posterior::eigen::{Eigen, eigen, in_metric};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// Rows that one product takes together.
const ROWS: usize = 128;

/// Where `B` comes from.
#[derive(Debug)]
pub enum OutputFactor<'s> {
    /// `sum g g^T`, of rows `g` of a root of the curvature times the layer's Jacobian.
    Gram(&'s mut HeadSum),
    /// `sum diag(p) - p p^T`, from the products `sum p p^T` of the probabilities.
    Softmax(&'s mut HeadSum),
    /// A diagonal.
    Diagonal(&'s DiagonalSum),
}

impl OutputFactor<'_> {
    /// `S^-1/2 B S^-1/2`, column by column.
    fn in_metric(self, root: &[f64], driver: &mut Driver<'_>) -> Result<Buffer, CoreError> {
        let dim = root.len();
        match self {
            Self::Gram(sum) => in_metric(products(sum, dim, driver)?, root),
            Self::Softmax(sum) => {
                let mut matrix = in_metric(products(sum, dim, driver)?, root)?;
                laplacian(&mut matrix, root);
                Ok(matrix)
            }
            Self::Diagonal(sum) => {
                let values = sum.values()?;
                CoreError::check_len("outputs of the diagonal", dim, values.len())?;
                let mut matrix = Buffer::zeros("a matrix of outputs", dim * dim)?;
                for (k, (value, root)) in values.iter().zip(root).enumerate() {
                    matrix[k * (dim + 1)] = value * root * root;
                }
                Ok(matrix)
            }
        }
    }
}

/// From `M_cd = r_c W_cd r_d` to `r_c (diag(W 1) - W)_cd r_d`. The rows of `diag(p) - p p^T` add up to
/// zero, so that its diagonal is the sum of what is beside it, and no term a difference of near equals.
fn laplacian(matrix: &mut [f64], root: &[f64]) {
    let dim = root.len();
    for (j, column) in matrix.chunks_exact_mut(dim).enumerate() {
        let mut sum = 0.0;
        for (i, (value, own)) in column.iter_mut().zip(root).enumerate() {
            if i != j {
                sum += *value / own;
            }
            *value = -*value;
        }
        column[j] = sum * root[j];
    }
}

/// The packed products of a sum with one output of weight one.
fn products<'s>(
    sum: &'s mut HeadSum,
    dim: usize,
    driver: &mut Driver<'_>,
) -> Result<&'s [f64], CoreError> {
    CoreError::check_len("numbers of a row of the sum", dim, sum.num_features())?;
    CoreError::check_len("outputs of the sum", 1, sum.num_outputs())?;
    if sum.outputs() == Outputs::Softmax {
        return Err(CoreError::Shape { what: "independent outputs", expected: 1, found: 0 });
    }
    Ok(sum.finish(driver)?.block(0, 0))
}

/// Both eigendecompositions, in the metric of a prior.
#[derive(Debug)]
pub struct LayerBasis {
    inputs: Eigen,
    outputs: Eigen,
    /// `R^-1/2`.
    input_root: Vec<f64>,
    /// `S^-1/2`.
    output_root: Vec<f64>,
}

impl LayerBasis {
    /// From the sum `A` (one independent output, weights of one), `B`, and the prior `R` (`D'` values)
    /// and `S` (`O` values). Cost: an eigendecomposition of edge `D'`, and one of edge `O`.
    ///
    /// # Errors
    /// [`CoreError::Shape`] and [`CoreError::PriorPrecision`] before the work,
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`], [`CoreError::Eigen`]; the sums stay.
    pub fn new(
        inputs: &mut HeadSum,
        outputs: OutputFactor<'_>,
        input_prior: &[f64],
        output_prior: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        check_prior_precision(input_prior)?;
        check_prior_precision(output_prior)?;
        let input_root = list::collect(PRIOR, input_prior.iter().map(|t| 1.0 / t.sqrt()))?;
        let output_root = list::collect(PRIOR, output_prior.iter().map(|t| 1.0 / t.sqrt()))?;
        let matrix = in_metric(products(inputs, input_root.len(), driver)?, &input_root)?;
        let inputs = eigen(matrix, input_root.len(), driver)?;
        let matrix = outputs.in_metric(&output_root, driver)?;
        let outputs = eigen(matrix, output_root.len(), driver)?;
        Ok(Self { inputs, outputs, input_root, output_root })
    }

    /// Bytes of a basis, and of what stands between the sums and it for a while.
    pub fn bytes_of(num_outputs: usize, num_inputs: usize) -> (usize, usize) {
        let square = |n: usize| n.saturating_mul(n).saturating_mul(size_of::<f64>());
        // A matrix beside the vectors, and the work space of a decomposition.
        let between = square(num_outputs.max(num_inputs)).saturating_mul(3);
        (square(num_outputs).saturating_add(square(num_inputs)), between)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        let roots = self.input_root.len() + self.output_root.len();
        self.inputs.nbytes() + self.outputs.nbytes() + roots * size_of::<f64>()
    }
}

/// `N(mean, A^-1)` of a layer; parameters by output, then input.
#[derive(Clone, Debug)]
pub struct LayerPosterior {
    basis: Arc<LayerBasis>,
    weight: f64,
    scale: f64,
}

impl LayerPosterior {
    /// The posterior with `weight B (x) A` under `scale` times the prior of a basis. `O(O + D')`.
    ///
    /// The errors of the decompositions move a precision `weight l m + scale` by at most
    /// `weight (|dB| |A| + |B| |dA|)`.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`], [`CoreError::NegativeWeight`]; [`CoreError::LostInRounding`]
    /// where the least of the precisions is not clearly above that.
    pub fn new(basis: Arc<LayerBasis>, weight: f64, scale: f64) -> Result<Self, CoreError> {
        check_prior_precision(&[scale])?;
        crate::input::check_weight(weight)?;
        let (l, m) = (&basis.outputs.values, &basis.inputs.values);
        let (most_l, most_m) = (l[l.len() - 1], m[m.len() - 1]);
        let rounding = weight * (basis.outputs.rounding * most_m + most_l * basis.inputs.rounding);
        let least = weight * l[0] * m[0] + scale;
        if least < CLEAR * rounding {
            let lost =
                |l: f64| m.iter().filter(|m| weight * l * **m + scale < CLEAR * rounding).count();
            let norm = weight * most_l * most_m + scale;
            let roots = basis.output_root.iter().copied().fold(0.0, f64::max)
                * basis.input_root.iter().copied().fold(0.0, f64::max);
            let prior = scale / (roots * roots);
            return Err(CoreError::LostInRounding {
                size: l.len() * m.len(),
                prior,
                eigenvalue: least / norm,
                rounding: rounding / norm,
                directions: l.iter().copied().map(lost).sum(),
                least: prior * (2.0 * CLEAR * rounding / scale),
            });
        }
        Ok(Self { basis, weight, scale })
    }

    /// Number of parameters `O D'`.
    pub fn num_params(&self) -> usize {
        self.num_outputs() * self.num_inputs()
    }

    /// Number of outputs of the layer `O`.
    pub fn num_outputs(&self) -> usize {
        self.basis.outputs.dim()
    }

    /// Length of a layer input `D'`.
    pub fn num_inputs(&self) -> usize {
        self.basis.inputs.dim()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.basis.nbytes()
    }

    /// `weight l_j m_k + scale` over `k`.
    fn precisions(&self, j: usize) -> impl Iterator<Item = f64> + '_ {
        let weight = self.weight * self.basis.outputs.values[j];
        self.basis.inputs.values.iter().map(move |m| weight * m + self.scale)
    }

    /// A function of each precision, `O x D'`.
    fn of_precisions(&self, function: fn(f64) -> f64) -> Result<Buffer, CoreError> {
        let mut values = Buffer::zeros("precisions in the eigenbasis", self.num_params())?;
        for (j, row) in values.chunks_exact_mut(self.num_inputs()).enumerate() {
            row.iter_mut().zip(self.precisions(j)).for_each(|(value, a)| *value = function(a));
        }
        Ok(values)
    }

    /// `log |A|`.
    pub fn log_det(&self) -> f64 {
        let roots = |roots: &[f64]| roots.iter().map(|r| -2.0 * r.ln()).sum::<f64>();
        let prior = self.num_inputs() as f64 * roots(&self.basis.output_root)
            + self.num_outputs() as f64 * roots(&self.basis.input_root);
        let own = (0..self.num_outputs()).map(|j| self.precisions(j).map(f64::ln).sum::<f64>());
        own.sum::<f64>() + prior
    }

    /// `tr(T A^-1)`.
    pub fn prior_trace(&self) -> f64 {
        let row = |j| self.precisions(j).map(|a| self.scale / a).sum::<f64>();
        (0..self.num_outputs()).map(row).sum()
    }

    /// `U^T R^-1/2`, row by row, into `out`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn input_rotation(&self, out: &mut [f64]) -> Result<(), CoreError> {
        rotation(&self.basis.inputs, &self.basis.input_root, out)
    }

    /// `V^T S^-1/2`, row by row, into `out`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn output_rotation(&self, out: &mut [f64]) -> Result<(), CoreError> {
        rotation(&self.basis.outputs, &self.basis.output_root, out)
    }

    /// The precision along each pair of rows of the two rotations, `O x D'`, into `out`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn rotated_precision(&self, out: &mut [f64]) -> Result<(), CoreError> {
        CoreError::check_len("the precisions", self.num_params(), out.len())?;
        for (j, row) in out.chunks_exact_mut(self.num_inputs()).enumerate() {
            row.iter_mut().zip(self.precisions(j)).for_each(|(value, a)| *value = a);
        }
        Ok(())
    }
}

fn rotation(eigen: &Eigen, root: &[f64], out: &mut [f64]) -> Result<(), CoreError> {
    let dim = eigen.dim();
    CoreError::check_len("the rotation", dim * dim, out.len())?;
    for (row, vector) in out.chunks_exact_mut(dim).zip(eigen.vectors.chunks_exact(dim)) {
        let pairs = vector.iter().zip(root);
        row.iter_mut().zip(pairs).for_each(|(value, (u, root))| *value = u * root);
    }
    Ok(())
}

impl Stored for LayerPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let (mut content, basis) = (Content::default(), &*self.basis);
        content.number("", "weight", self.weight);
        content.number("", "scale", self.scale);
        for (prefix, eigen, root) in [
            ("inputs_", &basis.inputs, &basis.input_root),
            ("outputs_", &basis.outputs, &basis.output_root),
        ] {
            content.size(prefix, "edge", eigen.dim());
            content.number(prefix, "rounding", eigen.rounding);
            content.array(prefix, "vectors", &eigen.vectors);
            content.array(prefix, "values", &eigen.values);
            content.array(prefix, "root", root);
        }
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let side = |prefix| -> Result<(Eigen, Vec<f64>), CoreError> {
            let dim = source.size(prefix, "edge")?;
            if dim == 0 {
                return Err(misfit("the posterior of a layer", 0, "inputs or outputs"));
            }
            let square = dim.saturating_mul(dim);
            let eigen = Eigen {
                vectors: source.array("the eigenvectors", prefix, "vectors", square)?,
                values: source.array("the eigenvalues", prefix, "values", dim)?,
                rounding: source.number(prefix, "rounding")?,
            };
            let root = list::copy_of(PRIOR, &source.array(PRIOR, prefix, "root", dim)?)?;
            Ok((eigen, root))
        };
        let (inputs, input_root) = side("inputs_")?;
        let (outputs, output_root) = side("outputs_")?;
        let basis = Arc::new(LayerBasis { inputs, outputs, input_root, output_root });
        let (weight, scale) = (source.number("", "weight")?, source.number("", "scale")?);
        Ok(Self { basis, weight, scale })
    }
}

#[cfg(test)]
mod tests;
