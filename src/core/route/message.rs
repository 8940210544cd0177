//! The `message` of a route: which kind, and a template for each of its fields.
//!
//! A template is what was written, compiled: strings are filters, numbers and booleans stand for
//! themselves, tables and lists hold templates. Filled in for one event it gives a [`Draft`]'s
//! parts; what a provider makes of them is not known here.

use serde_json::{Map, Value};

use super::fields::{KINDS, Want};
use super::filter::{Input, Trouble};
use super::template::{Template, kind_of, shaped};
use super::text::{full_key, told};
use crate::core::model::{Path, Priority};
use crate::core::provider::{Kind, KindName, Media, Provider};
use crate::core::section::{Node, Place, Problem, Section, Severity, Value as Written};

/// More messages than this are no answer to one event.
const MESSAGES_MAX: usize = 16;

/// How a message looks.
const WANTED: &str =
    "{ kind = \"text\", text = '.data.text' }, or \"custom\" or \"command\" for a machine event";

/// Where messages go: what their checking depends on.
struct To<'p> {
    provider: &'p dyn Provider,
    path: Path,
    /// `None`: it may differ from event to event.
    priority: Option<Priority>,
}

/// What a route sends.
#[derive(Debug)]
pub enum MessageRule {
    /// A machine event; as a command or not.
    Machine(bool),
    /// A message of a kind.
    Mapped(Box<Mapping>),
}

/// A message table, compiled.
#[derive(Debug)]
pub struct Mapping {
    kind: KindName,
    fields: Vec<(&'static str, Want, bool, Template)>,
    sender: Option<Template>,
    ext: Option<Template>,
    options: Vec<(String, Template)>,
}

/// The parts of a draft that a mapping gives.
#[derive(Debug)]
pub struct Filled {
    /// The content.
    pub kind: Kind,
    /// Overrides the account's sender.
    pub sender: Option<String>,
    /// The extension.
    pub ext: Option<Value>,
    /// Provider-only options.
    pub options: Map<String, Value>,
}

impl MessageRule {
    /// Reads the `message` or the `messages` of a route whose account and path are known; `priority` is
    /// the route's where that is the same for every event.
    pub fn read(
        route: &Section<'_>,
        provider: &dyn Provider,
        path: Path,
        priority: Option<Priority>,
    ) -> Option<Vec<Self>> {
        let to = To { provider, path, priority };
        let (one, several) = (route.node("message"), route.node("messages"));
        match (one, several) {
            (Some(_), Some(_)) => {
                route.wrong("messages", "both message and messages", "only one of them");
                None
            }
            (None, None) => Self::machine(route, "message", route.place(), &to, false).map(|only| vec![only]),
            (Some(node), None) => Self::read_one(route, "message", node, &to).map(|only| vec![only]),
            (None, Some(Node { value: Written::List(nodes), .. }))
                if (1..=MESSAGES_MAX).contains(&nodes.len()) =>
            {
                let read = nodes.iter().enumerate();
                let read =
                    read.map(|(index, node)| Self::read_one(route, &format!("messages[{index}]"), node, &to));
                // All of them are read before one that is wrong ends it.
                read.collect::<Vec<_>>().into_iter().collect()
            }
            (None, Some(node)) => {
                let found = match &node.value {
                    Written::List(nodes) => format!("a list of {}", nodes.len()),
                    other => other.kind().to_owned(),
                };
                route.wrong("messages", found, format!("a list of 1 to {MESSAGES_MAX} messages, {WANTED}"));
                None
            }
        }
    }

    /// Compiles the filters in `message` and `messages` where nobody knows who sends: their mistakes are
    /// told all the same, those of kinds and keys with the account's.
    pub fn compile_alone(route: &Section<'_>) {
        let one = |key: &str, node: &Node| {
            let Written::Table(table) = &node.value else { return };
            for (name, node) in table.iter().filter(|(name, _)| *name != "kind") {
                Template::read(route, &format!("{key}.{name}"), node);
            }
        };
        match (route.node("message"), route.node("messages")) {
            (_, Some(Node { value: Written::List(nodes), .. })) => {
                let all = nodes.iter().enumerate();
                all.for_each(|(index, node)| one(&format!("messages[{index}]"), node));
            }
            (Some(node), _) => one("message", node),
            _ => {}
        }
    }

    /// Reads one message, written at `node`.
    fn read_one(route: &Section<'_>, key: &str, node: &Node, to: &To<'_>) -> Option<Self> {
        match &node.value {
            Written::Text(word) if word == "custom" => Self::machine(route, key, &node.place, to, false),
            Written::Text(word) if word == "command" => Self::machine(route, key, &node.place, to, true),
            Written::Table(table) => {
                let path = full_key(route, key);
                let section = Section::new(&path, table, node.key_place.clone(), route.report());
                let mapping = Mapping::read(&section, to);
                if mapping.is_none() && !known_kind(&section) {
                    // Which keys are right depends on the kind: one problem is enough.
                    section.keys().for_each(|key| {
                        section.node(key);
                    });
                }
                section.finish();
                Some(Self::Mapped(Box::new(mapping?)))
            }
            other => {
                let found = match other {
                    Written::Text(word) => format!("{word:?}"),
                    other => other.kind().to_owned(),
                };
                wrong_at(route, key, &node.place, found, format!("a table such as {WANTED}"));
                None
            }
        }
    }

