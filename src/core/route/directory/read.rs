//! What a directory's file or row says: CSV and JSON to keys and rooms. Errors name the line.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Map;

/// Reads a file: JSON where its name ends in `.json` or, with any other name than `….csv`, it begins
/// with a brace; CSV otherwise.
///
/// # Errors
/// Where it is broken, what was found there and what would be right.
pub fn file(name: &str, contents: &[u8]) -> Result<Map, String> {
    let contents = contents.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(contents);
    let ends = |ending: &str| {
        let at = name.len().checked_sub(ending.len());
        at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    let has_brace = || contents.trim_ascii_start().starts_with(b"{");
    let mut map = match ends(".json") || (!ends(".csv") && has_brace()) {
        true => json(contents)?,
        false => csv(contents)?,
    };
    map.shrink();
    Ok(map)
}

/// Reads the value of a row of a topic or bucket: a room id, or a JSON list of room ids.
///
/// # Errors
/// What was found instead.
pub fn row(value: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(value).map_err(|_| {
        format!("{} bytes that are not UTF-8; a room id or a JSON list is wanted", value.len())
    })?;
    let text = text.trim();
    if !text.starts_with(['[', '"']) {
        return match text {
            "" => Err("an empty value; a room id or a JSON list of room ids is wanted".to_owned()),
            room => Ok(vec![room.to_owned()]),
        };
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let rooms = RoomList.deserialize(&mut json).and_then(|rooms| json.end().map(|()| rooms));
    rooms.map_err(|error| error.to_string())
}

/// One line for each key, or several: the key, then its rooms.
fn csv(contents: &[u8]) -> Result<Map, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(contents);
    let mut map = Map::default();
    let mut record = csv::StringRecord::new();
    let mut gathered = (String::new(), Vec::new());
    let mut is_first = true;
    while reader.read_record(&mut record).map_err(|error| csv_error(&error))? {
        let is_heading = std::mem::take(&mut is_first)
            && &record[0] == "key"
            && matches!(record.get(1), Some("room" | "rooms"));
        if is_heading {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let key = &record[0];
        let rooms: Vec<&str> = record.iter().skip(1).filter(|room| !room.is_empty()).collect();
        if key.is_empty() || rooms.is_empty() {
            let found =
                if key.is_empty() { "no key".to_owned() } else { format!("the key {key:?} without a room") };
            return Err(format!("line {line}: found {found}, wanted key,room or key,room,room,…"));
        }
        // Lines of one key mostly stand together.
        if gathered.0 != key {
            add(&mut map, &gathered);
            gathered = (key.to_owned(), Vec::new());
        }
        gathered.1.extend(rooms.into_iter().map(str::to_owned));
    }
    add(&mut map, &gathered);
    Ok(map)
}

/// Adds rooms to those that a key has.
fn add(map: &mut Map, (key, rooms): &(String, Vec<String>)) {
    if rooms.is_empty() {
        return;
    }
    let earlier = map.get(key).into_iter().flatten().map(str::to_owned);
    let all = without_repeats(earlier.chain(rooms.iter().cloned()));
    map.insert(key, &all);
}

fn csv_error(error: &csv::Error) -> String {
    let line = error.position().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => {
            format!("{line}found bytes that are not UTF-8, wanted a text in UTF-8")
        }
        _ => format!("{line}{error}"),
    }
}

fn without_repeats(rooms: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    rooms.filter(|room| seen.insert(room.clone())).collect()
}

/// One object: each key with its room or the list of its rooms.
fn json(contents: &[u8]) -> Result<Map, String> {
    let mut json = serde_json::Deserializer::from_slice(contents);
    let map = json.deserialize_any(Keys).and_then(|map| json.end().map(|()| map));
    map.map_err(|error| error.to_string())
}

/// Reads an object without holding all of it as values: a million keys are a large file.
struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Map;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object such as {\"key\": \"room\", \"other\": [\"room\", \"room\"]}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Map, A::Error> {
        let mut map = Map::default();
        while let Some(key) = entries.next_key::<String>()? {
            if key.is_empty() {
                return Err(A::Error::custom("found an empty key, wanted the key of a record"));
            }
            if map.get(&key).is_some() {
                return Err(A::Error::custom(format!("the key {key:?} stands there twice")));
            }
            let rooms = entries.next_value_seed(RoomList)?;
            map.insert(&key, &rooms);
        }
        Ok(map)
    }
}

/// Reads a room id or a list of them.
struct RoomList;

impl<'de> DeserializeSeed<'de> for RoomList {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<String>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RoomList {
    type Value = Vec<String>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a room id (a text that is not empty, or a whole number) or a list of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut rooms = Vec::new();
        while let Some(RoomId(room)) = items.next_element()? {
            rooms.push(room);
        }
        Ok(without_repeats(rooms.into_iter()))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![RoomId::named(text)?.0])
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }
}

/// A room id in a list.
struct RoomId(String);

