//! Filters: jq, compiled once, that can do nothing but look at their event.
//!
//! The language is jq as jaq speaks it, without what could stop, hang, exhaust or read the process:
//! `check` refuses that at start with its position, `library` holds what remains, and while a
//! filter runs, the budget of `core::value` counts every node of it and every part of a value that it looks at or
//! builds. What runs out unwinds to [`Filter::outputs`] past every `try`, and becomes
//! [`Trouble::Fatal`]. A filter knows nothing of routes.

mod check;
mod input;
mod library;
mod regex;

use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use jaq_core::compile::Undefined;
use jaq_core::data::HasLut;
use jaq_core::load::lex::{Expect, StrPart};
use jaq_core::load::parse::Term;
use jaq_core::load::{Arena, File, Lexer, Loader, Parser};
use jaq_core::{Compiler, Ctx, DataT, Lut, Vars};

pub use self::input::Input;

use crate::core::value::Val;
use crate::core::value::budget::{Exhausted, descend, step};

/// Bytes of a filter's text.
const TEXT_MAX: usize = 8 << 10;
/// Brackets that may be open at once: the parser recurses with them.
const NESTED_MAX: usize = 64;
/// Signs and words that begin a term within a term without a bracket: the parser recurses with them.
const PREFIXES_MAX: usize = 256;
/// Operators: the parser builds a tree as deep as a chain of them is long.
const OPERATORS_MAX: usize = 1_000;
/// About how many bytes of JSON one output may take.
pub const OUTPUT_MAX: usize = 64 << 10;
/// Characters of a run-time error that are kept.
const ERROR_MAX: usize = 300;

/// Variables that every filter sees, in the order of [`Input::variables`].
pub const VARIABLES: [&str; 3] = ["$key", "$topic", "$headers"];

/// A compiled filter.
pub struct Filter {
    text: String,
    code: Code,
    uses_key: bool,
    uses_headers: bool,
}

/// How a filter is run: the commonest forms need no interpreter.
enum Code {
    /// A literal text, number or word.
    Constant(Literal),
    /// One of [`VARIABLES`].
    Variable(usize),
    /// Fields one below the other: `.data.user`.
    Fields(Vec<String>),
    /// Everything else.
    Jq(Box<jaq_core::Filter<Jq>>),
}

/// A value that a filter gives for every event. Not a [`Val`], which stays on its thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
}

impl Literal {
    /// As a value.
    pub fn value(&self) -> Val {
        match self {
            Self::Null => Val::Null,
            Self::Bool(word) => Val::Bool(*word),
            Self::Int(number) => Val::Int(*number),
            Self::Float(number) => Val::Float(*number),
            Self::Text(text) => Val::text(text),
        }
    }
}

/// Why a filter's text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where in the text, in bytes.
    pub at: usize,
    /// What was found there.
    pub found: String,
    /// What would be right.
    pub wanted: String,
}

/// Why a filter gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It failed on this event, as jq says it.
    Failed(String),
    /// It spent its budget, or broke: the record cannot be mapped, whatever asked for the filter.
    Fatal(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) | Self::Fatal(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

/// The data type of our filters: our value, and a step for every node that is run.
pub struct Jq;

/// What a running filter carries along.
#[derive(Clone)]
pub struct Running<'a>(&'a Lut<Jq>);

impl DataT for Jq {
    type V<'a> = Val;
    type Data<'a> = Running<'a>;
}

impl<'a> HasLut<'a, Jq> for Running<'a> {
    /// jaq looks a node up here each time it runs, updates or follows it: that is a step.
    fn lut(&self) -> &'a Lut<Jq> {
        step(1);
        descend();
        self.0
    }
}

impl Filter {
    /// Compiles a text, or says what is wrong with it and where.
    pub fn compile(text: &str) -> Result<Self, Refusal> {
        compile(text).map_err(|refusal| explain_words(text, refusal))
    }

    /// Its text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it looks at `$key`.
    pub fn uses_key(&self) -> bool {
        self.uses_key
    }

