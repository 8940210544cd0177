//! What a filter's text may not contain: everything that could go on for ever, go too deep for the
//! stack, stop the process or read its surroundings. Told with its position, before anything is
//! compiled; what passes here is bounded by the budget of [`crate::core::value::budget`].

use std::collections::BTreeSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};

use super::Refusal;

/// How deep a filter may nest, with the definitions that it calls: a level takes some 2 KiB of a
/// stack of 2 MiB when it runs.
const DEPTH_MAX: usize = 200;

/// Levels that a call of a library function is reckoned at.
const LIBRARY_DEPTH: usize = 6;

/// Names that are not in the language, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["range", "while", "until", "repeat", "combinations"],
        "it can go on for ever; filters work on what the event holds: .[] , map(f), reduce, first(f)",
    ),
    (&["env", "$ENV"], "filters do not read the environment; write the value into the config"),
    (&["now"], "a filter gives the same for the same event at any time; use the event's own time"),
    (&["localtime", "strflocaltime"], "filters do not read the machine's time zone; use gmtime or strftime"),
    (&["input", "inputs", "input_filename", "input_line_number"], "a filter sees one event, as its input"),
    (&["halt", "halt_error"], "a filter cannot stop the daemon; use error(…) or empty"),
    (&["debug", "stderr"], "filters write nothing; `roomcast explain` shows what they give"),
];

/// What a filter's text makes use of.
#[derive(Debug, Default)]
pub struct Uses {
    /// Names that are called and not defined in the text itself, for picking from the library.
    pub names: BTreeSet<String>,
    /// Whether `$key` is used.
    pub key: bool,
    /// Whether `$headers` is used.
    pub headers: bool,
}

/// Looks at a parsed filter: what it uses, or why it is refused.
pub fn check(text: &str, term: &Term<&str>) -> Result<Uses, Refusal> {
    let mut checker = Checker { text, uses: Uses::default(), open: Vec::new(), known: Vec::new() };
    let depth = checker.term(term, 0)?;
    match depth > DEPTH_MAX {
        true => Err(too_deep()),
        false => Ok(checker.uses),
    }
}

fn too_deep() -> Refusal {
    Refusal {
        at: 0,
        found: "a filter that nests too deep".to_owned(),
        wanted: format!("at most {DEPTH_MAX} levels of operators, fields and definitions"),
    }
}

