//! What readers are given, and what is said when it is wrong.

use super::*;

fn node(value: Value) -> Node {
    Node { value, place: Place::Nowhere, key_place: Place::Nowhere }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let table = Table::from([("time_out".to_owned(), node(Value::Text("5s".to_owned())))]);
    let report = Report::new(&|_| Err("closed".to_owned()));
    let section = Section::new("accounts.live", &table, Place::Nowhere, &report);
    assert_eq!(section.duration("timeout", Duration::from_secs(5)), Duration::from_secs(5));
    section.finish();
    let problems = report.into_problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, "accounts.live.time_out");
    assert_eq!(problems[0].wanted, "did you mean \"timeout\"?");
}

#[test]
fn a_variable_is_read_as_the_type_its_key_wants() {
    let place = Place::Variable("ROOMCAST__LIMITS__MAX".into());
    let number = Node { value: Value::Text("1000".to_owned()), place: place.clone(), key_place: place };
    let table =
        Table::from([("max".to_owned(), number), ("text".to_owned(), node(Value::Text("7".to_owned())))]);
    let report = Report::new(&|_| Err("closed".to_owned()));
    let section = Section::new("limits", &table, Place::Nowhere, &report);
    assert_eq!(section.integer("max", 5, 1..10_000), 1_000);
    assert_eq!(section.integer("text", 5, 1..10_000), 5, "text in a file is not a number");
    assert!(!report.is_clean());
}
