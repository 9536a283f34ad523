//! Where numbers lie: memory, symmetric matrices in tiles, and a head's in blocks.

pub mod blocks;
pub mod buffer;
#[cfg(all(target_os = "linux", target_endian = "little"))]
mod file_map;
pub mod list;
#[cfg(target_os = "linux")]
mod pages;
pub mod rows;
pub mod stored;
pub mod tiles;