impl RoomId {
    fn named<E: serde::de::Error>(text: &str) -> Result<Self, E> {
        match text {
            "" => Err(E::custom("found an empty room id, wanted a text that is not empty")),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl<'de> serde::Deserialize<'de> for RoomId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct One;

        impl Visitor<'_> for One {
            type Value = RoomId;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a room id: a text that is not empty, or a whole number")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RoomId, E> {
                RoomId::named(text)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<RoomId, E> {
                Ok(RoomId(number.to_string()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<RoomId, E> {
                Ok(RoomId(number.to_string()))
            }
        }

        from.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key=room,room` for each of the keys asked for; `key?` where it is not known.
    fn shown(map: &Map, keys: &[&str]) -> Vec<String> {
        let one = |key: &&str| match map.get(key) {
            Some(rooms) => format!("{key}={}", rooms.collect::<Vec<_>>().join(",")),
            None => format!("{key}?"),
        };
        keys.iter().map(one).collect()
    }

    #[test]
    fn csv_is_read_as_people_write_it() {
        let text = "\u{feff}key,rooms\r\n# halls\r\nmatch-1,1001\r\n\r\nmatch-2, 1002 , 1003,,\r\n\
                    \"a,b\",\"room \"\"x\"\"\"\nmatch-1,1004\nmatch-1,1001\n比赛,1005";
        let map = file("rooms.csv", text.as_bytes()).unwrap();
        assert_eq!(
            shown(&map, &["match-1", "match-2", "a,b", "比赛", "key", "match-3"]),
            ["match-1=1001,1004", "match-2=1002,1003", "a,b=room \"x\"", "比赛=1005", "key?", "match-3?"]
        );
        assert_eq!(file("rooms", b"").unwrap().len(), 0);
    }

    #[test]
    fn only_a_first_line_of_both_words_is_a_heading() {
        for (text, seen) in [
            ("key,room\na,1", ["key?", "a=1"]),
            ("key,1001\na,1", ["key=1001", "a=1"]),
            ("a,1\nkey,room", ["key=room", "a=1"]),
            ("a,room\na,1", ["key?", "a=room,1"]),
        ] {
            assert_eq!(shown(&file("rooms.csv", text.as_bytes()).unwrap(), &["key", "a"]), seen, "{text}");
        }
    }

    #[test]
    fn json_is_an_object_of_rooms_or_lists() {
        let text = br#" {"match-1": "1001", "match-2": [1002, "1003", 1002], "closed": [], "n": 7} "#;
        for name in ["rooms.json", "ROOMS.JSON", "..data/rooms"] {
            let map = file(name, text).unwrap();
            assert_eq!(
                shown(&map, &["match-1", "match-2", "closed", "n"]),
                ["match-1=1001", "match-2=1002,1003", "closed=", "n=7"]
            );
        }
    }

    #[test]
    fn what_is_broken_is_told_with_its_line() {
        for (name, text, told) in [
            (
                "r.csv",
                &b"a,1\nb\n"[..],
                "line 2: found the key \"b\" without a room, wanted key,room or key,room,room,…",
            ),
            ("r.csv", b"a,1\n,2\n", "line 2: found no key, wanted key,room or key,room,room,…"),
            ("r.csv", b"a,1\nb,\xFF\n", "line 2: found bytes that are not UTF-8, wanted a text in UTF-8"),
            (
                "r.json",
                b"{\"a\": \"1\",\n \"a\": \"2\"}",
                "the key \"a\" stands there twice at line 2 column 4",
            ),
            (
                "r.json",
                b"{\"a\": {}}",
                "invalid type: map, expected a room id (a text that is not empty, or a whole number) or a list of them at line 1 column 8",
            ),
            (
                "r.json",
                b"{\"a\": [1.5]}",
                "invalid type: floating point `1.5`, expected a room id: a text that is not empty, or a whole number at line 1 column 10",
            ),
            (
                "r.json",
                b"{\"a\": \"\"}",
                "found an empty room id, wanted a text that is not empty at line 1 column 8",
            ),
            ("r.json", b"{\"\": 1}", "found an empty key, wanted the key of a record at line 1 column 3"),
            (
                "r.json",
                b"[]",
                "invalid type: sequence, expected an object such as {\"key\": \"room\", \"other\": [\"room\", \"room\"]} at line 1 column 2",
            ),
            ("r.json", b"{\"a\": 1", "EOF while parsing an object at line 1 column 7"),
        ] {
            assert_eq!(file(name, text).unwrap_err(), told);
        }
    }

    #[test]
    fn a_number_below_zero_is_kept_as_it_stands() {
        let map = file("rooms.json", br#"{"n": -7, "list": [-8, 9]}"#).unwrap();
        assert_eq!(shown(&map, &["n", "list"]), ["n=-7", "list=-8,9"]);
    }

    #[test]
    fn a_row_is_a_room_or_a_list() {
        for (value, rooms) in [
            ("1001", Ok(vec!["1001"])),
            (" lobby \n", Ok(vec!["lobby"])),
            ("[\"a\", 2]", Ok(vec!["a", "2"])),
            ("\"a b\"", Ok(vec!["a b"])),
            ("[]", Ok(vec![])),
            ("", Err("an empty value; a room id or a JSON list of room ids is wanted")),
            ("[1", Err("EOF while parsing a list at line 1 column 2")),
            ("[1] 2", Err("trailing characters at line 1 column 5")),
        ] {
            let wanted = rooms.map(|rooms| rooms.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(row(value.as_bytes()), wanted.map_err(str::to_owned), "{value}");
        }
        assert!(row(b"\xFF").is_err());
    }
}
