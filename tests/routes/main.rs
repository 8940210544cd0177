//! Routes through the public API.

mod directories;
mod ids;
mod messages;
mod plans;
mod problems;
mod robust;
mod support;
