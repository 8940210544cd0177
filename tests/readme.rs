//! What the README says of the project, held against the project: its packages, its modules, its
//! metrics, its config.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
}

/// Every `.rs` file below a folder; none when there is no such folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn every_metric_has_its_row() {
    let readme = readme();
    let told = first_cells(section(&readme, "## Metrics"));
    assert_eq!(told.len(), told.iter().collect::<BTreeSet<_>>().len(), "a metric stands twice");
    for path in sources(&root().join("src/admin")) {
        let text = fs::read_to_string(&path).expect("a source file");
        for (_, rest) in text.match_indices("name: \"roomcast_").map(|(at, _)| text[at..].split_at(7)) {
            let name = rest.split('"').next().expect("a name");
            assert!(told.contains(&format!("`{name}`").as_str()), "the README does not list `{name}`");
        }
    }
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
}
