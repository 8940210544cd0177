//! Yunxin's parameters: what each may hold, by the page's table.
//!
//! One table for all endpoints. Pure; the words of a refusal are the `desc` of a 414. "Characters"
//! are counted as UTF-16 units, as Java's `length()` does.

use std::borrow::Cow;

use serde_json::Value;

/// What a parameter may hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    /// Any text, at most so many characters.
    Text(usize),
    /// JSON of any shape, at most so many characters.
    Json(usize),
    /// A whole number in this range.
    Whole(i64, i64),
    /// `true` or `false`; 1 and 0 are let pass.
    Truth,
    /// A decimal number.
    Decimal,
    /// An account: at most 32 characters, no capitals, no blanks.
    Account,
    /// 0, 1, 2, 3, 4, 6, 10 or 100.
    Kind,
    /// `{"type":1|2,"data":"…"}`.
    Antispam,
}

/// The longest `attach` and `ext`.
const MAX_CONTENT: usize = 4_096;

/// Every parameter of the family, by name.
pub(super) const PARAMS: &[(&str, Holds)] = &[
    ("roomid", Holds::Whole(1, i64::MAX)),
    ("msgId", Holds::Text(64)),
    ("fromAccid", Holds::Account),
    ("msgType", Holds::Kind),
    ("attach", Holds::Text(MAX_CONTENT)),
    ("ext", Holds::Json(MAX_CONTENT)),
    ("subType", Holds::Whole(1, i32::MAX as i64)),
    ("resendFlag", Holds::Whole(0, 1)),
    ("ignoreMute", Holds::Truth),
    ("route", Holds::Whole(0, 1)),
    ("skipHistory", Holds::Whole(0, 1)),
    ("abandonRatio", Holds::Whole(0, 9_999)),
    ("highPriority", Holds::Truth),
    ("needHighPriorityMsgResend", Holds::Truth),
    ("forbiddenIfHighPriorityMsgFreq", Holds::Whole(0, 1)),
    ("chatMsgPriority", Holds::Whole(0, 3)),
    ("notifyTargetTags", Holds::Text(128)),
    ("env", Holds::Text(32)),
    ("useYidun", Holds::Whole(i32::MIN as i64, i32::MAX as i64)),
    ("bid", Holds::Text(MAX_CONTENT)),
    ("yidunAntiCheating", Holds::Json(1_024)),
    ("yidunAntiSpamExt", Holds::Json(1_024)),
    ("antispam", Holds::Truth),
    ("antispamCustom", Holds::Antispam),
    ("locX", Holds::Decimal),
    ("locY", Holds::Decimal),
    ("locZ", Holds::Decimal),
];

/// Checks one parameter; empty counts as absent. The error is the `desc`.
pub(super) fn check(name: &str, holds: Holds, value: &str) -> Result<(), String> {
    let illegal = |why: &str| Err(format!("{name} is illegal, {why}"));
    let long = |most| utf16_len(value) > most;
    match holds {
        _ if value.is_empty() => Ok(()),
        Holds::Text(most) | Holds::Json(most) if long(most) => Err(match name {
            "attach" => "msgContents size exceed".into(),
            _ => format!("{name} size exceed"),
        }),
        Holds::Text(_) => Ok(()),
        Holds::Json(_) => match serde_json::from_str::<&serde_json::value::RawValue>(value) {
            Ok(_) => Ok(()),
            Err(_) => illegal("it must be JSON"),
        },
        Holds::Whole(least, most) => match value.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) && !value.starts_with('+') => Ok(()),
            _ => illegal(&format!("it must be a whole number from {least} to {most}")),
        },
        Holds::Truth if matches!(value, "true" | "false" | "1" | "0") => Ok(()),
        Holds::Truth => illegal("it must be true or false"),
        Holds::Decimal if value.parse::<f64>().is_ok_and(f64::is_finite) => Ok(()),
        Holds::Decimal => illegal("it must be a number"),
        Holds::Account if long(32) => Err("accid size exceed".into()),
        Holds::Account if value.chars().any(|c| c.is_uppercase() || c.is_whitespace()) => {
            illegal("an account has no capitals and no blanks")
        }
        Holds::Account => Ok(()),
        Holds::Kind if matches!(value, "0" | "1" | "2" | "3" | "4" | "6" | "10" | "100") => Ok(()),
        Holds::Kind => illegal("it must be 0, 1, 2, 3, 4, 6, 10 or 100"),
        Holds::Antispam if long(5_000) => Err("antispamCustom size exceed".into()),
        Holds::Antispam => match serde_json::from_str::<Value>(value) {
            Ok(custom) if matches!(custom["type"].as_i64(), Some(1 | 2)) && custom["data"].is_string() => {
                Ok(())
            }
            _ => illegal(r#"it must be {"type":1|2,"data":"…"}"#),
        },
    }
}

