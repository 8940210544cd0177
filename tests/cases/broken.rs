//! Case files that are wrong: each `tests/fixtures/cases/broken/NAME.test.toml` has its golden text
//! beside it. `UPDATE_GOLDEN=1 cargo test --test cases` writes the texts anew: read the difference.

use std::path::PathBuf;

use serde_json::Value;

use super::Folder;

const FIXTURES: &str = "tests/fixtures/cases/broken";

fn fixtures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(FIXTURES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_broken_case_file_is_told_as_its_golden_text() {
    let files = fixtures();
    assert!(files.len() >= 10, "{files:?}");
    let mut different = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let folder = Folder::new(&[(name, &std::fs::read_to_string(&path).unwrap())]);
        let ended = folder.test(&[]);
        assert_eq!((ended.code, &*ended.stdout), (78, ""), "{name}: {ended:#?}");
        assert!(ended.stderr.contains(&format!("{name}:")), "{name}: {ended:#?}");
        let golden = path.with_extension("").with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &ended.stderr).unwrap();
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        if ended.stderr != wanted {
            different.push(format!("{name}\n--- wanted\n{wanted}--- told\n{}", ended.stderr));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn all_broken_files_are_told_at_once_and_as_json_too() {
    let broken = "[[case]]\nname = 'a'\nevnt = '{}'\n";
    let folder = Folder::new(&[("a.test.toml", broken), ("b.test.toml", broken)]);
    let ended = folder.test(&["--format", "json"]);
    assert_eq!(ended.code, 78);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let problems = report["problems"].as_array().unwrap();
    for file in ["a.test.toml", "b.test.toml"] {
        let unknown = problems.iter().find(|p| p["file"] == file && p["key"] == "case[0].evnt");
        let unknown = unknown.unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!((&unknown["line"], &unknown["column"]), (&3.into(), &1.into()));
        assert!(
            ended.stderr.contains(&format!("{file}:3:1: case[0].evnt: found an unknown key")),
            "{ended:#?}"
        );
    }
}

#[test]
fn update_changes_no_file_that_is_wrong() {
    let broken = "[[case]]\nname = 'a'\nevnt = '{}'\n";
    let good = "[[case]]\nname = 'a'\nsource = 'live'\nevent = '{}'\nexpect_letter = 'mapping'\n";
    let folder = Folder::new(&[("a.test.toml", broken), ("b.test.toml", good)]);
    assert_eq!(folder.test(&["--update"]).code, 78);
    assert_eq!(
        (folder.read("a.test.toml"), folder.read("b.test.toml")),
        (broken.to_owned(), good.to_owned())
    );
}