struct Checker<'t> {
    text: &'t str,
    uses: Uses,
    /// Definitions whose body is being looked at: calling one of them would be a recursion.
    open: Vec<(&'t str, usize)>,
    /// Definitions and parameters in scope, with the depth of their bodies.
    known: Vec<(&'t str, usize, usize)>,
}

impl<'t> Checker<'t> {
    fn refuse<T>(&self, part: &str, found: String, wanted: &str) -> Result<T, Refusal> {
        Err(Refusal { at: position(self.text, part), found, wanted: wanted.to_owned() })
    }

    /// Checks a term at `level` of the text; gives how many levels it nests.
    fn term(&mut self, term: &Term<&'t str>, level: usize) -> Result<usize, Refusal> {
        if level > DEPTH_MAX {
            return Err(too_deep());
        }
        let level = level + 1;
        let depth = match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Arr(None) => 0,
            Term::Str(format, parts) => {
                self.uses.names.extend(format.map(str::to_owned));
                let mut deepest = 0;
                for part in parts {
                    if let StrPart::Term(term) = part {
                        deepest = deepest.max(self.term(term, level)?);
                    }
                }
                deepest + parts.len()
            }
            Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => self.term(inner, level)?,
            Term::Obj(fields) => {
                let mut deepest = 0;
                for (name, value) in fields {
                    deepest = deepest.max(self.term(name, level)?);
                    deepest = deepest.max(value.as_ref().map_or(Ok(0), |value| self.term(value, level))?);
                }
                deepest + fields.len()
            }
            Term::BinOp(left, op, right) => self.binary(left, op, right, level)?,
            Term::Fold(_, over, pattern, arguments) => {
                let deepest = self.term(over, level)?.max(self.pattern(pattern, level)?);
                self.deepest(arguments, level)?.max(deepest)
            }
            Term::TryCatch(body, catch) => {
                let caught = catch.as_ref().map_or(Ok(0), |catch| self.term(catch, level))?;
                self.term(body, level)?.max(caught)
            }
            Term::IfThenElse(branches, otherwise) => {
                let mut deepest = otherwise.as_ref().map_or(Ok(0), |term| self.term(term, level))?;
                for (condition, then) in branches {
                    deepest = deepest.max(self.term(condition, level)?).max(self.term(then, level)?);
                }
                deepest + branches.len()
            }
            Term::Def(definitions, body) => {
                let scope = self.known.len();
                for definition in definitions {
                    self.definition(definition, level)?;
                }
                let depth = self.term(body, level);
                self.known.truncate(scope);
                depth?
            }
            Term::Call(name, arguments) => self.call(name, arguments, level)?,
            Term::Var(name) => {
                self.uses.key |= *name == "$key";
                self.uses.headers |= *name == "$headers";
                self.refused(name)?;
                0
            }
            Term::Path(base, path) => self.path(base, path, level)?,
        };
        Ok(depth + 1)
    }

    fn path(
        &mut self,
        base: &Term<&'t str>,
        path: &Path<Term<&'t str>>,
        level: usize,
    ) -> Result<usize, Refusal> {
        let mut deepest = self.term(base, level)?;
        for (part, _) in &path.0 {
            let terms = match part {
                Part::Index(index) => [Some(index), None],
                Part::Range(from, upto) => [from.as_ref(), upto.as_ref()],
            };
            for term in terms.into_iter().flatten() {
                deepest = deepest.max(self.term(term, level)?);
            }
        }
        Ok(deepest + path.0.len())
    }

    fn binary(
        &mut self,
        left: &Term<&'t str>,
        op: &BinaryOp<&'t str>,
        right: &Term<&'t str>,
        level: usize,
    ) -> Result<usize, Refusal> {
        if let BinaryOp::Math(Math::Mul) | BinaryOp::UpdateMath(Math::Mul) = op
            && let Some(part) = literal(left).or_else(|| literal(right))
        {
            let found = format!("a text that is multiplied: {part:?}");
            return self.refuse(part, found, "numbers on both sides of *; a text is not repeated here");
        }
        let bound = match op {
            BinaryOp::Pipe(Some(pattern)) => self.pattern(pattern, level)?,
            _ => 0,
        };
        Ok(self.term(left, level)?.max(self.term(right, level)?).max(bound))
    }

    fn deepest(&mut self, terms: &[Term<&'t str>], level: usize) -> Result<usize, Refusal> {
        let mut deepest = 0;
        for term in terms {
            deepest = deepest.max(self.term(term, level)?);
        }
        Ok(deepest)
    }

    fn pattern(&mut self, pattern: &Pattern<&'t str>, level: usize) -> Result<usize, Refusal> {
        if level > DEPTH_MAX {
            return Err(too_deep());
        }
        let mut deepest = 0;
        match pattern {
            Pattern::Var(_) => {}
            Pattern::Arr(parts) => {
                for part in parts {
                    deepest = deepest.max(self.pattern(part, level + 1)?);
                }
            }
            Pattern::Obj(parts) => {
                for (name, part) in parts {
                    deepest = deepest.max(self.term(name, level)?).max(self.pattern(part, level + 1)?);
                }
            }
        }
        Ok(deepest + 1)
    }

    fn definition(&mut self, definition: &Def<&'t str, Term<&'t str>>, level: usize) -> Result<(), Refusal> {
        let (name, arity) = (definition.name, definition.args.len());
        self.refused(name)?;
        let scope = self.known.len();
        // A parameter is called like a filter; its depth is added where the definition is called.
        self.known.extend(definition.args.iter().map(|argument| (*argument, 0, 0)));
        self.open.push((name, arity));
        let depth = self.term(&definition.body, level);
        self.open.pop();
        self.known.truncate(scope);
        self.known.push((name, arity, depth?));
        Ok(())
    }

    fn call(&mut self, name: &'t str, arguments: &[Term<&'t str>], level: usize) -> Result<usize, Refusal> {
        self.refused(name)?;
        let arity = arguments.len();
        if name == "recurse" && arity > 0 {
            let found = "`recurse` with an argument".to_owned();
            return self.refuse(name, found, "`..`, which walks what the event holds and ends");
        }
        if self.open.contains(&(name, arity)) {
            let found = format!("the definition of `{name}` calls itself");
            return self.refuse(name, found, "a filter without recursion: `..`, reduce or walk(f)");
        }
        let inner = self.deepest(arguments, level)?;
        let known = self.known.iter().rev().find(|(n, a, _)| *n == name && *a == arity);
        let own = match known {
            Some((_, _, depth)) => *depth,
            None => {
                self.uses.names.insert(name.to_owned());
                LIBRARY_DEPTH
            }
        };
        Ok((own + inner).min(DEPTH_MAX))
    }

    fn refused(&self, name: &str) -> Result<(), Refusal> {
        match REFUSED.iter().find(|(names, _)| names.contains(&name)) {
            Some((_, why)) => self.refuse(name, format!("`{name}`, which filters here do not have"), why),
            None => Ok(()),
        }
    }
}

/// The text of a literal, if the term is one.
fn literal<'t>(term: &Term<&'t str>) -> Option<&'t str> {
    match term {
        Term::Str(_, parts) => Some(parts.iter().find_map(|part| match part {
            StrPart::Str(text) => Some(*text),
            _ => None,
        })?),
        _ => None,
    }
}

/// Where a part of the text begins; 0 when it is not a part of it (then it is made by the parser).
pub fn position(text: &str, part: &str) -> usize {
    let (start, at) = (text.as_ptr().addr(), part.as_ptr().addr());
    match at.checked_sub(start) {
        Some(offset) if offset <= text.len() => offset,
        _ => 0,
    }
}
