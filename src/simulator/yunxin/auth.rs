//! Yunxin's four headers: who calls, when, and whether the signature is right.
//!
//! Each failure has a `desc` of its own, with code 414 (`reference/providers.md` B1). Names of
//! headers compare without case, the signature with it: it is lower-case hexadecimal.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use sha1::{Digest, Sha1};

use super::Yunxin;
use super::reply;
use crate::core::time::Wall;
use crate::simulator::floor::Answer;

/// The longest `Nonce`.
const MAX_NONCE: usize = 128;

pub(super) fn check(knobs: &Yunxin, headers: &HeaderMap, wall: Wall) -> Result<(), Answer> {
    judge(knobs, headers, wall).map_err(|(reason, desc)| reply::refused(414, reason, desc))
}

fn judge(knobs: &Yunxin, headers: &HeaderMap, wall: Wall) -> Result<(), (&'static str, &'static str)> {
    const BAD_HEADER: (&str, &str) = ("bad_header", "bad http header");
    let header = |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let need = |name| header(name).filter(|value| !value.is_empty()).ok_or(BAD_HEADER);
    let (key, nonce) = (need("appkey")?, need("nonce")?);
    let (time, sum) = (need("curtime")?, need("checksum")?);
    let media = header(CONTENT_TYPE.as_str()).unwrap_or("").split(';').next().unwrap_or("").trim();
    if nonce.chars().count() > MAX_NONCE || !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(BAD_HEADER);
    }
    if key != knobs.app_key {
        return Err(("bad_app_key", "appkey"));
    }
    if !time.bytes().all(|b| b.is_ascii_digit()) {
        return Err(("bad_time", "CurTime is illegal"));
    }
    let seconds: u64 = time.parse().map_err(|_| ("bad_time", "CurTime is illegal"))?;
    if seconds.abs_diff(wall.seconds()) > knobs.skew.as_secs() {
        return Err(("bad_time", "CurTime is expired"));
    }
    if checksum(&knobs.app_secret, nonce, time) != sum {
        return Err(("bad_checksum", "checksum"));
    }
    Ok(())
}

/// Lower-case hexadecimal SHA-1 of secret, nonce and time, one after the other.
fn checksum(secret: &str, nonce: &str, time: &str) -> String {
    let mut sha = Sha1::new();
    for part in [secret, nonce, time] {
        sha.update(part.as_bytes());
    }
    let mut text = String::with_capacity(40);
    for byte in sha.finalize() {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are a digit"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are a digit"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_reference() {
        for (secret, nonce, time, sum) in [
            ("mysecret", "4tgggergigwow323t23t", "1451207708", "5f99e97095a11265efc9fe5020d258025bdc21b3"),
            ("mysecret", "1", "1451207708", "52a0963149c3b8938c951d876a737165b2be51b4"),
            ("sec", "n", "0", "4acec84f71d533e5dfa6326374c2629cf9b8027c"),
            ("mysecret", "随机", "1700000000", "11b28babe8b9e1dc8b892579698d20b6b16cf10a"),
        ] {
            assert_eq!(checksum(secret, nonce, time), sum);
        }
    }

    #[test]
    fn each_failure_has_its_own_words() {
        let knobs = Yunxin { app_key: "k".into(), app_secret: "mysecret".into(), ..Yunxin::default() };
        let good = [
            ("AppKey", "k"),
            ("Nonce", "1"),
            ("CurTime", "1451207708"),
            ("CheckSum", "52a0963149c3b8938c951d876a737165b2be51b4"),
            ("Content-Type", "application/x-www-form-urlencoded;charset=utf-8"),
        ];
        let told = |name: &str, value: &str, wall_s: i64| {
            let mut headers = HeaderMap::new();
            for (own, good) in good {
                let value = if own == name { value } else { good };
                if value != "-" {
                    let own: http::HeaderName = own.parse().expect("a name");
                    headers.insert(own, value.parse().expect("a value"));
                }
            }
            judge(&knobs, &headers, Wall(wall_s * 1_000)).err().map(|(_, desc)| desc)
        };
        let now = 1_451_207_708;
        let long = "n".repeat(129);
        for (name, value, wall, desc) in [
            ("", "", now, None),
            ("", "", now + 300, None),
            ("", "", now - 300, None),
            ("", "", now + 301, Some("CurTime is expired")),
            ("", "", now - 301, Some("CurTime is expired")),
            ("AppKey", "-", now, Some("bad http header")),
            ("Nonce", "-", now, Some("bad http header")),
            ("CurTime", "-", now, Some("bad http header")),
            ("CheckSum", "-", now, Some("bad http header")),
            ("Content-Type", "application/json", now, Some("bad http header")),
            ("Content-Type", "application/x-www-form-urlencoded", now, None),
            ("Nonce", &long, now, Some("bad http header")),
            ("AppKey", "other", now, Some("appkey")),
            ("CurTime", "14512077o8", now, Some("CurTime is illegal")),
            ("CurTime", "+1451207708", now, Some("CurTime is illegal")),
            ("Nonce", "2", now, Some("checksum")),
            ("CheckSum", "52A0963149C3B8938C951D876A737165B2BE51B4", now, Some("checksum")),
        ] {
            assert_eq!(told(name, value, wall), desc, "{name}: {value} at {wall}");
        }
    }
}
