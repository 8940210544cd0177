//! How far a partition is finished: not written yet.
