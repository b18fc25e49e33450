//! The battery that every plug-in must pass.
