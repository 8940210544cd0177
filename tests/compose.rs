//! docker-compose.yml and Dockerfile against config/docker.toml: no engine is needed to see that
//! what roomcast is told to connect to is what the services listen on, and that versions are pinned.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use saphyr::{LoadableYamlNode, Yaml};
use toml::Table;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One service, as far as it is compared.
#[derive(Debug, Default)]
struct Service {
    image: String,
    builds: bool,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    ports: Vec<String>,
    volumes: Vec<String>,
    depends_on: Vec<String>,
}

fn texts(node: Option<&Yaml<'_>>) -> Vec<String> {
    let items = node.and_then(|node| node.as_sequence());
    items.into_iter().flatten().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

fn services() -> BTreeMap<String, Service> {
    let text = read("docker-compose.yml");
    let documents = Yaml::load_from_str(&text).expect("docker-compose.yml is YAML");
    let [document] = &documents[..] else { panic!("docker-compose.yml is one document") };
    let services = document.as_mapping_get("services").and_then(|node| node.as_mapping()).expect("services");
    let service = |node: &Yaml<'_>| Service {
        image: node.as_mapping_get("image").and_then(|image| image.as_str()).unwrap_or_default().to_owned(),
        builds: node.as_mapping_get("build").is_some(),
        command: texts(node.as_mapping_get("command")),
        environment: node
            .as_mapping_get("environment")
            .and_then(|node| node.as_mapping())
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str().expect("a name"), value.as_str().expect("a quoted text")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ports: texts(node.as_mapping_get("ports")),
        volumes: texts(node.as_mapping_get("volumes")),
        depends_on: texts(node.as_mapping_get("depends_on")),
    };
    services.iter().map(|(name, node)| (name.as_str().expect("a name").to_owned(), service(node))).collect()
}

impl Service {
    /// The value of `--name=value` or `--name value` in its command.
    fn flag(&self, name: &str) -> Option<&str> {
        let mut words = self.command.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix(name) {
                Some("") => return words.next().map(String::as_str),
                Some(value) if value.starts_with('=') => return Some(&value[1..]),
                _ => {}
            }
        }
        None
    }

    /// The ports that the service listens on for others of the same network.
    fn listens(&self) -> Vec<u16> {
        let listen = self.flag("--listen").and_then(|address| address.rsplit(':').next());
        let kafka = self.environment.get("KAFKA_LISTENERS").into_iter().flat_map(|text| text.split(','));
        let kafka = kafka.filter_map(|listener| listener.rsplit(':').next());
        let ports = kafka.chain(listen).chain(self.flag("--port"));
        ports.map(|port| port.parse().expect("a port")).collect()
    }
}

fn config() -> Table {
    read("config/docker.toml").parse().expect("config/docker.toml is TOML")
}

/// Sections of one family: `[accounts.…]`, `[sources.…]`.
fn sections(config: &Table, family: &str) -> Vec<Table> {
    let family = config[family].as_table().expect("a table of tables");
    family.values().map(|section| section.as_table().expect("a table").clone()).collect()
}

/// A setting that is one text or a list of them.
fn all(section: &Table, key: &str) -> Vec<String> {
    let text = |value: &toml::Value| value.as_str().expect("a text").to_owned();
    match section.get(key) {
        Some(toml::Value::Array(values)) => values.iter().map(text).collect(),
        Some(value) => vec![text(value)],
        None => Vec::new(),
    }
}

/// `scheme://host:port/path`, `host:port`, or several with commas.
fn host_and_port(address: &str) -> (String, u16) {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, port) = authority.rsplit_once(':').unwrap_or_else(|| panic!("`{address}` names no port"));
    (host.to_owned(), port.parse().unwrap_or_else(|_| panic!("`{address}` names no port")))
}

#[test]
fn every_address_of_the_config_is_a_service_that_listens_there() {
    let (services, config) = (services(), config());
    let mut addresses: Vec<String> = Vec::new();
    for source in sections(&config, "sources") {
        addresses.extend(all(&source, "servers"));
        addresses
            .extend(all(&source, "brokers").iter().flat_map(|brokers| brokers.split(',').map(str::to_owned)));
    }
    let accounts = sections(&config, "accounts");
    addresses.extend(accounts.iter().flat_map(|account| all(account, "base_url")));
    let mut named: Vec<String> = Vec::new();
    for address in &addresses {
        let (host, port) = host_and_port(address);
        let service =
            services.get(&host).unwrap_or_else(|| panic!("`{address}`: there is no service `{host}`"));
        let listens = service.listens();
        assert!(listens.contains(&port), "`{address}`: `{host}` listens on {listens:?}");
        named.push(host);
    }
    named.sort();
    assert_eq!(named, ["easemob", "kafka", "nats", "yunxin"], "each service is used once");
    let mut awaited = services["roomcast"].depends_on.clone();
    awaited.sort();
    assert_eq!(awaited, named, "roomcast comes after what it uses");
}

