//! nats: not written yet.
use super::{Broker, Section, SourceId};

/// Makes the broker from its source's section.
pub fn build(section: &Section<'_>, _: SourceId) -> Option<Box<dyn Broker>> {
    section.wrong("kind", "nats", "a broker that is built in");
    None
}
