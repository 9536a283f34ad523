//! The sizes of all benchmarks, in one place.

/// A Dense layer's problem: `rows` points with `dim` features (the bias counted) and `outputs`.
#[derive(Clone, Copy)]
pub struct Head {
    pub rows: usize,
    pub dim: usize,
    pub outputs: usize,
}

/// Softmax heads: digits, then wide features with few classes, then many classes.
pub const HEADS: [Head; 5] = [
    Head { rows: 1_797, dim: 65, outputs: 10 },
    Head { rows: 2_048, dim: 513, outputs: 10 },
    Head { rows: 2_048, dim: 385, outputs: 12 },
    Head { rows: 2_048, dim: 769, outputs: 4 },
    Head { rows: 2_048, dim: 129, outputs: 100 },
];

/// Heads whose posteriors are asked questions: a factor of 4,617 and one of 2,307.
pub const POSTERIORS: [Head; 2] =
    [Head { rows: 2_048, dim: 513, outputs: 10 }, Head { rows: 2_048, dim: 769, outputs: 4 }];

/// Gaussian heads: one eigendecomposition of edge 513 or 1,025 for any number of outputs.
pub const GAUSSIAN_HEADS: [Head; 2] =
    [Head { rows: 2_048, dim: 513, outputs: 10 }, Head { rows: 2_048, dim: 1_025, outputs: 100 }];

/// Edges of matrices to factor and to solve with; 1,025 and 2,049 straddle a tile's edge.
pub const EDGES: [usize; 4] = [1_025, 2_049, 4_617, 5_130];

/// Rows and parameters of a general subset.
pub const JACOBIANS: [(usize, usize); 2] = [(2_048, 1_000), (2_048, 5_000)];

/// Right-hand sides, or samples, at a time.
pub const DRAWS: usize = 200;

/// Points of a functional covariance: few enough for triangular solves, and many.
pub const FEW_POINTS: usize = 64;
pub const MANY_POINTS: usize = 1_000;

/// Edges of faer's sequential product: a tile's, and one that leaves the caches.
pub const PRODUCTS: [usize; 3] = [128, 256, 1_024];
