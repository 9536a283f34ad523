//! Where numbers lie: memory, symmetric matrices in tiles, and a head's in blocks.

pub mod blocks;
pub mod buffer;
pub mod list;
#[cfg(target_os = "linux")]
mod pages;
pub mod tiles;
