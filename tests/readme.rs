//! What the README says of the project, held against the project: its packages, its modules, its
//! metrics, its config.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use roomcast::admin::metrics::{METRICS, Metric};
use toml::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("there is a README.md")
}

/// The text under a heading, up to the next one of any level.
fn section<'a>(readme: &'a str, heading: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no `{heading}`"));
    rest.split("\n#").next().expect("split gives at least one part")
}

/// The first cell of each row of the first table.
fn first_cells(section: &str) -> Vec<&str> {
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row[2..].split(" | ").next().expect("a cell").trim()).collect()
}

#[test]
fn the_package_table_has_a_reason_for_each_dependency_and_for_nothing_else() {
    let cargo: Table =
        fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml").parse().expect("TOML");
    let family = |name: &str| cargo[name].as_table().expect("a table").keys().cloned();
    let used: BTreeSet<String> = family("dependencies").chain(family("dev-dependencies")).collect();
    let readme = readme();
    let rows = first_cells(section(&readme, "## Packages"));
    let told: BTreeSet<String> = rows.iter().flat_map(|cell| cell.split(", ")).map(str::to_owned).collect();
    let missing: Vec<_> = used.difference(&told).collect();
    let gone: Vec<_> = told.difference(&used).collect();
    assert!(missing.is_empty() && gone.is_empty(), "without a reason: {missing:?}; not used: {gone:?}");
}

#[test]
fn the_code_map_names_every_module_of_the_crate() {
    let readme = readme();
    let map = section(&readme, "### Code map");
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let told = map.contains(&format!("`src/{name}.rs`")) || map.contains(&format!("`src/{name}/`"));
        assert!(told || ["lib", "main"].contains(&name.as_str()), "the code map has no `{name}`");
    }
    for cell in first_cells(map).iter().flat_map(|cell| cell.split(", ")) {
        let path = cell.trim_matches('`');
        assert!(root().join(path).exists(), "the code map names {path}, which is not there");
    }
}

#[test]
fn the_metrics_table_is_what_a_scrape_has() {
    let readme = readme();
    let rows: Vec<&str> =
        section(&readme, "## Metrics").lines().filter(|line| line.starts_with("| `")).collect();
    let row = |metric: &Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        format!("| `{}` | {labels} | {} |", metric.name, metric.help)
    };
    let wanted: Vec<String> = METRICS.iter().map(row).collect();
    assert_eq!(rows, wanted);
}

#[test]
fn the_config_has_ten_settings_and_is_accepted() {
    let readme = readme();
    let (_, rest) = readme.split_once("```toml\n").expect("a config");
    let config = rest.split("```").next().expect("its end");
    assert_eq!(config.lines().filter(|line| line.contains(" = ")).count(), 10);
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join("roomcast.toml");
    fs::write(&file, config).expect("the scratch folder can be written");
    let check = Command::new(env!("CARGO_BIN_EXE_roomcast")).arg("check").arg("-c").arg(&file).output();
    let check = check.expect("the binary is built");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn the_commands_of_the_readme_are_there() {
    let readme = readme();
    for script in [".ci/test", ".ci/run", ".ci/brokers.sh", ".ci/fetch.sh", ".ci/kafka/kafka-start"] {
        let about = fs::metadata(root().join(script)).unwrap_or_else(|error| panic!("{script}: {error}"));
        let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions());
        assert_ne!(mode & 0o111, 0, "{script} cannot be run");
    }
    assert!(readme.contains("\n.ci/test "), "the test command");
    let help =
        Command::new(env!("CARGO_BIN_EXE_roomcast")).arg("--help").output().expect("the binary is built");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let commands: BTreeSet<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split(' ').next())
        .collect();
    let scripts = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let starts = ["cargo run -- ", "roomcast ", "| roomcast "];
    for line in scripts.flat_map(str::lines) {
        let Some(rest) = starts.iter().find_map(|start| line.split_once(start)).map(|(_, rest)| rest) else {
            continue;
        };
        let command = rest.split_whitespace().next().expect("a command");
        assert!(commands.contains(command), "`{line}`: {commands:?} are there");
    }
}
