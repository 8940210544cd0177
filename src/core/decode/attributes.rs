//! The attributes of a CloudEvent: what CloudEvents 1.0.2 says of their names, types and values.
//!
//! Checked in the structured form, whichever way the event came. What breaks a rule makes the record
//! garbled, with the attribute, what it is and what would be right. Called by [`super`] alone.
//!
//! Two rules are wider here, because producers break them and nothing is lost by it. A `source` is any
//! text without spaces, not only a URI reference of RFC 3986: some are IRIs, such as `/直播`. A whole
//! number may be outside of 32 bits: it reaches the filters as it is.

use std::sync::Arc;

use super::{Cloud, Garbled, garbled};
use crate::core::time::Wall;
use crate::core::value::{Fields, Val};

/// The attributes that every CloudEvent has.
pub const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Whether this is a version that is known: 1.0, also with a patch level.
pub fn known_version(version: &str) -> bool {
    version == "1.0" || version.strip_prefix("1.0.").is_some_and(|patch| patch.parse::<u32>().is_ok())
}

/// Whether a member of the JSON form is no attribute.
pub fn is_data(name: &str) -> bool {
    matches!(name, "data" | "data_base64")
}

/// Checks all attributes, and gives those that roomcast itself uses.
pub fn check(fields: &Fields) -> Result<Cloud, Garbled> {
    let version = text(fields, "specversion")?;
    if !known_version(&version) {
        return garbled(format!("CloudEvents specversion {:?}; \"1.0\" is known", short(&version)));
    }
    let (source, id, kind) = (text(fields, "source")?, text(fields, "id")?, text(fields, "type")?);
    let mut time = None;
    for (name, value) in fields.iter().filter(|(name, _)| !is_data(name)) {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return garbled(format!(
                "a CloudEvent with the attribute {:?}; names of a to z and 0 to 9 are allowed",
                short(name)
            ));
        }
        let wanted = match (&**name, value) {
            // A text without characters that attributes may not have, for all the others.
            (_, Val::Str(text)) if !text.chars().all(allowed) => Some("a text without control characters"),
            ("source", Val::Str(text)) if text.contains(char::is_whitespace) => {
                Some("a URI reference without spaces, such as /live/gifts")
            }
            ("dataschema", Val::Str(text)) if scheme(text).is_some() && is_uri_reference(text) => None,
            ("dataschema", _) => Some("an absolute URI (RFC 3986)"),
            ("datacontenttype", Val::Str(text)) if is_media_type(text) => None,
            ("datacontenttype", _) => Some("a media type, such as application/json"),
            ("subject", Val::Str(text)) if !text.is_empty() => None,
            ("subject", _) => Some("a text that is not empty"),
            ("time", Val::Str(text)) => {
                time = rfc3339(text).map(|at| (at, text.clone()));
                time.is_none().then_some("a time of RFC 3339, such as 2026-01-31T23:59:59Z")
            }
            ("time", _) => Some("a time of RFC 3339, such as 2026-01-31T23:59:59Z"),
            (_, Val::Str(_) | Val::Bool(_) | Val::Int(_)) => None,
            _ => Some("a text, a boolean or a whole number; anything else belongs into data"),
        };
        if let Some(wanted) = wanted {
            return garbled(format!(
                "a CloudEvent whose {:?} is {}; {wanted} is wanted",
                short(name),
                value.shown()
            ));
        }
    }
    Ok(Cloud { source, id, kind, time })
}

/// A required attribute.
fn text(fields: &Fields, name: &str) -> Result<Arc<str>, Garbled> {
    match fields.get(name) {
        Some(Val::Str(text)) if !text.is_empty() => Ok(text.clone()),
        None => garbled(format!("a CloudEvent without {name:?}, which every CloudEvent has")),
        Some(other) => garbled(format!(
            "a CloudEvent whose {name:?} is {}; a text that is not empty is wanted",
            other.shown()
        )),
    }
}

