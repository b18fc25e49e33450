//! Other clients of the API against the stand-in.
