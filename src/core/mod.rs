//! The pure core: it is handed time and randomness, decides, and returns effects. It never waits,
//! never reads a clock, a file or the environment, and knows no broker and no HTTP client.

pub mod balance;
pub mod decode;
pub mod explain;
pub mod ledger;
pub mod letter;
pub mod model;
pub mod partitions;
pub mod provider;
pub mod replay;
pub mod route;
pub mod schedule;
pub mod section;
pub mod share;
pub mod time;
pub mod value;
pub mod watermark;
