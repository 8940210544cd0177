//! The settings of a `kind = "nats"` source, read from its section once and checked.
//!
//! Nothing here connects or opens a file. `kind`, `unmatched`, `payload` and `key_format` stand in
//! the same section and are read by others, so the section is not finished here. Called by
//! [`super::build`].

use std::path::PathBuf;
use std::time::Duration;

use async_nats::header::HeaderName;
use secrecy::SecretString;

use super::spread::{self, Spread};
use crate::broker::Reading;
use crate::core::section::{Section, show_duration};

/// The most messages a JetStream source may hold: each costs a progress ack every third of
/// `ack_wait` (design, section 3).
pub const MAX_HELD: usize = 5_000;

/// The shortest `ack_wait`: three progress acks must fit between two redeliveries with room for a
/// slow network.
const MIN_ACK_WAIT: Duration = Duration::from_secs(1);
/// The longest: after a crash, held messages come back only then.
const MAX_ACK_WAIT: Duration = Duration::from_secs(3_600);

/// All that the config says about one NATS source.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses, `nats://host:port` or `tls://host:port`; at least one.
    pub servers: Vec<String>,
    /// The stream that is read.
    pub stream: String,
    /// Which of its subjects; at least one.
    pub subjects: Vec<String>,
    /// The durable consumer's name.
    pub durable: String,
    /// Where a record's key stands.
    pub key: KeyPlace,
    /// The dead-letter stream's name.
    pub dead_letter: String,
    /// When the server takes a message back that nobody spoke for; 1 s to 1 h.
    pub ack_wait: Duration,
    /// Whether streams and durable are made when missing.
    pub create: bool,
    /// Where a durable that is made new begins.
    pub start_from: StartFrom,
    /// How several replicas share the stream.
    pub spread: Spread,
    /// Who we are.
    pub login: Login,
    /// TLS, when asked for.
    pub tls: Option<Tls>,
    /// Where what is read are requests for replays: the stream of the source whose letters they are of.
    pub replays_of: Option<String>,
    /// When it is read; only requests are read when that is told.
    pub reading: Reading,
}

/// Where a record's key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// No `key` in the config: records have none.
    Nowhere,
    /// The subject's token of that number, from 0.
    Token(usize),
    /// The first header of that name.
    Header(String),
}

/// Where a durable that is made new begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// With what is published from then on.
    Latest,
    /// With the oldest message of the stream.
    Earliest,
}

/// How the server knows us. Secrets show only to the connection.
#[derive(Clone, Debug)]
pub enum Login {
    /// By nothing.
    Nobody,
    /// A name and a password.
    Password(String, SecretString),
    /// A token.
    Token(SecretString),
    /// The seed of an nkey (`SU…`).
    Nkey(SecretString),
    /// The contents of a credentials file: JWT and seed.
    Credentials(SecretString),
}

