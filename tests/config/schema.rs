//! `config/roomcast.schema.json`, which `roomcast schema` prints, is what readers ask for: their keys,
//! types, ranges, words and defaults, with a line of words for each (`tests/fixtures/schema/words.toml`).
//! A key that is new, gone or without a word fails here; `UPDATE_GOLDEN=1` writes the file anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use roomcast::app;
use roomcast::config;
use roomcast::core::section::{Asked, Want};
use serde_json::{Map, Value as Json, json};

const SCHEMA: &str = "config/roomcast.schema.json";
const PROBE: &str = "tests/fixtures/schema/probe.toml";
const WORDS: &str = "tests/fixtures/schema/words.toml";

/// A time as `parse_duration` reads it, but for the order of its units.
const TIME: &str = r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|s|min|m|h|d)\s*)+$";
/// A size as `parse_bytes` reads it.
const SIZE: &str = r"^\s*[0-9][0-9_]*(\.[0-9]+)?\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?\s*$";

/// What is known of one table: its keys in the order of their names.
type Keys = BTreeMap<String, (Want, Option<Json>)>;

/// Tables by the name that `words.toml` gives them, with the variant behind a colon
/// (`accounts.*:easemob`, `message:text`).
fn tables() -> BTreeMap<String, Keys> {
    let probe = read_toml(Path::new(PROBE));
    let loaded = config::load(&[PathBuf::from(PROBE)], std::iter::empty()).expect("the probe is TOML");
    let mut tables: BTreeMap<String, Keys> = BTreeMap::new();
    for Asked { section, key, want, default } in app::asked(&loaded) {
        if matches!(section.as_str(), "accounts" | "sources" | "directories") {
            continue;
        }
        let keys = tables.entry(table_of(&section, &probe)).or_default();
        let known = keys.entry(key).or_insert_with(|| (want.clone(), default.clone()));
        if known.0 == Want::Own {
            *known = (want, default);
        }
    }
    tables
}

