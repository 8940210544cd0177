//! The functions that filters can call: jq's own where they end by themselves and read nothing but
//! their input, and ours where jaq has them for its own value type only.
//!
//! Natives are taken by name from a list, never as a whole, so that an upgrade of jaq adds nothing
//! unseen. Definitions are picked per filter: only what it reaches is compiled into it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{Filter, Fun, bome, run, unary, v};
use jaq_core::path::Part;
use jaq_core::{Error, Native, RunPtr, ValR};

use super::Jq;
use super::regex;
use crate::core::value::budget::{spend, step};
use crate::core::value::{DEPTH_MAX, Val};

/// Natives of jaq that are taken over.
const NATIVES: &[&str] = &[
    // jaq-core. `range` is there for `transpose`; a filter's own text may not name it.
    "error_empty",
    "path",
    "path_value",
    "range",
    "keys_unsorted",
    "key_values",
    "first",
    "last",
    "limit",
    "skip",
    // Texts and arrays.
    "floor",
    "round",
    "ceil",
    "utf8bytelength",
    "explode",
    "implode",
    "ascii_downcase",
    "ascii_upcase",
    "reverse",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "startswith",
    "endswith",
    "ltrimstr",
    "rtrimstr",
    "trim",
    "ltrim",
    "rtrim",
    "escape_sh",
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    // Numbers.
    "sqrt",
    "cbrt",
    "exp",
    "exp2",
    "exp10",
    "log",
    "log2",
    "log10",
    "pow",
    "fabs",
    "trunc",
    "rint",
    "fmin",
    "fmax",
    "fmod",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    // Times, all in UTC.
    "fromdateiso8601",
    "todateiso8601",
    "strftime",
    "gmtime",
    "strptime",
    "mktime",
];

/// Definitions of jaq's libraries that are left out: they need natives that are not there, or ours
/// stand for them.
const LEFT_OUT: &[&str] = &[
    "getpath",
    "while",
    "until",
    "repeat",
    "combinations",
    "stderr",
    "debug",
    "halt",
    "halt_error",
    "logb",
    "significand",
    "drem",
    "nexttoward",
    "scalb",
    "gamma",
    "isnan",
];

/// Natives of jaq that reckon with what they are given without looking at its size: ours look first.
const GUARDED: [(&str, &str); 6] = [
    ("todateiso8601", "_todateiso8601"),
    ("gmtime", "_gmtime"),
    ("mktime", "_mktime"),
    ("strftime", "_strftime"),
    ("strptime", "_strptime"),
    ("implode", "_implode"),
];

/// Definitions that stand before jaq's own.
const OURS: &str = "def todateiso8601: _time | _todateiso8601;
def gmtime: _time | _gmtime;
def mktime: _time | _mktime;
def strftime($format): _time | _strftime($format | _format);
def strptime($format): _strptime($format | _format);
def implode: _codes | _implode;
def getpath($path): ($path | _path) as $path | reduce $path[] as $p (.; .[$p]);";

/// Bytes of a time's format: a directive may write fifty times its own length.
const FORMAT_MAX: usize = 1_024;

type Definition = Def<&'static str>;

/// Definitions by name, with the names that they call.
struct Library {
    definitions: Vec<Definition>,
    calls: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let ours = parse(OURS, |parser| parser.defs()).expect("our definitions are jq");
    let theirs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let theirs = theirs.filter(|definition| !LEFT_OUT.contains(&definition.name));
    let definitions: Vec<Definition> = ours.into_iter().chain(theirs).collect();
    let mut calls = BTreeMap::<_, BTreeSet<_>>::new();
    for definition in &definitions {
        names(&definition.body, calls.entry(definition.name).or_default());
    }
    Library { definitions, calls }
});

/// The definitions that these names reach, in the library's order.
pub fn definitions(used: &BTreeSet<String>) -> Vec<Definition> {
    let library = &*LIBRARY;
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = used.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        if let Some((name, calls)) = library.calls.get_key_value(name)
            && reached.insert(*name)
        {
            open.extend(calls);
        }
    }
    library.definitions.iter().filter(|definition| reached.contains(definition.name)).cloned().collect()
}

/// The name of the library that is nearest to one that it does not have.
pub fn nearest(name: &str) -> Option<&'static str> {
    let known =
        LIBRARY.definitions.iter().map(|definition| definition.name).chain(natives().map(|native| native.0));
    known
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

