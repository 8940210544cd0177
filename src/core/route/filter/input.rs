//! What a filter looks at: an event, and what is known of its record.

use std::sync::Arc;

use crate::core::model::Record;
use crate::core::value::{Fields, Val};

/// What a filter looks at.
#[derive(Clone, Debug)]
pub struct Input {
    /// The event in its structured form.
    pub event: Val,
    /// The values of [`super::VARIABLES`].
    pub variables: [Val; 3],
}

impl Input {
    /// An event and what [`super::VARIABLES`] are for its record; headers only where a filter looks at them.
    pub fn of(event: Val, key: Option<&str>, record: &Record, with_headers: bool) -> Self {
        let headers = match with_headers {
            false => Val::Null,
            true => {
                let mut fields = Fields::new();
                for (name, value) in &record.headers {
                    // Of a name that repeats, the first, as `Record::header` finds it.
                    fields
                        .entry(Arc::from(&**name))
                        .or_insert_with(|| Val::text(&String::from_utf8_lossy(value)));
                }
                Val::object(fields)
            }
        };
        let key = key.map_or(Val::Null, Val::text);
        Self { event, variables: [key, Val::text(&record.origin.topic), headers] }
    }
}
