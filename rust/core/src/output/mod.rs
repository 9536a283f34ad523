//! What the outputs of a network contribute to its curvature.

pub mod contrast;
pub mod weights;
