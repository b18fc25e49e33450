//! Decides what runs next, performs effects, feeds events back.