/// TLS files. Without a CA file the system's own are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM of the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// PEM of our certificate and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Settings {
    /// Reads them; `None` when something is wrong (told in the section's report).
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let servers = servers(section);
        let stream = stream_name(section, "stream");
        let subjects = required_texts(section, "subjects", "a list of subjects such as [\"match.*.events\"]");
        let durable = stream_name(section, "durable");
        let key = key_place(section);
        let dead_letter = stream_name(section, "dead_letter");
        let ack_wait = ack_wait(section);
        let create = section.boolean("create", false);
        let start_from = section.word(
            "start_from",
            StartFrom::Latest,
            &[("latest", StartFrom::Latest), ("earliest", StartFrom::Earliest)],
        );
        let spread = spread::read(section, key.as_ref(), subjects.as_deref());
        let login = login(section);
        let tls = tls(section);
        let (stream, dead_letter) = (stream?, dead_letter?);
        if stream == dead_letter {
            section.wrong(
                "dead_letter",
                format!("{dead_letter:?}, the source's own stream"),
                "a stream of its own",
            );
            return None;
        }
        Some(Self {
            servers: servers?,
            stream,
            subjects: subjects?,
            durable: durable?,
            key: key?,
            dead_letter,
            ack_wait: ack_wait?,
            create,
            start_from,
            spread: spread?,
            login: login?,
            tls: tls?,
            replays_of: None,
            reading: Reading::AtOnce,
        })
    }

    /// The settings of the source that reads the requests for replays of this one's letters.
    pub fn of_replays(&self, reading: Reading) -> Self {
        Self {
            stream: self.dead_letter.clone(),
            subjects: vec![format!("{}.replay.>", self.dead_letter)],
            durable: format!("{}_replay", self.durable),
            start_from: StartFrom::Earliest,
            spread: Spread::OneActive,
            replays_of: Some(self.stream.clone()),
            reading,
            ..self.clone()
        }
    }

    /// The servers' addresses for messages, without user and password.
    pub fn addresses(&self) -> String {
        let bare = |server: &String| match (server.find("://"), server.rfind('@')) {
            (Some(scheme), Some(at)) => format!("{}://{}", &server[..scheme], &server[at + 1..]),
            (None, Some(at)) => server[at + 1..].to_owned(),
            (_, None) => server.clone(),
        };
        self.servers.iter().map(bare).collect::<Vec<_>>().join(", ")
    }
}

fn required_texts(section: &Section<'_>, key: &str, wanted: &str) -> Option<Vec<String>> {
    if section.node(key).is_none() {
        section.wrong(key, "nothing", wanted);
        return None;
    }
    let texts = section.texts(key)?;
    if texts.is_empty() || texts.iter().any(|text| text.is_empty() || text.contains(char::is_whitespace)) {
        section.wrong(key, format!("{texts:?}"), wanted);
        return None;
    }
    Some(texts)
}

fn servers(section: &Section<'_>) -> Option<Vec<String>> {
    let wanted = "a list of addresses such as [\"nats://127.0.0.1:4222\"]";
    let servers = required_texts(section, "servers", wanted)?;
    for server in &servers {
        // The text itself is not repeated: it may hold a password.
        if server.parse::<async_nats::ServerAddr>().is_err() {
            section.wrong("servers", "an address that cannot be read", wanted);
            return None;
        }
    }
    Some(servers)
}

/// A name of a stream or durable: it becomes a token of subjects.
fn stream_name(section: &Section<'_>, key: &str) -> Option<String> {
    let name = section.required_text(key)?;
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c)) {
        section.wrong(key, format!("{name:?}"), "a name without spaces, '.', '*', '>', '/' and '\\'");
        return None;
    }
    Some(name)
}

fn ack_wait(section: &Section<'_>) -> Option<Duration> {
    let wait = section.duration("ack_wait", Duration::from_secs(10));
    if (MIN_ACK_WAIT..=MAX_ACK_WAIT).contains(&wait) {
        return Some(wait);
    }
    section.wrong("ack_wait", show_duration(wait), "a time from \"1s\" to \"1h\"");
    None
}

fn key_place(section: &Section<'_>) -> Option<KeyPlace> {
    if section.node("key").is_none() {
        return Some(KeyPlace::Nowhere);
    }
    let key = section.section("key")?;
    let token = key.optional_integer("token", 0..256);
    let header = key.text("header");
    let both = key.node("token").is_some() && key.node("header").is_some();
    let place = match (token, header) {
        _ if both => None,
        (Some(token), None) => usize::try_from(token).ok().map(KeyPlace::Token),
        (None, Some(name)) if name.parse::<HeaderName>().is_ok() && !name.is_empty() => {
            Some(KeyPlace::Header(name))
        }
        _ => None,
    };
    if place.is_none() {
        section.wrong(
            "key",
            "a table of another shape",
            "{ token = 1 }, a token of the subject from 0, or { header = \"Room\" }",
        );
    }
    key.finish();
    place
}

