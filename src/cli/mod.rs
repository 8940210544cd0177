//! One file a command: arguments in, exit code out. Commands put the parts together and judge
//! nothing themselves; nothing but `main` uses them.

pub mod simulate;