    /// Whether it gives the record's key as it is.
    pub fn is_key(&self) -> bool {
        self.text.trim() == "$key"
    }

    /// Whether it looks at `$headers`.
    pub fn uses_headers(&self) -> bool {
        self.uses_headers
    }

    /// What it gives for every event, when it is a literal.
    pub fn constant(&self) -> Option<&Literal> {
        match &self.code {
            Code::Constant(literal) => Some(literal),
            _ => None,
        }
    }

    /// Its outputs, at most `most` of them: one more is an error.
    pub fn outputs(&self, input: &Input, most: usize) -> Result<Vec<Val>, Trouble> {
        let simple = match &self.code {
            Code::Constant(literal) => Ok(literal.value()),
            Code::Variable(index) => Ok(input.variables[*index].clone()),
            Code::Fields(names) => follow(&input.event, names),
            Code::Jq(filter) => {
                let run = || run(filter, input, most);
                return catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
                    Err(Trouble::Fatal(match payload.downcast::<Exhausted>() {
                        Ok(exhausted) => exhausted.0,
                        Err(_) => {
                            "panicked, which is a fault of roomcast; please report the filter".to_owned()
                        }
                    }))
                });
            }
        };
        let value = simple.map_err(Trouble::Failed)?;
        bounded(&value)?;
        Ok(vec![value])
    }

    /// Its only output.
    pub fn output(&self, input: &Input) -> Result<Val, Trouble> {
        let mut outputs = self.outputs(input, 1)?;
        outputs.pop().ok_or_else(|| Trouble::Failed("gives nothing, one output is wanted".to_owned()))
    }
}

fn run(filter: &jaq_core::Filter<Jq>, input: &Input, most: usize) -> Result<Vec<Val>, Trouble> {
    let context = Ctx::<Jq>::new(Running(&filter.lut), Vars::new(input.variables.clone()));
    let mut outputs = Vec::new();
    for output in filter.id.run((context, input.event.clone())) {
        let value = output.map_err(|exception| match exception.get_err() {
            Ok(error) => Trouble::Failed(cut(&error)),
            Err(_) => Trouble::Failed("breaks out of itself".to_owned()),
        })?;
        if outputs.len() == most {
            let more = if most == 1 {
                "more than one output, one".to_owned()
            } else {
                format!("more than {most} outputs, at most that many")
            };
            return Err(Trouble::Failed(format!("gives {more} is wanted")));
        }
        bounded(&value)?;
        outputs.push(value);
    }
    Ok(outputs)
}

/// `.a.b.c`, with jq's rules: a field of null or of an object that lacks it is null.
fn follow(event: &Val, names: &[String]) -> Result<Val, String> {
    let mut at = event;
    for name in names {
        at = match at {
            Val::Obj(_) => at.field(name).unwrap_or(&Val::Null),
            Val::Null => &Val::Null,
            other => return Err(format!("cannot index {} with {name:?}", other.shown())),
        };
    }
    Ok(at.clone())
}

fn bounded(value: &Val) -> Result<(), Trouble> {
    match value.size_within(OUTPUT_MAX) {
        Some(_) => Ok(()),
        None => Err(Trouble::Failed(format!("gives more than {} KiB", OUTPUT_MAX >> 10))),
    }
}