/// The beginning of what a record may have at any length.
pub fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What texts of attributes may hold: neither control characters nor what Unicode calls noncharacters.
fn allowed(c: char) -> bool {
    !c.is_control() && u32::from(c) & 0xfffe != 0xfffe && !('\u{fdd0}'..='\u{fdef}').contains(&c)
}

/// A time as RFC 3339 writes it: jiff alone would take other forms of ISO 8601 too.
fn rfc3339(text: &str) -> Option<Wall> {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let (seconds, rest) = shape.split_at_checked("0000-00-00T00:00:00".len())?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return None,
        None => rest,
    };
    let right = seconds.eq_ignore_ascii_case("0000-00-00T00:00:00")
        && (zone.eq_ignore_ascii_case("z") || matches!(zone, "+00:00" | "-00:00"));
    // Beyond nanoseconds nobody measures, and jiff does not read.
    let digits = seconds.len() + rest.len() - zone.len();
    let cut = format!("{}{}", &text[..digits.min(seconds.len() + 10)], &text[digits..]);
    if right { Wall::parse_rfc3339(&cut) } else { None }
}

/// `type/subtype` of RFC 2046, with any parameters.
fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let kind = text.split(';').next().unwrap_or_default().trim();
    kind.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// The scheme of a URI, when it has one.
fn scheme(text: &str) -> Option<&str> {
    let end = text.find([':', '/', '?', '#'])?;
    let scheme = &text[..end];
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    (text[end..].starts_with(':') && good).then_some(scheme)
}

/// URI-reference of RFC 3986, section 4.1, but for the inside of its authority.
fn is_uri_reference(text: &str) -> bool {
    let rest = match scheme(text) {
        Some(scheme) => &text[scheme.len() + 1..],
        // Before the first slash a colon would end a scheme.
        None if text.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':')) => return false,
        None => text,
    };
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let path = match before.strip_prefix("//") {
        Some(authority) => {
            let end = authority.find(['/', '?']).unwrap_or(authority.len());
            if !characters(&authority[..end], b"[]:@") {
                return false;
            }
            &authority[end..]
        }
        None => before,
    };
    characters(path, b":@/?") && characters(fragment, b":@/?")
}

/// Whether a part of a URI holds only unreserved characters, sub-delimiters, escapes, and these.
fn characters(part: &str, more: &[u8]) -> bool {
    let bytes = part.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) || more.contains(byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        let at = Some(Wall(1_522_900_584_000));
        for text in [
            "2018-04-05T03:56:24Z",
            "2018-04-05t03:56:24z",
            "2018-04-05T03:56:24.000Z",
            "2018-04-05T03:56:24.000000000000Z",
            "2018-04-05T11:56:24+08:00",
            "2018-04-04T23:56:24-04:00",
        ] {
            assert_eq!(rfc3339(text), at, "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2018-04-05",
            "2018-04-05T03:56Z",
            "2018-04-05T03:56:24",
            "2018-04-05 03:56:24Z",
            "20180405T035624Z",
            "2018-04-05T03:56:24.Z",
            "2018-04-05T03:56:24+0800",
            "2018-04-05T03:56:24+08:00[Asia/Shanghai]",
            "2018-13-05T03:56:24Z",
            "2018-04-05T03:56:24Z ",
            "2018-04-05T03:56:24.1你Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn uri_references_are_those_of_rfc_3986() {
        // The first seven are the specification's examples of a source.
        for text in [
            "https://github.com/cloudevents",
            "mailto:cncf-wg-serverless@lists.cncf.io",
            "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
            "/cloudevents/spec/pull/123",
            "/sensors/tn-1234567/alerts",
            "1-555-123-4567",
            "/mycontext/subcontext",
            "//host:80/p?q=a/b?c#f",
            "http://[::1]:8080/a%20b",
            "#fragment",
            "?query",
        ] {
            assert!(is_uri_reference(text), "{text}");
        }
        for text in ["a b", "/直播", "1:a", "a%2", "a%zz", "/a[1]", "/a#b#c", "/a\\b", "<a>", ":a", "a^b"] {
            assert!(!is_uri_reference(text), "{text}");
        }
    }
}
