//! roomcast brings events from Kafka and NATS JetStream into the chatrooms of IM providers.
//!
//! # The way of a record
//!
//! A source in [`broker`] reads a *record* and puts it into the driver's inbox. [`driver`], the one
//! loop, has [`core::decode`] make an *event* of it and [`core::route`] find the *route* that takes
//! it: whose account sends it, to which rooms, with which content. That gives *messages*, one for
//! each room, which the scheduler ([`core::schedule`]) takes into its *lanes*, together with a
//! ticket for each: the record is *settled* when the last ticket is punched.
//!
//! Where a route takes its rooms from a directory, [`directory`] keeps the table that the key is looked
//! up in; a record whose key is not known may wait for it in the scheduler, before it has any message.
//!
//! A letter that somebody asks for again ([`letters`]) is a record, too: a request, which a source beside the
//! dead letters reads. The routes make of it what the letter owes ([`core::replay`]), in the background's
//! priority, and before it is settled the driver writes what became of the letter into the table.
//!
//! Whenever quotas, gates, room paces and the order in a lane allow it, the scheduler gives out an
//! effect to send. The driver has the account's provider ([`core::provider`]) make a *call* of it and
//! [`http`] carry it out, once; the provider reads the answer, or the lack of one, as an *outcome*
//! for each message. The scheduler's *verdict* follows: accepted, again (back to the front of its
//! lane, at a time), or dead letter. A *letter* ([`core::letter`]) goes back to the broker, and its
//! ticket is punched when the broker has confirmed it. With the last ticket the driver tells the
//! source that the record is settled; the source acks it, or moves its watermark
//! ([`core::watermark`]) and commits.
//!
//! Every turn of the loop is the same: one thing that happened, then effects until there is none,
//! then sleep until the next thing or the time that the scheduler asked to be woken at. When as much
//! is held as may be, the sources pause and poll on: nothing waits or grows without a bound.
//!
//! # The import law
//!
//! `core` is pure: it is handed time, randomness and the contents of files, and uses nothing of the
//! crate but itself. `broker`, `http`, `clock`, `config` and `telemetry` know `core` alone, and not
//! each other. `driver` knows `core`, `broker`, `http` and `clock`; `directory`, `replica` and
//! `letters` know `core` and `broker`; `admin` knows `core`, `letters` and the driver's handle;
//! `simulator` knows types of `core`. `app` wires all of them, `cli` is the commands, and nothing uses
//! either. `tests/layout` holds the source to it.

// In the order of the data; the blank lines keep the formatter from another one.

pub mod core;

#[cfg(feature = "daemon")]
pub mod broker;
#[cfg(feature = "daemon")]
pub mod http;

#[cfg(feature = "daemon")]
pub mod clock;
#[cfg(feature = "daemon")]
pub mod driver;

#[cfg(feature = "daemon")]
pub mod directory;

#[cfg(feature = "daemon")]
pub mod replica;

#[cfg(feature = "daemon")]
pub mod letters;

#[cfg(feature = "daemon")]
pub mod config;

#[cfg(feature = "daemon")]
pub mod app;

#[cfg(feature = "daemon")]
pub mod admin;

#[cfg_attr(not(feature = "daemon"), allow(dead_code, reason = "what the server alone calls"))]
pub mod simulator;

#[cfg(feature = "daemon")]
pub mod telemetry;

#[cfg(feature = "daemon")]
pub mod cli;