/// An error's text, as long as people read.
fn cut(error: &impl fmt::Display) -> String {
    struct Cut(String);
    impl fmt::Write for Cut {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            let left = ERROR_MAX.saturating_sub(self.0.chars().count());
            self.0.extend(part.chars().take(left));
            if left == 0 { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut text = Cut(String::new());
    match write!(text, "{error}") {
        Ok(()) => text.0,
        Err(fmt::Error) => text.0 + "…",
    }
}

fn compile(text: &str) -> Result<Filter, Refusal> {
    bounded_text(text)?;
    let refuse = |part: &str, found: String, wanted: String| Refusal {
        at: check::position(text, part),
        found,
        wanted,
    };
    let tokens = Lexer::new(text).lex().map_err(|errors| match errors.into_iter().next() {
        Some((Expect::Delim(open), _)) => {
            refuse(open, format!("{open:?}"), "jq: this bracket or quote is not closed".to_owned())
        }
        Some((_, "")) => refuse(&text[text.len()..], "the end".to_owned(), "a complete jq filter".to_owned()),
        Some((expected, rest)) => {
            let found: String = rest.chars().take(20).collect();
            refuse(rest, format!("{found:?}"), format!("a jq filter (here: {})", expected_word(&expected)))
        }
        None => refuse(text, format!("{text:?}"), "a jq filter".to_owned()),
    })?;
    let term = Parser::new(&tokens).parse(Parser::term).map_err(|errors| {
        let (wanted, at) =
            errors.into_iter().next().map_or(("term", None), |(expected, token)| (expected.as_str(), token));
        match at {
            Some(token) => {
                refuse(token.0, format!("{:?}", short(token.0)), format!("jq: here {wanted} is expected"))
            }
            None => {
                refuse(&text[text.len()..], "the end".to_owned(), format!("jq: here {wanted} is expected"))
            }
        }
    })?;
    let uses = check::check(text, &term)?;
    let code = match simple(&term) {
        Some(code) => code,
        None => Code::Jq(Box::new(translate(text, &uses)?)),
    };
    Ok(Filter { text: text.to_owned(), code, uses_key: uses.key, uses_headers: uses.headers })
}

/// The second half of jaq: names to functions.
fn translate(text: &str, uses: &check::Uses) -> Result<jaq_core::Filter<Jq>, Refusal> {
    let arena = Arena::default();
    let loader = Loader::new(library::definitions(&uses.names));
    let wrong = |part: &str, found: String, wanted: String| Refusal {
        at: check::position(text, part),
        found,
        wanted,
    };
    let modules = loader
        .load(&arena, File { code: text, path: () })
        .map_err(|_| wrong(text, format!("{:?}", short(text)), "a jq filter".to_owned()))?;
    let compiler = Compiler::default().with_funs(library::natives()).with_global_vars(VARIABLES);
    compiler.compile(modules).map_err(|errors| {
        let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
        let Some((name, what)) = first else { return wrong(text, short(text), "a jq filter".to_owned()) };
        let wanted = match what {
            Undefined::Var => format!("one of the variables {}", VARIABLES.join(", ")),
            Undefined::Filter(arity) => match library::nearest(name) {
                Some(near) if near == name => {
                    format!("another number of arguments than {arity} for `{name}`")
                }
                Some(near) => format!("a function of jq; did you mean `{near}`?"),
                None => "a function of jq".to_owned(),
            },
            _ => "a name that is defined".to_owned(),
        };
        wrong(name, format!("`{name}`, which is not known"), wanted)
    })
}

/// The forms that need no interpreter.
fn simple(term: &Term<&str>) -> Option<Code> {
    match term {
        Term::Str(None, parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    StrPart::Str(part) => text.push_str(part),
                    StrPart::Char(c) => text.push(*c),
                    StrPart::Term(_) => return None,
                }
            }
            Some(Code::Constant(Literal::Text(text)))
        }
        Term::Num(number) => Some(Code::Constant(literal(number)?)),
        Term::Neg(inner) => match &**inner {
            Term::Num(number) => Some(Code::Constant(literal(&format!("-{number}"))?)),
            _ => None,
        },
        Term::Call(name, arguments) if arguments.is_empty() => Some(Code::Constant(match *name {
            "null" => Literal::Null,
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            _ => return None,
        })),
        Term::Var(name) => VARIABLES.iter().position(|known| known == name).map(Code::Variable),
        Term::Id => Some(Code::Fields(Vec::new())),
        Term::Path(base, path) if matches!(**base, Term::Id) => {
            let mut names = Vec::new();
            for (part, opt) in &path.0 {
                let jaq_core::path::Part::Index(index) = part else { return None };
                let (Code::Constant(Literal::Text(name)), jaq_core::path::Opt::Essential) =
                    (simple(index)?, opt)
                else {
                    return None;
                };
                names.push(name);
            }
            Some(Code::Fields(names))
        }
        _ => None,
    }
}

