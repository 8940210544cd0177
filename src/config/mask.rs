//! Blots secrets out of config texts, byte for byte, so that spans still fit.
//!
//! A caret picture shows whole lines, and the line of a mistake, or the one beside it, may hold a
//! secret. Where the file could be parsed, the values of keys that name secrets are blotted out by
//! their spans; where it could not, the rest of each line that gives such a key a value. User names
//! and passwords in addresses go in both cases.

use super::file::{FileLayer, Spans};
use crate::core::section::names_a_secret;

/// What stands for each byte that is hidden.
const BLOT: u8 = b'*';

/// The text as it may be shown.
pub fn text(text: &str, layer: Option<&FileLayer>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    match layer {
        Some(layer) => by_span(&mut bytes, layer.spans()),
        None => by_line(&mut bytes),
    }
    addresses(&mut bytes);
    String::from_utf8(bytes).expect("whole characters were replaced by ASCII")
}

/// A text with the user information of the addresses in it blotted out.
pub fn address(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    addresses(&mut bytes);
    String::from_utf8(bytes).expect("whole characters were replaced by ASCII")
}

fn blot(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        *byte = BLOT;
    }
}

fn by_span(bytes: &mut [u8], spans: &Spans) {
    for (key, below) in &spans.table {
        if names_a_secret(key) && below.table.is_empty() {
            blot(&mut bytes[below.value.clone()]);
        }
        by_span(bytes, below);
    }
    for item in &spans.list {
        by_span(bytes, item);
    }
}

fn by_line(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(equals) = find(bytes, at, b"=") {
        at = equals + 1;
        let is_name =
            |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'"' | b'\'' | b' ' | b'\t');
        let start = bytes[..equals].iter().rposition(|b| !is_name(b)).map_or(0, |before| before + 1);
        let key = String::from_utf8_lossy(&bytes[start..equals]).into_owned();
        if !names_a_secret(key.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))) {
            continue;
        }
        let value = bytes[at..].iter().position(|b| !matches!(b, b' ' | b'\t')).map_or(at, |skip| at + skip);
        // A string over several lines ends at its marks; with the marks missing, at the file's end.
        let marks =
            bytes.get(value..value + 3).filter(|m| *m == b"\"\"\"" || *m == b"'''").map(<[u8]>::to_vec);
        let end = match marks {
            Some(marks) => find(bytes, value + 3, &marks).map(|end| end + 3),
            None => find(bytes, value, b"\n"),
        }
        .unwrap_or(bytes.len());
        blot(&mut bytes[value..end]);
        at = end;
    }
}

fn addresses(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(scheme) = find(bytes, at, b"://") {
        at = scheme + 3;
        let stop = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'"' | b'\'' | b',' | b'?' | b'#');
        let end = bytes[at..].iter().position(stop).map_or(bytes.len(), |length| at + length);
        if let Some(host) = bytes[at..end].iter().rposition(|b| *b == b'@') {
            blot(&mut bytes[at..at + host]);
        }
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes.get(from..)?.windows(what.len()).position(|window| window == what).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_whether_the_file_can_be_read_or_not() {
        let whole = "[a]\nclient_secret = \"höll\"\nx = { password = 'p', y = 1 }\nsecret_file = \"/s\"\n";
        let (layer, problems) = FileLayer::parse(&"f".into(), whole);
        assert!(problems.is_empty());
        let shown = text(whole, Some(&layer));
        assert_eq!(shown.len(), whole.len(), "spans must still fit");
        assert_eq!(
            shown,
            "[a]\nclient_secret = *******\nx = { password = ***, y = 1 }\nsecret_file = \"/s\"\n"
        );

        let broken = "app_secret = \"abc\nx = {token='t', y = 1}\npassword = '''p\nq''' \nb = 2\n";
        assert_eq!(
            text(broken, None),
            "app_secret = ****\nx = {token=***********\npassword = ****\n**** \nb = 2\n"
        );
    }

    #[test]
    fn an_address_loses_its_user() {
        assert_eq!(
            address("nats://me:pw@host:4222 and http://host/a@b"),
            "nats://*****@host:4222 and http://host/a@b"
        );
    }
}
