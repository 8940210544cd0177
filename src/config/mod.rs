//! The config as it was written: files and variables, merged, every value with its place.
//!
//! Layers, each over the one before: built-in defaults < the files of `-c`, in their order < the
//! `ROOMCAST__…` variables. figment merges them and remembers by a tag which layer each value came
//! from; a later file's list replaces an earlier one's whole. figment knows files but no spans, so
//! each file is parsed once by `toml`, which does, and the winner's tag leads back to the bytes of
//! that layer ([`mod@file`]). The lowest layer, the defaults, is not a table: each module states its
//! own where it reads its section, so a default cannot drift from the code that uses it.
//!
//! Nothing here knows what a key means. Called by `cli`; what the keys mean is `app`'s to find out.

pub mod file;
pub mod mask;
pub mod render;
mod strings;
pub mod variables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Tag, Value as Merged};
use figment::{Figment, Provider as _};

use self::file::{FileLayer, Step};
use self::variables::VariableLayer;
use crate::core::section::{Node, Place, Problem, Severity, Table, Value};

/// A config that could be read: one table, and the texts to show places in.
#[derive(Debug)]
pub struct Loaded {
    /// All layers merged.
    pub table: Table,
    /// The files' texts, without their secrets.
    pub texts: Texts,
}

impl Loaded {
    /// What is written at a path of keys, if anything is.
    pub fn node(&self, path: &[&str]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.table.get(*first)?, |node, key| match &node.value {
            Value::Table(table) => table.get(*key),
            _ => None,
        })
    }
}

/// A config of which a part could not be read, with all reasons found.
#[derive(Debug)]
pub struct Broken {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The texts of those files that could be opened, without their secrets.
    pub texts: Texts,
    /// What could be read. It is not the config: a key that is missing may stand where nothing could be.
    rest: Table,
}

impl Broken {
    /// What could be read of it, as if that were all.
    pub fn rest(&self) -> Loaded {
        Loaded { table: self.rest.clone(), texts: self.texts.clone() }
    }

    /// Whether something stands before the first mistake of its file, or in a file (or variable) without
    /// one: behind a mistake nobody knows to which table a line belongs.
    pub fn reads_up_to(&self, place: &Place) -> bool {
        let bytes = |place: &Place| match place {
            Place::File { name, span } | Place::Inside { name, span, .. } => {
                Some((name.clone(), span.clone()))
            }
            Place::Variable(_) | Place::Nowhere => None,
        };
        let Some((file, span)) = bytes(place) else { return true };
        let mistakes = self.problems.iter().filter_map(|problem| bytes(&problem.place));
        mistakes.filter(|(name, _)| *name == file).all(|(_, mistake)| span.end <= mistake.start)
    }
}

/// The files' texts by name, in the order of `-c`. Secrets are blotted out, byte for byte, so that
/// spans still fit and no picture of a mistake can show one.
#[derive(Clone, Debug, Default)]
pub struct Texts(Vec<(Arc<str>, Arc<str>)>);

impl Texts {
    /// The text of a file and its place among the files.
    pub fn get(&self, name: &str) -> Option<(usize, &Arc<str>)> {
        self.0.iter().enumerate().find(|(_, (n, _))| &**n == name).map(|(index, (_, text))| (index, text))
    }
}

/// One layer, as provenance needs it.
enum Layer {
    File(FileLayer),
    Variable(VariableLayer),
}

/// Reads files and variables and merges them. `env` is the whole environment; what does not begin
/// with `ROOMCAST__` is not ours.
///
/// # Errors
/// All files that cannot be opened or are not TOML, and all variables whose names make no sense.
pub fn load(files: &[PathBuf], env: impl Iterator<Item = (String, String)>) -> Result<Loaded, Broken> {
    let mut problems = Vec::new();
    let mut texts = Texts::default();
    let mut layers = Vec::new();
    for path in files {
        match read(path) {
            Err(problem) => problems.push(problem),
            Ok((name, text)) => {
                let (layer, mut wrong) = FileLayer::parse(&name, &text);
                let readable = wrong.is_empty().then_some(&layer);
                texts.0.push((name, mask::text(&text, readable).into()));
                problems.append(&mut wrong);
                layers.push(Layer::File(layer));
            }
        }
    }
    let (variables, mut wrong) = variables::read(env);
    problems.append(&mut wrong);
    layers.extend(variables.into_iter().map(Layer::Variable));
    let (table, mut wrong) = merge(&layers);
    problems.append(&mut wrong);
    match problems.is_empty() {
        true => Ok(Loaded { table, texts }),
        false => Err(Broken { problems, texts, rest: table }),
    }
}

