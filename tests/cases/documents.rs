//! The ready configs and the documents: every config beside its cases, every snippet as a file.

use std::path::Path;

use super::{Ended, Folder, support};

/// The blocks of a page that name a file: "```toml gift.toml".
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let starts = page.split("\n```").skip(1).filter_map(|block| {
        let (head, text) = block.split_once('\n')?;
        let (_, name) = head.split_once(' ')?;
        Some((name, text))
    });
    starts.collect()
}

fn pages() -> Vec<(String, String)> {
    let folder = Path::new("docs/cookbook");
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "README.md").collect();
    names.sort();
    let page = |name: String| (std::fs::read_to_string(folder.join(&name)).unwrap(), name);
    names.into_iter().map(page).map(|(text, name)| (name, text)).collect()
}

#[test]
fn every_page_of_the_cookbook_is_right_and_its_cases_pass() {
    let pages = pages();
    let names: Vec<&str> = pages.iter().map(|(name, _)| &**name).collect();
    let recipes =
        ["directed-reward", "gift", "join", "match-state", "room-closed", "scoreboard", "system-notice"];
    assert_eq!(names, recipes.map(|name| format!("{name}.md")));
    let index = std::fs::read_to_string("docs/cookbook/README.md").unwrap();
    for (name, text) in &pages {
        assert!(index.contains(&format!("]({name})")), "the index has no {name}");
        let recipe = name.strip_suffix(".md").unwrap();
        let blocks = blocks(text);
        let files: Vec<&str> = blocks.iter().map(|(file, _)| *file).collect();
        let wanted = ["toml", "json", "test.toml"].map(|ending| format!("{recipe}.{ending}"));
        assert_eq!(files, wanted, "{name}: a config, an event and cases");
        assert_eq!(text.matches("```").count(), 6, "{name}: no block but these");
        let folder = Folder::new(&blocks);
        std::fs::remove_file(folder.path().join("roomcast.toml")).unwrap();
        let checked = folder.roomcast(&["check", "-c", &wanted[0], "--deny-warnings"]);
        assert_eq!((checked.code, &*checked.stderr), (0, ""), "{name}: {checked:#?}");
        let tested = folder.roomcast(&["test", "-c", &wanted[0]]);
        assert_eq!((tested.code, &*tested.stderr), (0, ""), "{name}: {tested:#?}");
        assert!(
            blocks[2].1.contains(&format!("event_file = \"{}\"", wanted[1])),
            "{name}: no case has its event"
        );
    }
}

#[test]
fn every_ready_config_has_cases_that_pass() {
    let names =
        std::fs::read_dir("config").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (cases, configs): (Vec<String>, Vec<String>) =
        names.filter(|name| name.ends_with(".toml")).partition(|name| name.ends_with(".test.toml"));
    assert!(configs.len() >= 9, "{configs:?}");
    for config in &configs {
        let own = config.replace(".toml", ".test.toml");
        assert!(cases.contains(&own), "config/{config} has no cases");
        let mut test = support::daemon::roomcast(&["test", "-c", &format!("config/{config}")]);
        let ended = Ended::of(&test.output().unwrap());
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:#?}");
        assert!(ended.stdout.starts_with(&format!("ok      config/{own}:")), "{ended:#?}");
    }
    assert_eq!(cases.len(), configs.len(), "cases without a config: {cases:?}");
}

#[test]
fn the_page_about_cases_shows_cases_that_pass_and_names_every_key() {
    let page = std::fs::read_to_string("docs/tests.md").unwrap();
    let blocks = blocks(&page);
    let config = std::fs::read_to_string("config/kafka-easemob.toml").unwrap();
    // The last route of that config takes everything.
    let (config, _) = config.split_once("[[routes]]\nname = \"rest\"").unwrap();
    let folder = Folder::new(&blocks);
    folder.write("roomcast.toml", config);
    folder.test(&[]).is(0, "3 cases: 3 passed");
    // What is wrong with a case without any known key lists the keys.
    folder
        .write("roomcast.test.toml", "[[case]]\nqqqqqqqqqqqqqqqq = 1\nexpect = [{ qqqqqqqqqqqqqqqq = 1 }]\n");
    let told = folder.test(&[]).stderr;
    let lists: Vec<&str> = told
        .lines()
        .filter_map(|line| line.split_once("one of the known keys: "))
        .map(|(_, list)| list)
        .collect();
    assert_eq!(lists.len(), 2, "{told}");
    for key in lists.iter().flat_map(|list| list.split(", ")) {
        assert!(
            page.contains(&format!("`{key}`")) || page.contains(&format!("`{key} = ")),
            "docs/tests.md does not say {key}"
        );
    }
}

#[test]
fn the_case_of_the_readme_passes_with_its_config() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let mut snippets = readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let config = snippets.next().unwrap();
    let case = snippets.find(|snippet| snippet.starts_with("[[case]]")).expect("the README shows a case");
    Folder::new(&[("roomcast.toml", config), ("roomcast.test.toml", case)])
        .test(&[])
        .is(0, "1 case: 1 passed");
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut pages =
        vec!["README.md".into(), "docs/tests.md".into(), "docs/clients.md".into(), "docs/letters.md".into()];
    let cookbook = std::fs::read_dir("docs/cookbook").unwrap();
    pages.extend(cookbook.map(|entry| entry.unwrap().path()));
    let mut links = 0;
    for page in pages {
        let text =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = page.parent().unwrap().join(path);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            links += 1;
        }
    }
    assert!(links >= 8, "{links} links");
}