/// All natives.
pub fn natives() -> impl Iterator<Item = Fun<Jq>> {
    let theirs = jaq_core::funs::<Jq>().chain(jaq_std::funs::<Jq>());
    let renamed = |name| GUARDED.iter().find(|(theirs, _)| *theirs == name).map_or(name, |(_, ours)| *ours);
    let taken = theirs.filter(|(name, _, _)| NATIVES.contains(name));
    taken.map(move |(name, arguments, native)| (renamed(name), arguments, native)).chain(own())
}

/// Ours.
fn own() -> impl Iterator<Item = (&'static str, Box<[jaq_core::Bind]>, Native<Jq>)> {
    let own: [Filter<RunPtr<Jq>>; 14] = [
        ("_time", v(0), |cv| bome(time(cv.1))),
        ("_format", v(0), |cv| bome(format(cv.1))),
        ("_codes", v(0), |cv| bome(codes(cv.1))),
        ("_path", v(0), |cv| bome(path(cv.1))),
        ("length", v(0), |cv| bome(length(&cv.1))),
        ("has", v(1), |cv| unary(cv, |value, index| Ok(value.get(&index)?.is_some().into()))),
        ("contains", v(1), |cv| unary(cv, |value, part| Ok(contains(&value, &part).into()))),
        ("indices", v(1), |cv| unary(cv, |value, part| indices(&value, &part))),
        ("tojson", v(0), |cv| bome(Ok(Val::from(cv.1.to_string())))),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("isnan", v(0), |cv| bome(Ok(Val::Bool(matches!(cv.1, Val::Float(x) if x.is_nan()))))),
        ("matches", v(2), |cv| regex::run(cv, regex::Parts::Matches)),
        ("split_matches", v(2), |cv| regex::run(cv, regex::Parts::Both)),
        ("split_", v(2), |cv| regex::run(cv, regex::Parts::Rest)),
    ];
    own.into_iter().map(|native| run::<Jq>(native))
}

/// The format of a time, if it is short.
fn format(value: Val) -> ValR<Val> {
    match value.as_text().map(str::len) {
        Some(length) if length > FORMAT_MAX => {
            Err(Error::str(format!("a format of {length} bytes, at most {FORMAT_MAX}")))
        }
        _ => Ok(value),
    }
}

/// Codes of characters, of which jaq negates each.
fn codes(value: Val) -> ValR<Val> {
    let wrong = value.items().into_iter().flatten().find(|code| {
        step(1);
        matches!(code, Val::Int(code) if u32::try_from(code.unsigned_abs()).is_err())
    });
    match wrong {
        Some(code) => Err(Error::str(format!("{code} is no character"))),
        None => Ok(value),
    }
}

/// A path, if it is no longer than values can be deep: beyond that it leads nowhere, and jaq calls itself
/// for each part of it.
fn path(value: Val) -> ValR<Val> {
    match value.items().map(<[Val]>::len) {
        Some(length) if length > DEPTH_MAX => {
            Err(Error::str(format!("a path of {length} parts, at most {DEPTH_MAX}")))
        }
        _ => Ok(value),
    }
}

/// A time in seconds within the years that calendars reach, or its parts; whatever else it is given, as
/// it is.
fn time(value: Val) -> ValR<Val> {
    const YEARS_9999: f64 = 253_402_300_800.0;
    let seconds = match &value {
        Val::Int(_) | Val::Float(_) => jaq_std::ValT::as_f64(&value),
        _ => None,
    };
    // jaq adds one to the month.
    if let Some([_, Val::Int(month), ..]) = value.items()
        && !(0..12).contains(month)
    {
        return Err(Error::str(format!("{month} is no month, from 0 to 11")));
    }
    match seconds {
        Some(seconds) if seconds.is_nan() || seconds.abs() >= YEARS_9999 => {
            Err(Error::str(format!("{value} is no time in seconds; perhaps it is in milliseconds")))
        }
        _ => Ok(value),
    }
}

fn length(value: &Val) -> ValR<Val> {
    match value {
        Val::Null => Ok(Val::Int(0)),
        Val::Bool(_) => Err(Error::str("a boolean has no length")),
        Val::Int(number) => Ok(Val::Int(number.saturating_abs())),
        Val::Float(number) => Ok(Val::Float(number.abs())),
        Val::Str(text) => {
            step(text.len() / 64);
            Ok(Val::from(text.chars().count()))
        }
        Val::Arr(_) | Val::Obj(_) => Ok(Val::from(
            value.items().map(<[Val]>::len).or(value.fields().map(BTreeMap::len)).unwrap_or_default(),
        )),
    }
}

