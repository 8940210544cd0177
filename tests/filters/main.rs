//! Filters under attack, through the public API: what hangs, what grows, what nests. Nothing here may
//! take long, hold much memory or reach the end of the stack of a daemon's thread.

mod hostile;
mod measured;
mod page;
