//! Sums of `J^T Lambda J` over the data: one file for each way that `J` comes.
//!
//! Each sum takes points in any number of calls, merges with another of its kind, and goes on after
//! an interrupt: the call that was broken off is made again, and the bits are those of an unbroken
//! one. What comes in is checked, and memory taken, before anything changes. The order of sums, and
//! with it the last bits, is that of the calls.

pub mod diagonal;
pub mod full;
pub mod head;
mod panel;
pub mod rows;
mod unfinished;
mod weighted;
