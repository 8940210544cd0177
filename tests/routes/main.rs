//! Routes through the public API.

mod ids;
mod messages;
mod plans;
mod problems;
mod robust;
mod support;