/// Checks `attach` against the page's samples: JSON but for text and tips, and the fields of its type.
pub(super) fn check_attach(kind: &str, attach: &str) -> Result<(), String> {
    if attach.is_empty() || matches!(kind, "0" | "10") {
        return Ok(());
    }
    let illegal = |why: &str| Err(format!("attach is illegal, {why}"));
    let Ok(json) = serde_json::from_str::<Value>(attach) else { return illegal("it must be JSON") };
    if kind == "100" {
        return Ok(());
    }
    let Value::Object(fields) = &json else { return illegal("it must be a JSON object") };
    let needed = if kind == "4" { &["lng", "lat"][..] } else { &["url"][..] };
    if let Some(lacking) = needed.iter().find(|name| !fields.contains_key(**name)) {
        return illegal(&format!("it lacks {lacking}"));
    }
    for (name, value) in fields {
        let fits = match name.as_str() {
            "name" | "md5" | "url" | "ext" | "title" => value.is_string(),
            "w" | "h" | "size" | "dur" => value.is_u64(),
            "lng" | "lat" => value.is_number(),
            _ => true,
        };
        if !fits {
            return illegal(&format!("its {name} is of the wrong type"));
        }
    }
    Ok(())
}

/// Length as Java counts it.
fn utf16_len(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

/// The parameters of a request, decoded, in their order.
pub(super) struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    pub(super) fn read(body: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(body).collect())
    }

    /// The value, or nothing when it is absent or empty. Of a repeated parameter, the first counts.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(own, _)| own == name)?;
        Some(value.as_ref()).filter(|value| !value.is_empty())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, value: &str) -> Option<String> {
        let (_, holds) = PARAMS.iter().find(|(own, _)| *own == name).expect("a parameter");
        check(name, *holds, value).err()
    }

    #[test]
    fn every_parameter_has_its_bounds() {
        let emoji = "😀".repeat(2_048);
        let emojis = "😀".repeat(2_049);
        let json = |size: usize| format!("\"{}\"", "a".repeat(size - 2));
        let antispam = |size: usize| format!(r#"{{"type":1,"data":"{}"}}"#, "a".repeat(size - 20));
        for (name, good, bad) in [
            (
                "roomid",
                vec!["1", "9223372036854775807"],
                vec!["0", "-1", "1.5", "abc", "9223372036854775808", "+1"],
            ),
            ("msgId", vec![&"m".repeat(64)[..]], vec![&"m".repeat(65)[..]]),
            ("fromAccid", vec!["zhang_san", &"a".repeat(32)], vec!["ZhangSan", "a b", &"a".repeat(33)]),
            ("msgType", vec!["0", "1", "2", "3", "4", "6", "10", "100"], vec!["5", "00", "-1", "text"]),
            ("attach", vec![&emoji], vec![&emojis]),
            ("ext", vec!["{}", "[1]", &json(4_096)], vec!["{", "plain", &json(4_097)]),
            ("subType", vec!["1"], vec!["0", "x"]),
            ("resendFlag", vec!["0", "1"], vec!["2", "true"]),
            ("ignoreMute", vec!["true", "false", "1", "0"], vec!["yes", "2"]),
            ("route", vec!["0", "1"], vec!["2"]),
            ("skipHistory", vec!["0", "1"], vec!["true"]),
            ("abandonRatio", vec!["0", "9999"], vec!["10000", "-1", "0.5"]),
            ("highPriority", vec!["true"], vec!["high"]),
            ("needHighPriorityMsgResend", vec!["false"], vec!["-"]),
            ("forbiddenIfHighPriorityMsgFreq", vec!["1"], vec!["true"]),
            ("chatMsgPriority", vec!["0", "3"], vec!["4"]),
            ("notifyTargetTags", vec![&"t".repeat(128)], vec![&"t".repeat(129)]),
            ("env", vec![&"e".repeat(32)], vec![&"e".repeat(33)]),
            ("useYidun", vec!["0", "7"], vec!["x"]),
            ("yidunAntiCheating", vec![&json(1_024)], vec!["x", &json(1_025)]),
            ("yidunAntiSpamExt", vec![&json(1_024)], vec!["x", &json(1_025)]),
            ("antispam", vec!["true"], vec!["maybe"]),
            (
                "antispamCustom",
                vec![&antispam(5_000)],
                vec!["{}", r#"{"type":3,"data":"x"}"#, &antispam(5_001)],
            ),
            ("locX", vec!["1.5", "-2"], vec!["x", "inf"]),
        ] {
            for value in good {
                assert_eq!(told(name, value), None, "{name}, {} bytes", value.len());
            }
            for value in bad {
                assert!(
                    told(name, value).is_some_and(|told| !told.is_empty()),
                    "{name}, {} bytes",
                    value.len()
                );
            }
        }
        assert_eq!(told("attach", &emojis).as_deref(), Some("msgContents size exceed"));
    }

    #[test]
    fn attach_is_what_its_type_says() {
        for (kind, attach, good) in [
            ("0", "not json", true),
            ("10", "not json", true),
            ("1", r#"{"name":"a","md5":"b","url":"u","ext":"jpg","w":1,"h":2,"size":3}"#, true),
            ("1", r#"{"url":"u","w":"1"}"#, false),
            ("1", r#"{"name":"a"}"#, false),
            ("2", r#"{"dur":4551,"url":"u"}"#, true),
            ("2", r#"{"dur":4551.5,"url":"u"}"#, false),
            ("3", "text", false),
            ("4", r#"{"title":"t","lng":120.1,"lat":30}"#, true),
            ("4", r#"{"title":"t","lng":"120.1","lat":30}"#, false),
            ("4", r#"{"lat":30}"#, false),
            ("6", "[]", false),
            ("100", "[1]", true),
            ("100", "myValue", false),
        ] {
            assert_eq!(check_attach(kind, attach).is_ok(), good, "{kind}: {attach}");
        }
    }
}
