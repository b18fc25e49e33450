//! Puts certificates where they are used.
