//! Bytes to events: not written yet.
