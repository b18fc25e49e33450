//! Configuration: as typed (`raw`), then checked once (`checked`).
