//! Puts certificates where they are used.
//!
//! [`Target`] is the contract, [`files`] keeps it for a directory, [`command`] runs what makes a server take the new
//! files up. What is delivered when, and how often it is tried again, is decided in `engine` and `run`, not here.

pub mod files;