fn read_toml(path: &Path) -> Json {
    let text = std::fs::read_to_string(path).unwrap();
    toml_json(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn toml_json(text: &str) -> Result<Json, toml::de::Error> {
    Ok(serde_json::to_value(toml::from_str::<toml::Table>(text)?).unwrap())
}

/// The name of the table that a section is one of.
fn table_of(section: &str, probe: &Json) -> String {
    let steps: Vec<&str> = section.split('.').collect();
    match steps.as_slice() {
        [all @ ("accounts" | "sources" | "directories"), name, below @ ..] => {
            let kind = name.split('-').next().unwrap();
            let below: String = below.iter().map(|step| format!(".{step}")).collect();
            format!("{all}.*{below}:{kind}")
        }
        [route, below @ ..] if route.starts_with("routes[") => match below {
            [] => "routes[]".to_owned(),
            ["message"] => {
                let index: usize = route["routes[".len()..route.len() - 1].parse().unwrap();
                format!("message:{}", probe["routes"][index]["message"]["kind"].as_str().unwrap())
            }
            [below @ ("retry" | "rooms")] => format!("routes[].{below}"),
            other => panic!("a table that this test does not know: routes[] {other:?}"),
        },
        _ => section.to_owned(),
    }
}

/// The schema of one table.
fn table(tables: &BTreeMap<String, Keys>, words: &Json, name: &str, top: bool) -> Json {
    let keys = tables
        .get(name)
        .unwrap_or_else(|| panic!("nobody asks for a key of {name}: the probe ({PROBE}) needs such a table"));
    let said = words_of(name);
    let mut properties = Map::new();
    for (key, (want, default)) in keys {
        let text = words[&said][key]
            .as_str()
            .unwrap_or_else(|| panic!("a reader asks for {said:?}.{key}, of which {WORDS} says nothing"));
        let mut schema = property(tables, words, name, key, want);
        if top && key == "routes" {
            let route = table(tables, words, "routes[]", false);
            schema = json!({ "type": "array", "items": route });
        }
        schema["description"] = text.into();
        if let Some(default) = default {
            schema["default"] = default.clone();
        }
        properties.insert(key.clone(), schema);
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// Where the words of a table stand.
fn words_of(name: &str) -> String {
    match name.split(':').next().unwrap() {
        "routes[].retry" => "retry".to_owned(),
        other => other.to_owned(),
    }
}

/// The schema of one key, without its words.
fn property(tables: &BTreeMap<String, Keys>, words: &Json, of: &str, key: &str, want: &Want) -> Json {
    let (base, variant) = of.split_once(':').unwrap_or((of, ""));
    match (base, key) {
        ("", "accounts") => named(tables, words, "accounts.*"),
        ("", "sources") => named(tables, words, "sources.*"),
        ("", "directories") => named(tables, words, "directories.*"),
        ("accounts.*", "provider") | ("sources.*" | "directories.*" | "message", "kind") => {
            json!({ "type": "string", "enum": [variant] })
        }
        ("accounts.*", "ext_id_key") => json!({ "type": ["string", "boolean"] }),
        ("sources.*", "properties") => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        ("sources.*", "spread") => {
            let parts = table(tables, words, &format!("sources.*.spread:{variant}"), false);
            json!({ "anyOf": [{ "type": "string", "enum": ["one_active"] }, parts] })
        }
        ("routes[]", "rooms") => {
            let asked = table(tables, words, "routes[].rooms", false);
            json!({ "anyOf": [{ "type": ["string", "integer"] }, asked] })
        }
        ("routes[]", "message") => json!({ "anyOf": [{ "$ref": "#/definitions/message" }] }),
        ("routes[]", "messages") => {
            json!({ "type": "array", "minItems": 1, "maxItems": 16, "items": { "$ref": "#/definitions/message" } })
        }
        ("message", "options") => json!({ "type": "object" }),
        ("message", _) => json!({ "type": ["string", "number", "boolean", "array", "object"] }),
        _ => match want {
            Want::Own => panic!("{of}.{key} is read by its own rules: say here which"),
            Want::Table => {
                let below = match base {
                    "" => key.to_owned(),
                    _ if variant.is_empty() => format!("{base}.{key}"),
                    _ => format!("{base}.{key}:{variant}"),
                };
                table(tables, words, &below, false)
            }
            Want::Tables => json!({ "type": "array" }),
            Want::Text => json!({ "type": "string" }),
            Want::Texts => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
            Want::Integer(low, high) if *high > i64::from(u32::MAX) => {
                json!({ "type": "integer", "minimum": low })
            }
            Want::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
            Want::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
            Want::Boolean => json!({ "type": "boolean" }),
            Want::Time => json!({ "type": "string", "pattern": TIME }),
            Want::Size => json!({ "type": ["string", "integer"], "pattern": SIZE, "minimum": 0 }),
            Want::Word(all) => json!({ "type": "string", "enum": all }),
        },
    }
}

/// Tables by names that people choose: any of the variants, where one file may leave the word that
/// tells them apart to another.
fn named(tables: &BTreeMap<String, Keys>, words: &Json, base: &str) -> Json {
    let variants =
        tables.keys().filter(|name| name.strip_prefix(base).is_some_and(|rest| rest.starts_with(':')));
    let any: Vec<Json> = variants.map(|name| table(tables, words, name, false)).collect();
    assert!(any.len() >= 2, "{base}: {any:?}");
    json!({
        "type": "object",
        "patternProperties": { "^_?[a-z0-9-]+(_[a-z0-9-]+)*_?$|^_$": { "anyOf": any } },
        "additionalProperties": false,
    })
}

/// The whole schema: draft 4, which is all that Taplo reads, and which every editor reads. Nothing is
/// required: a file may be one of several, and a variable may hold what is missing.
fn schema() -> Json {
    let (tables, words) = (tables(), read_toml(Path::new(WORDS)));
    let mut schema = table(&tables, &words, "", true);
    let kinds = tables.keys().filter(|name| name.starts_with("message:"));
    let mut messages = vec![json!({ "type": "string", "enum": ["custom", "command"] })];
    messages.extend(kinds.map(|name| table(&tables, &words, name, false)));
    schema["definitions"] = json!({ "message": { "anyOf": messages } });
    schema["$schema"] = "http://json-schema.org/draft-04/schema#".into();
    schema["title"] = "The config of roomcast".into();
    let asked: BTreeSet<(String, String)> =
        tables.iter().flat_map(|(name, keys)| keys.keys().map(|key| (words_of(name), key.clone()))).collect();
    for (said, keys) in words.as_object().unwrap() {
        for key in keys.as_object().unwrap().keys() {
            assert!(
                asked.contains(&(said.clone(), key.clone())),
                "{WORDS} has {said:?}.{key}, which no reader asks for"
            );
        }
    }
    schema
}

struct Judge(boon::Schemas, boon::SchemaIndex);

impl Judge {
    fn new() -> Self {
        let written: Json = serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("roomcast.json", written).unwrap();
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("roomcast.json", &mut schemas).expect("the schema is one of draft 4");
        Self(schemas, index)
    }

    fn says(&self, text: &str) -> Result<(), String> {
        let json = toml_json(text).map_err(|error| error.to_string())?;
        self.0.validate(&json, self.1).map_err(|error| format!("{error:#}"))
    }
}

fn toml_files(folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // Cases of `roomcast test` stand beside their configs.
    let is_config = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".toml") && !name.ends_with(".test.toml")
    };
    let mut files: Vec<PathBuf> = files.filter(is_config).collect();
    files.sort();
    files
}

#[test]
fn the_schema_is_what_readers_ask_for() {
    let made = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(SCHEMA, &made).unwrap();
    }
    let written = std::fs::read_to_string(SCHEMA).unwrap_or_default();
    assert!(made == written, "{SCHEMA} is not what readers ask for: UPDATE_GOLDEN=1 writes it anew");
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_roomcast")).arg("schema").output().unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), written);
}

#[test]
fn every_config_that_is_right_is_right_to_the_schema() {
    let judge = Judge::new();
    let mut files = toml_files("config");
    files.extend([PathBuf::from(PROBE), PathBuf::from("src/cli/demo/demo.toml")]);
    assert!(files.len() >= 9, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        judge.says(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
    // Warnings are no mistakes.
    for path in toml_files(super::FIXTURES) {
        let told = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        if !told.is_empty() && told.lines().all(|line| line.contains(": warning: ")) {
            judge
                .says(&std::fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        }
    }
}

#[test]
fn the_annotated_example_is_right_with_everything_in_it_switched_on() {
    let text = std::fs::read_to_string("config/roomcast.toml").unwrap();
    let is_setting = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key);
        key.is_some_and(|key| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    // A wait for a key goes with another word than the default.
    let text = text.replace("unknown = \"dead_letter\"", "unknown = \"wait\"");
    let on: Vec<&str> = text.lines().map(|line| if is_setting(line) { &line[2..] } else { line }).collect();
    let switched = text.lines().filter(|line| is_setting(line)).count();
    assert!(switched >= 3, "{switched}");
    let text = on.join("\n");
    Judge::new().says(&text).unwrap_or_else(|why| panic!("{text}\n{why}"));
    if let Err(problems) = app::build(&super::loaded(&text), &app::leave_secret_closed) {
        panic!("{problems:#?}");
    }
}

#[test]
fn an_unknown_key_is_wrong_to_the_schema_too() {
    let judge = Judge::new();
    let mut seen = 0;
    for path in toml_files(super::FIXTURES) {
        let told = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        let own = format!("{}:", path.display());
        let own_key =
            told.lines().any(|line| line.starts_with(&own) && line.contains("found an unknown key"));
        if own_key {
            seen += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(judge.says(&text).is_err(), "{}: the schema takes it", path.display());
        }
    }
    assert!(seen >= 8, "only {seen} fixtures with an unknown key");
    for wrong in [
        "[limits]\nmax_held_records = 0",
        "[limits]\nmax_held_bytes = '256M'",
        "[limits]\ndrain_timeout = 20",
        "[accounts.live]\nprovider = 'yunxin'\nclient_id = 'x'",
        "[accounts.Live]\nprovider = 'yunxin'",
        "[sources.live]\nkind = 'kafka'\ndurable = 'x'",
        "[[routes]]\nmessage = { kind = 'text', url = '.a' }",
        "[[routes]]\nmessages = []",
        "[[routes]]\nmessage = 'text'",
        "[retry]\nfactor = 11",
    ] {
        assert!(judge.says(wrong).is_err(), "the schema takes {wrong}");
    }
    for right in [
        "",
        "[limits]\ndrain_timeout = '1m 30s'\nmax_held_bytes = 268435456",
        "[accounts.a_b]\ntimeout = '2s'",
    ] {
        judge.says(right).unwrap_or_else(|why| panic!("{right}: {why}"));
    }
}