fn contains(value: &Val, part: &Val) -> bool {
    step(1);
    match (value, part) {
        (Val::Str(text), Val::Str(part)) => {
            step(text.len() / 16);
            text.contains(&**part)
        }
        (Val::Arr(_), Val::Arr(_)) => {
            let (items, parts) = (value.items().unwrap_or_default(), part.items().unwrap_or_default());
            parts.iter().all(|part| items.iter().any(|item| contains(item, part)))
        }
        (Val::Obj(_), Val::Obj(_)) => part
            .fields()
            .into_iter()
            .flatten()
            .all(|(name, part)| value.field(name).is_some_and(|value| contains(value, part))),
        _ => value == part,
    }
}

fn indices(value: &Val, part: &Val) -> ValR<Val> {
    match (value, part) {
        (Val::Null, _) => Ok(Val::Null),
        (Val::Str(text), Val::Str(part)) => {
            step(text.len() / 8);
            let Some(first) = part.as_bytes().first() else { return Ok(Val::array(Vec::new())) };
            let here = |byte: usize| {
                let near = text.as_bytes()[byte] == *first;
                // Where one comparison is long, all together are quadratic.
                step(if near { part.len() / 64 } else { 0 });
                near && text.as_bytes()[byte..].starts_with(part.as_bytes())
            };
            let places = text.char_indices().enumerate().filter(|(_, (byte, _))| here(*byte));
            Ok(places.map(|(place, _)| Val::from(place)).collect())
        }
        (Val::Arr(_), Val::Arr(_)) => Ok(value.get(part)?.unwrap_or_default()),
        (Val::Arr(_), _) => {
            let items = value.items().unwrap_or_default().iter().enumerate();
            Ok(items.filter(|(_, item)| *item == part).map(|(place, _)| Val::from(place)).collect())
        }
        _ => Err(Error::index(value.clone(), part.clone())),
    }
}

/// Parses a text, within serde_json's bound of depth. What it builds is paid for as it is built.
fn from_json(value: &Val) -> ValR<Val> {
    let Some(text) = value.as_text() else { return Err(Error::typ(value.clone(), "a text with JSON in it")) };
    spend(text.len());
    serde_json::from_str(text).map_err(|error| Error::str(format!("fromjson: {error}")))
}

/// Collects the names that a definition calls.
fn names(term: &Term<&'static str>, into: &mut BTreeSet<&'static str>) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {}
        Term::Str(format, parts) => {
            into.extend(*format);
            for part in parts {
                if let StrPart::Term(term) = part {
                    names(term, into);
                }
            }
        }
        Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => names(inner, into),
        Term::Obj(fields) => {
            for (name, value) in fields {
                names(name, into);
                value.iter().for_each(|value| names(value, into));
            }
        }
        Term::BinOp(left, op, right) => {
            if let BinaryOp::Pipe(Some(pattern)) = op {
                pattern_names(pattern, into);
            }
            names(left, into);
            names(right, into);
        }
        Term::Fold(_, over, pattern, arguments) => {
            names(over, into);
            pattern_names(pattern, into);
            arguments.iter().for_each(|argument| names(argument, into));
        }
        Term::TryCatch(body, catch) => {
            names(body, into);
            catch.iter().for_each(|catch| names(catch, into));
        }
        Term::IfThenElse(branches, otherwise) => {
            for (condition, then) in branches {
                names(condition, into);
                names(then, into);
            }
            otherwise.iter().for_each(|term| names(term, into));
        }
        Term::Def(definitions, body) => {
            definitions.iter().for_each(|definition| names(&definition.body, into));
            names(body, into);
        }
        Term::Call(name, arguments) => {
            into.insert(name);
            arguments.iter().for_each(|argument| names(argument, into));
        }
        Term::Path(base, path) => {
            names(base, into);
            for (part, _) in &path.0 {
                match part {
                    Part::Index(index) => names(index, into),
                    Part::Range(from, upto) => from.iter().chain(upto).for_each(|term| names(term, into)),
                }
            }
        }
    }
}

fn pattern_names(pattern: &Pattern<&'static str>, into: &mut BTreeSet<&'static str>) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(parts) => parts.iter().for_each(|part| pattern_names(part, into)),
        Pattern::Obj(parts) => {
            for (name, part) in parts {
                names(name, into);
                pattern_names(part, into);
            }
        }
    }
}