    fn machine(route: &Section<'_>, key: &str, place: &Place, to: &To<'_>, as_command: bool) -> Option<Self> {
        if let Err(lacks) = to.provider.supports(KindName::Machine, to.path) {
            wrong_at(route, key, place, "a machine event".to_owned(), lacks);
            return None;
        }
        Some(Self::Machine(as_command))
    }

    /// Whether a filter in it looks at `$headers`.
    pub fn uses_headers(&self) -> bool {
        let Self::Mapped(mapping) = self else { return false };
        let fields = mapping.fields.iter().map(|(_, _, _, template)| template);
        let rest = mapping.options.iter().map(|(_, template)| template);
        fields.chain(&mapping.sender).chain(&mapping.ext).chain(rest).any(Template::uses_headers)
    }
}

/// Tells of a message at its own place: that of a list stands below no key.
fn wrong_at(route: &Section<'_>, key: &str, place: &Place, found: String, wanted: String) {
    let (severity, place) = (Severity::Error, place.clone());
    route.report().add(Problem { severity, place, key: full_key(route, key), found, wanted });
}

fn known_kind(section: &Section<'_>) -> bool {
    let word = section.node("kind").map(|node| &node.value);
    matches!(word, Some(Written::Text(word)) if KINDS.iter().any(|(known, _, _)| known == word))
}

impl Mapping {
    fn read(section: &Section<'_>, to: &To<'_>) -> Option<Self> {
        let To { provider, path, priority } = *to;
        if section.node("kind").is_none() {
            let kinds: Vec<String> = KINDS.iter().map(|(known, _, _)| format!("{known:?}")).collect();
            section.wrong("kind", "nothing", format!("one of {}", kinds.join(", ")));
        }
        let word = section.text("kind")?;
        let Some((_, kind, fields)) = KINDS.iter().find(|(known, _, _)| *known == word) else {
            section.wrong("kind", format!("{word:?}"), told(&word, KINDS.iter().map(|(known, _, _)| *known)));
            return None;
        };
        let supported = provider.supports(*kind, path);
        if let Err(lacks) = &supported {
            section.wrong(
                "kind",
                format!("{word:?}, on the path `{}` of {}", path.word(), provider.name()),
                format!("another kind: {lacks}"),
            );
        }
        let mut usable = supported.is_ok();
        let mut read = Vec::new();
        for (name, want, required) in *fields {
            match section.node(name) {
                Some(node) => match Template::read(section, name, node) {
                    Some(template) => {
                        usable &= template.fits(section, name, *want, *required);
                        read.push((*name, *want, *required, template));
                    }
                    None => usable = false,
                },
                // `attach` takes the place of the usual form.
                None if *required && !(*kind == KindName::Custom && section.node("attach").is_some()) => {
                    section.wrong(
                        name,
                        "nothing",
                        format!("a filter: a message of kind {word:?} has a {name}"),
                    );
                    usable = false;
                }
                None => {}
            }
        }
        if usable {
            warn_of_ignored(section, provider, *kind, &word);
        }
        let mut part = |name: &str| {
            let node = section.node(name)?;
            let template = Template::read(section, name, node);
            usable &= template.is_some();
            template
        };
        let (sender, ext) = (part("sender"), part("ext"));
        usable &= sender.as_ref().is_none_or(|sender| sender.fits(section, "sender", Want::Text, false));
        if let Some(Template::Constant(value)) = &ext
            && !value.is_null()
        {
            section.wrong("ext", kind_of(value), "an object: a table, or a filter that gives one");
            usable = false;
        }
        let options = options(section, provider, *kind, path, priority);
        usable.then_some(())?;
        Some(Self { kind: *kind, fields: read, sender, ext, options: options? })
    }

