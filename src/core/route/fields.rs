//! The fields of each message kind, as section 10 of the design lists them: what a `message` table
//! may hold and must hold. Tables only; `message` reads by them.

use crate::core::provider::KindName;

/// What a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A text; numbers and booleans become texts.
    Text,
    /// A whole number that is not negative.
    Whole,
    /// A number, or a text that is one.
    Number,
    /// Any JSON.
    Json,
}

/// A field's name, what it takes, and whether it must be there.
pub type Field = (&'static str, Want, bool);

const TEXT: &[Field] = &[("text", Want::Text, true)];
const IMAGE: &[Field] = &[
    ("url", Want::Text, true),
    ("name", Want::Text, false),
    ("width", Want::Whole, false),
    ("height", Want::Whole, false),
    ("md5", Want::Text, false),
    ("bytes", Want::Whole, false),
    ("extension", Want::Text, false),
    ("secret", Want::Text, false),
];
const AUDIO: &[Field] = &[
    ("url", Want::Text, true),
    ("name", Want::Text, false),
    ("duration_ms", Want::Whole, false),
    ("bytes", Want::Whole, false),
    ("md5", Want::Text, false),
    ("extension", Want::Text, false),
    ("secret", Want::Text, false),
];
const VIDEO: &[Field] = &[
    ("url", Want::Text, true),
    ("name", Want::Text, false),
    ("duration_ms", Want::Whole, false),
    ("width", Want::Whole, false),
    ("height", Want::Whole, false),
    ("bytes", Want::Whole, false),
    ("md5", Want::Text, false),
    ("extension", Want::Text, false),
    ("secret", Want::Text, false),
    ("thumb", Want::Text, false),
    ("thumb_secret", Want::Text, false),
];
const FILE: &[Field] = &[
    ("url", Want::Text, true),
    ("name", Want::Text, false),
    ("bytes", Want::Whole, false),
    ("md5", Want::Text, false),
    ("extension", Want::Text, false),
    ("secret", Want::Text, false),
];
const LOCATION: &[Field] =
    &[("lat", Want::Number, true), ("lng", Want::Number, true), ("address", Want::Text, true)];
const COMMAND: &[Field] = &[("action", Want::Text, true), ("data", Want::Json, false)];
const CUSTOM: &[Field] =
    &[("event", Want::Text, true), ("fields", Want::Json, false), ("attach", Want::Json, false)];

/// The kinds that a message table may name, with their fields (section 10 of the design).
pub const KINDS: &[(&str, KindName, &[Field])] = &[
    ("text", KindName::Text, TEXT),
    ("image", KindName::Image, IMAGE),
    ("audio", KindName::Audio, AUDIO),
    ("video", KindName::Video, VIDEO),
    ("file", KindName::File, FILE),
    ("location", KindName::Location, LOCATION),
    ("command", KindName::Command, COMMAND),
    ("custom", KindName::Custom, CUSTOM),
    ("tip", KindName::Tip, TEXT),
];