/// Opens a file; its name is what messages call it.
fn read(path: &Path) -> Result<(Arc<str>, String), Problem> {
    let name: Arc<str> = path.display().to_string().into();
    let problem = |found: String, wanted: &str| Problem {
        severity: Severity::Error,
        place: Place::File { name: name.clone(), span: 0..0 },
        key: String::new(),
        found,
        wanted: wanted.to_owned(),
    };
    let bytes = std::fs::read(path)
        .map_err(|error| problem(format!("a file that cannot be read ({error})"), "a config file in TOML"))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name.clone(), text)),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(problem(format!("a byte that is not UTF-8 (byte {at} of the file)"), "a text file in UTF-8"))
        }
    }
}

/// Merges the layers with figment and puts every value's place back. A variable that does not fit is
/// left out and told of.
fn merge(layers: &[Layer]) -> (Table, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut figment = Figment::new();
    for (index, layer) in layers.iter().enumerate() {
        // What stands below a variable is compared with what is there already: a list has no names.
        if let Layer::Variable(variable) = layer
            && let Some(problem) = variable.clash(&merged(&figment))
        {
            problems.push(problem);
            continue;
        }
        figment = match layer {
            Layer::File(file) => figment.merge(Tagged { index, dict: file.dict() }),
            Layer::Variable(variable) => figment.merge(Tagged { index, dict: variable.dict() }),
        };
    }
    let origin = Origin { figment: &figment, layers };
    let mut steps = Vec::new();
    (origin.table(merged(&figment), &mut steps), problems)
}

/// All values merged so far.
fn merged(figment: &Figment) -> Dict {
    let mut profiles = figment.data().expect("layers hand in values that were read already, never errors");
    profiles.remove(&figment::Profile::Default).unwrap_or_default()
}

/// A layer for figment, named by its place in the list of layers.
struct Tagged {
    index: usize,
    dict: Dict,
}

impl figment::Provider for Tagged {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::from("layer", figment::Source::Custom(self.index.to_string()))
    }

    fn data(&self) -> figment::Result<figment::value::Map<figment::Profile, Dict>> {
        Ok(figment::Profile::Default.collect(self.dict.clone()))
    }
}

/// Finds out where merged values were written.
struct Origin<'a> {
    figment: &'a Figment,
    layers: &'a [Layer],
}

impl Origin<'_> {
    fn table(&self, dict: Dict, steps: &mut Vec<Step>) -> Table {
        let mut table = Table::new();
        for (key, value) in dict {
            steps.push(Step::Key(key.clone()));
            table.insert(key, self.node(value, steps));
            steps.pop();
        }
        table
    }

    fn node(&self, value: Merged, steps: &mut Vec<Step>) -> Node {
        let (key_place, place) = self.places(&value, steps);
        let value = match value {
            Merged::Dict(_, dict) => Value::Table(self.table(dict, steps)),
            Merged::Array(_, items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    steps.push(Step::Index(index));
                    nodes.push(self.node(item, steps));
                    steps.pop();
                }
                Value::List(nodes)
            }
            Merged::String(_, text) => Value::Text(text),
            Merged::Bool(_, word) => Value::Boolean(word),
            Merged::Num(_, figment::value::Num::F64(number)) => Value::Float(number),
            Merged::Num(_, number) => Value::Integer(
                number.to_i128().and_then(|n| i64::try_from(n).ok()).expect("layers hand in i64 alone"),
            ),
            Merged::Char(..) | Merged::Empty(..) => unreachable!("layers hand in neither"),
        };
        Node { value, place, key_place }
    }

    /// The places of key and value. A table may be spread over layers: then the last file that
    /// writes it is shown, since a variable has no header to point at.
    fn places(&self, value: &Merged, steps: &[Step]) -> (Place, Place) {
        let files = |layer: &Layer| match layer {
            Layer::File(file) => file.places(steps),
            Layer::Variable(_) => None,
        };
        if let Merged::Dict(..) = value
            && let Some(places) = self.layers.iter().rev().find_map(files)
        {
            return places;
        }
        match self.layer(value.tag()) {
            Some(Layer::File(file)) => file.places(steps).unwrap_or((Place::Nowhere, Place::Nowhere)),
            Some(Layer::Variable(variable)) => (variable.place(), variable.place()),
            None => (Place::Nowhere, Place::Nowhere),
        }
    }

    fn layer(&self, tag: Tag) -> Option<&Layer> {
        let index: usize = self.figment.get_metadata(tag)?.source.as_ref()?.custom()?.parse().ok()?;
        self.layers.get(index)
    }
}
