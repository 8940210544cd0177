//! What a record becomes, whichever source it comes from.

use std::sync::Arc;

use super::ReplayConfig;
use crate::core::model::{Plan, Record, SourceId};
use crate::core::route::Rules;
use crate::core::route::directory::Directories;

/// The routes, for live records and for requests for replays.
#[derive(Debug)]
pub struct Routing {
    rules: Arc<Rules>,
    /// Sources of requests, with the source that each stands beside.
    replays: Vec<(SourceId, SourceId)>,
}

impl Routing {
    /// Of these routes.
    pub fn new(rules: Arc<Rules>, replays: &[ReplayConfig]) -> Self {
        Self { rules, replays: replays.iter().map(|replay| (replay.id, replay.beside)).collect() }
    }

    /// What becomes of a record. One that comes by a request still carries what was asked.
    pub fn plan(&self, record: &Record, directories: &Directories) -> Plan {
        match self.replays.iter().find(|(id, _)| *id == record.id.source) {
            None => self.rules.plan_with(record, directories),
            Some((_, beside)) => self.rules.plan_request(record, *beside, directories),
        }
    }
}