/// A number as it is written.
fn literal(number: &str) -> Option<Literal> {
    match <Val as jaq_core::ValT>::from_num(number).ok()? {
        Val::Int(number) => Some(Literal::Int(number)),
        Val::Float(number) => Some(Literal::Float(number)),
        _ => None,
    }
}

/// Bounds that keep jaq's parser, which recurses, within the stack.
fn bounded_text(text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_MAX {
        return Err(Refusal {
            at: TEXT_MAX,
            found: format!("a filter of {} bytes", text.len()),
            wanted: format!("at most {TEXT_MAX} bytes"),
        });
    }
    let (mut nesting, mut prefixes, mut operators) = (Nesting::default(), 0_usize, 0_usize);
    for (at, c) in text.char_indices() {
        nesting.pass(c);
        let begins = |words: &[&str]| words.iter().any(|word| text[at..].starts_with(word));
        prefixes += usize::from(begins(&["-", "if", "try", "def", "reduce", "foreach", "label", "as"]));
        operators += usize::from(begins(&["|", ",", "+", "*", "/", "%", "=", "<", ">", "and", "or", "?"]));
        if nesting.open.len() > NESTED_MAX || prefixes > PREFIXES_MAX || operators > OPERATORS_MAX {
            return Err(Refusal {
                at,
                found: "a filter that nests too deep".to_owned(),
                wanted: format!(
                    "at most {NESTED_MAX} brackets within each other and {OPERATORS_MAX} operators"
                ),
            });
        }
    }
    Ok(())
}

/// What is open at a place of a filter's text. A bracket within a string or a comment closes nothing.
#[derive(Default)]
struct Nesting {
    /// Brackets, and quotes of strings, that are open.
    open: Vec<char>,
    /// Whether the last character takes the meaning from the next: an odd number of backslashes.
    escaping: bool,
    comment: bool,
}

impl Nesting {
    fn pass(&mut self, c: char) {
        let escaped = self.escaping;
        // The return before a line end counts for nothing.
        self.escaping = if c == '\r' { escaped } else { c == '\\' && !escaped };
        let in_string = self.open.last() == Some(&'"');
        match c {
            // A comment goes on after a line end that is escaped.
            '\n' if self.comment => self.comment = escaped,
            _ if self.comment => {}
            '(' if in_string && escaped => self.open.push('('),
            _ if in_string && escaped => {}
            '"' if in_string => drop(self.open.pop()),
            _ if in_string => {}
            '#' => self.comment = true,
            '(' | '[' | '{' | '"' => self.open.push(c),
            ')' | ']' | '}' => drop(self.open.pop()),
            _ => {}
        }
    }
}

/// A text that is no jq at all was most likely meant as it stands.
fn explain_words(text: &str, refusal: Refusal) -> Refusal {
    let like_words = !text.trim().is_empty()
        && !text
            .chars()
            .any(|c| matches!(c, '.' | '$' | '@' | '|' | '(' | ')' | '[' | ']' | '{' | '}' | '"'));
    // What is refused for what it does was understood.
    let understood = ["do not have", "nests", "calls itself", "multiplied"];
    match like_words && !understood.iter().any(|part| refusal.found.contains(part)) {
        true => Refusal {
            wanted: format!("a jq filter; for the text itself write '\"{text}\"', in both kinds of quotes"),
            ..refusal
        },
        false => refusal,
    }
}

fn expected_word(expected: &Expect<&str>) -> &'static str {
    match expected {
        Expect::Digit => "a digit",
        Expect::Ident => "a name",
        Expect::Escape => "an escape such as \\n or \\u0041",
        Expect::Unicode => "four hexadecimal digits of a character",
        _ => "something that jq knows",
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