#[test]
fn simulators_and_accounts_share_their_credentials() {
    let (services, config) = (services(), config());
    for account in sections(&config, "accounts") {
        let provider = account["provider"].as_str().expect("a word");
        let service = &services[provider];
        assert_eq!(service.command[..2], ["simulate", provider]);
        let keys: &[&str] = match provider {
            "easemob" => &["org", "app", "client_id", "client_secret"],
            "yunxin" => &["app_key", "app_secret"],
            other => panic!("no simulator for `{other}`"),
        };
        for key in keys {
            let flag = format!("--{}", key.replace('_', "-"));
            let set = account.get(*key).and_then(toml::Value::as_str);
            assert_eq!(set, service.flag(&flag), "{provider}: {key}");
        }
    }
}

#[test]
fn the_config_is_mounted_where_the_command_reads_it_and_the_probes_are_published() {
    let services = services();
    let roomcast = &services["roomcast"];
    let path = roomcast.command.last().expect("a command");
    assert_eq!(roomcast.command[..2], ["run", "-c"]);
    assert_eq!(roomcast.volumes, [format!("./config/docker.toml:{path}:ro")]);
    let config = config();
    let (host, port) = host_and_port(config["admin"]["probes"].as_str().expect("an address"));
    assert_eq!(host, "0.0.0.0", "the probes are asked from outside of the container");
    assert_eq!(roomcast.ports, [format!("127.0.0.1:{port}:{port}")]);
    let exposed = format!("EXPOSE 9600 {port}");
    assert!(read("Dockerfile").contains(&exposed), "the Dockerfile has no `{exposed}`");
}

#[test]
fn what_kafka_advertises_is_what_it_listens_on_and_what_is_published() {
    let services = services();
    let kafka = &services["kafka"];
    let advertised = &kafka.environment["KAFKA_ADVERTISED_LISTENERS"];
    for listener in advertised.split(',') {
        let (host, port) = host_and_port(listener);
        assert!(kafka.listens().contains(&port), "{listener}");
        let published = kafka.ports.contains(&format!("127.0.0.1:{port}:{port}"));
        assert_eq!(published, host == "127.0.0.1", "{listener}");
    }
    let (_, voter) =
        kafka.environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split_once('@').expect("id@host:port");
    assert!(kafka.listens().contains(&host_and_port(voter).1));
}

/// `name:1.2.3` or `name:1.2.3-flavour`: what is there today is there tomorrow.
fn is_pinned(image: &str) -> bool {
    let Some((_, tag)) = image.rsplit_once(':') else { return false };
    let version = tag.split('-').next().unwrap_or(tag);
    version.split('.').count() >= 2 && version.split('.').all(|part| part.parse::<u32>().is_ok())
}

#[test]
fn images_are_pinned_and_our_own_has_the_version_of_the_crate() {
    assert!(is_pinned("nats:2.15.1-alpine") && is_pinned("debian:12.12-slim"));
    assert!(
        !is_pinned("nats") && !is_pinned("nats:latest") && !is_pinned("nats:2") && !is_pinned("nats:alpine")
    );
    for (name, service) in services() {
        assert!(is_pinned(&service.image), "{name}: `{}` is not pinned", service.image);
        let own = format!("roomcast:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            service.builds,
            service.image == own,
            "{name}: `{}` is built here, or is not ours",
            service.image
        );
    }
    let dockerfile = read("Dockerfile");
    let bases: Vec<_> = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(bases.len(), 2, "one stage builds, one runs");
    for base in &bases {
        let image = base.split(' ').next().expect("an image");
        assert!(is_pinned(image), "`{image}` is not pinned");
    }
    let last_stage = dockerfile.rsplit("FROM ").next().expect("a stage");
    let user = last_stage.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(!user.starts_with('0') && !user.starts_with("root"), "the image runs as `{user}`");
}

#[test]
fn the_image_is_built_with_the_oldest_rust_that_the_crate_allows() {
    let cargo: Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let oldest = cargo["package"]["rust-version"].as_str().expect("a version");
    let dockerfile = read("Dockerfile");
    assert!(
        dockerfile.contains(&format!("FROM rust:{oldest}.")),
        "the Dockerfile builds with another Rust than {oldest}"
    );
}