    /// Fills it in for an event.
    pub fn fill(&self, input: &Input) -> Result<Filled, Trouble> {
        let mut values = Values(Map::new());
        for (name, want, required, template) in &self.fields {
            let value = template.fill(input).map_err(|trouble| named(name, trouble))?;
            let value =
                shaped(value, *want).map_err(|why| Trouble::Failed(format!("message.{name} gives {why}")))?;
            if *required && value.is_null() {
                return Err(Trouble::Failed(format!("message.{name} gives null; a value is wanted")));
            }
            values.0.insert((*name).to_owned(), value);
        }
        let text = |name: &str, template: &Option<Template>| -> Result<Option<String>, Trouble> {
            let Some(template) = template else { return Ok(None) };
            let value = template.fill(input).map_err(|trouble| named(name, trouble))?;
            match shaped(value, Want::Text) {
                Ok(Value::String(text)) => Ok(Some(text)),
                Ok(_) => Ok(None),
                Err(why) => Err(Trouble::Failed(format!("message.{name} gives {why}"))),
            }
        };
        let sender = text("sender", &self.sender)?;
        let ext = match &self.ext {
            None => None,
            Some(template) => match template.fill(input).map_err(|trouble| named("ext", trouble))? {
                Value::Null => None,
                object @ Value::Object(_) => Some(object),
                other => {
                    return Err(Trouble::Failed(format!(
                        "message.ext gives {}; an object is wanted",
                        kind_of(&other)
                    )));
                }
            },
        };
        let mut options = Map::new();
        for (name, template) in &self.options {
            let value = template.fill(input).map_err(|trouble| named(&format!("options.{name}"), trouble))?;
            if !value.is_null() {
                options.insert(name.clone(), value);
            }
        }
        Ok(Filled { kind: values.kind(self.kind), sender, ext, options })
    }
}

/// Fields that are set and that the provider has no place for are left out of the message.
fn warn_of_ignored(section: &Section<'_>, provider: &dyn Provider, kind: KindName, word: &str) {
    for name in provider.ignored_fields(kind).iter().filter(|name| section.node(name).is_some()) {
        section.warn(
            name,
            format!("a field for which {} has no place in a message of kind {word:?}", provider.name()),
            "no such key: it is left out of the message",
        );
    }
}

/// Reads `options` and has the provider check them, alone and beside the route's priority: filters
/// that are not literals go as null.
fn options(
    section: &Section<'_>,
    provider: &dyn Provider,
    kind: KindName,
    path: Path,
    priority: Option<Priority>,
) -> Option<Vec<(String, Template)>> {
    let Some(node) = section.node("options") else { return Some(Vec::new()) };
    let Written::Table(table) = &node.value else {
        section.wrong("options", node.value.kind(), "a table: names of the provider's page and their values");
        return None;
    };
    let inner = Section::new(&full_key(section, "options"), table, node.key_place.clone(), section.report());
    let mut options = Vec::new();
    for (name, node) in table {
        options.push((name.clone(), Template::read(&inner, name, node)?));
    }
    let known = options.iter().map(|(name, template)| (name.clone(), template.constant())).collect();
    let mut problems = provider.check_options(kind, path, &known).err().unwrap_or_default();
    if let Some(priority) = priority
        && let Err((name, wanted)) = provider.check_priority(path, priority, &known)
        && !problems.iter().any(|(told, _)| *told == name)
    {
        problems.push((name, wanted));
    }
    for (name, wanted) in &problems {
        let found = known.get(name).filter(|value| !value.is_null());
        let found = found.map_or_else(|| "a filter".to_owned(), ToString::to_string);
        inner.wrong(name, found, format!("another value, or no such option: {wanted}"));
    }
    problems.is_empty().then_some(options)
}

fn named(name: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Failed(why) => Trouble::Failed(format!("message.{name}: {why}")),
        Trouble::Fatal(why) => Trouble::Fatal(format!("message.{name}: {why}")),
    }
}

/// Values of fields by their names, already in the right shapes.
struct Values(Map<String, Value>);

impl Values {
    fn json(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.json(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn whole(&mut self, name: &str) -> Option<u64> {
        self.json(name)?.as_u64()
    }

    fn number(&mut self, name: &str) -> f64 {
        self.json(name).and_then(|value| value.as_f64()).unwrap_or_default()
    }

    fn media(&mut self) -> Media {
        Media {
            url: self.text("url").unwrap_or_default(),
            name: self.text("name"),
            width: self.whole("width"),
            height: self.whole("height"),
            duration_ms: self.whole("duration_ms"),
            bytes: self.whole("bytes"),
            md5: self.text("md5"),
            extension: self.text("extension"),
            secret: self.text("secret"),
            thumb: self.text("thumb"),
            thumb_secret: self.text("thumb_secret"),
        }
    }

    fn kind(&mut self, name: KindName) -> Kind {
        match name {
            KindName::Text => Kind::Text { text: self.text("text").unwrap_or_default() },
            KindName::Tip => Kind::Tip { text: self.text("text").unwrap_or_default() },
            KindName::Image => Kind::Image(self.media()),
            KindName::Audio => Kind::Audio(self.media()),
            KindName::Video => Kind::Video(self.media()),
            KindName::File => Kind::File(self.media()),
            KindName::Location => Kind::Location {
                lat: self.number("lat"),
                lng: self.number("lng"),
                address: self.text("address").unwrap_or_default(),
            },
            KindName::Command => {
                Kind::Command { action: self.text("action").unwrap_or_default(), data: self.json("data") }
            }
            KindName::Custom | KindName::Machine => Kind::Custom {
                event: self.text("event").unwrap_or_default(),
                fields: self.json("fields"),
                attach: self.json("attach"),
            },
        }
    }
}
