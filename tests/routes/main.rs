//! Routes through the public API.

mod ids;
mod plans;
mod problems;
mod robust;
mod support;