fn login(section: &Section<'_>) -> Option<Login> {
    let given = |key: &str| section.node(key).is_some() || section.node(&format!("{key}_file")).is_some();
    let username = section.text("username");
    let ways: Vec<&str> =
        ["password", "token", "nkey_seed", "credentials"].into_iter().filter(|key| given(key)).collect();
    if ways.len() > 1 {
        section.wrong(ways[1], ways.join(" and "), "one way to log in");
        return None;
    }
    match (username, ways.first().copied()) {
        (None, None) => Some(Login::Nobody),
        (Some(name), Some("password")) => Some(Login::Password(name, section.secret("password")?)),
        (Some(_), None) => {
            section.wrong("username", "a username without a password", "password or password_file beside it");
            None
        }
        (None, Some("password")) => {
            section.wrong("password", "a password without a username", "username beside it");
            None
        }
        (Some(_), Some(way)) => {
            section.wrong("username", format!("username and {way}"), "one way to log in");
            None
        }
        (None, Some("token")) => Some(Login::Token(section.secret("token")?)),
        (None, Some("nkey_seed")) => Some(Login::Nkey(section.secret("nkey_seed")?)),
        (None, Some(_)) => Some(Login::Credentials(section.secret("credentials")?)),
    }
}

fn tls(section: &Section<'_>) -> Option<Option<Tls>> {
    if section.node("tls").is_none() {
        return Some(None);
    }
    let table = section.section("tls")?;
    let file = |key| table.text(key).map(PathBuf::from);
    let (ca_file, cert, key) = (file("ca_file"), file("cert_file"), file("key_file"));
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            table.wrong("cert_file", "a certificate without a key", "key_file beside it");
            return None;
        }
        (None, Some(_)) => {
            table.wrong("key_file", "a key without a certificate", "cert_file beside it");
            return None;
        }
    };
    table.finish();
    Some(Some(Tls { ca_file, client }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::section::{Node, Place, Problem, Report, Table, Value};

    fn node(value: Value) -> Node {
        Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
    }

    fn text(value: &str) -> Node {
        node(Value::Text(value.to_owned()))
    }

    fn base() -> Table {
        Table::from([
            ("servers".to_owned(), text("nats://127.0.0.1:4222")),
            ("stream".to_owned(), text("MATCH")),
            ("subjects".to_owned(), node(Value::List(vec![text("match.*.events")]))),
            ("durable".to_owned(), text("roomcast")),
            ("dead_letter".to_owned(), text("MATCH_DLQ")),
        ])
    }

    fn read(more: Vec<(&str, Node)>) -> (Option<Settings>, Vec<Problem>) {
        let mut table = base();
        table.extend(more.into_iter().map(|(key, node)| (key.to_owned(), node)));
        let report = Report::new(&|name| Ok(format!("secret of {name}\n")));
        let section = Section::new("sources.match", &table, Place::Nowhere, &report);
        let settings = Settings::read(&section);
        (settings, report.into_problems())
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let (settings, problems) = read(vec![]);
        let settings = settings.unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.ack_wait, Duration::from_secs(10));
        assert_eq!(settings.start_from, StartFrom::Latest);
        assert!(!settings.create);
        assert_eq!(settings.key, KeyPlace::Nowhere);
        assert!(matches!(settings.login, Login::Nobody));
        assert_eq!(settings.tls, None);
    }

    #[test]
    fn the_key_is_a_token_or_a_header() {
        let table =
            |key: &str, value: Value| node(Value::Table(Table::from([(key.to_owned(), node(value))])));
        let (settings, _) = read(vec![("key", table("token", Value::Integer(1)))]);
        assert_eq!(settings.unwrap().key, KeyPlace::Token(1));
        let (settings, _) = read(vec![("key", table("header", Value::Text("Room".to_owned())))]);
        assert_eq!(settings.unwrap().key, KeyPlace::Header("Room".to_owned()));
        let (settings, problems) = read(vec![("key", table("tokne", Value::Integer(1)))]);
        assert!(settings.is_none());
        assert!(problems.iter().any(|p| p.key == "sources.match.key"), "{problems:?}");
    }

    #[test]
    fn partitions_need_a_token_that_every_subject_has() {
        let table =
            |key: &str, value: Value| node(Value::Table(Table::from([(key.to_owned(), node(value))])));
        let spread = |count| ("spread", table("partitions", Value::Integer(count)));
        let token = |number| ("key", table("token", Value::Integer(number)));
        let (settings, problems) = read(vec![spread(8), token(1)]);
        assert_eq!(
            settings.map(|settings| settings.spread),
            Some(Spread::Partitions { count: 8, token: 1 }),
            "{problems:?}"
        );
        assert_eq!(
            read(vec![("spread", text("one_active"))]).0.map(|settings| settings.spread),
            Some(Spread::OneActive)
        );
        let header = ("key", table("header", Value::Text("Room".to_owned())));
        let tail = ("subjects", node(Value::List(vec![text("match.>")])));
        assert!(read(vec![spread(2), token(7), tail]).0.is_some(), "`>` has as many tokens as it takes");
        for (wrong, key, found) in [
            (vec![spread(8), header], "key", "header"),
            (vec![spread(8)], "key", "nothing"),
            (vec![spread(8), token(3)], "subjects", "no token 3"),
            (vec![spread(1), token(1)], "spread.partitions", "1"),
            (vec![spread(65), token(1)], "spread.partitions", "65"),
            (vec![("spread", text("all"))], "spread", "all"),
            (vec![("spread", table("parts", Value::Integer(8))), token(1)], "spread", "without"),
        ] {
            let (settings, problems) = read(wrong);
            assert!(settings.is_none());
            let told = problems.iter().any(|problem| {
                problem.key == format!("sources.match.{key}") && problem.found.contains(found)
            });
            assert!(told, "{problems:?}");
        }
    }

    #[test]
    fn there_is_one_way_to_log_in() {
        use secrecy::ExposeSecret;
        let (settings, _) = read(vec![("username", text("u")), ("password_file", text("/run/p"))]);
        match settings.unwrap().login {
            Login::Password(name, secret) => {
                assert_eq!((name.as_str(), secret.expose_secret()), ("u", "secret of /run/p"));
            }
            other => panic!("{other:?}"),
        }
        let (settings, _) = read(vec![("credentials_file", text("/run/c"))]);
        assert!(matches!(settings.unwrap().login, Login::Credentials(_)));
        let (settings, _) = read(vec![("nkey_seed", text("SUA"))]);
        assert!(matches!(settings.unwrap().login, Login::Nkey(_)));
        for wrong in [
            vec![("username", text("u"))],
            vec![("password", text("p"))],
            vec![("token", text("t")), ("nkey_seed", text("s"))],
            vec![("username", text("u")), ("token", text("t"))],
        ] {
            let (settings, problems) = read(wrong);
            assert!(settings.is_none() && problems.len() == 1, "{problems:?}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        for (key, value) in [
            ("stream", text("a.b")),
            ("durable", text("a b")),
            ("dead_letter", text("MATCH")),
            ("ack_wait", text("100ms")),
            ("servers", text("")),
            ("servers", text("http://h:1")),
        ] {
            let (settings, problems) = read(vec![(key, value)]);
            assert!(settings.is_none(), "{key}");
            assert_eq!(problems[0].key, format!("sources.match.{key}"));
        }
    }

    #[test]
    fn addresses_for_messages_hide_a_password() {
        let (settings, _) = read(vec![("servers", text("nats://bob:hunter2@10.0.0.1:4222"))]);
        assert_eq!(settings.unwrap().addresses(), "nats://10.0.0.1:4222");
    }
}
