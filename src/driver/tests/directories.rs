//! Directories in the loop: nothing before they are loaded, and nobody overtakes who waits.

use std::time::Duration;

use tokio::sync::mpsc;

use super::world::{Options, SOURCE, Treat, World, start};
use crate::broker::{Arrival, Command, Status};
use crate::core::route::directory::{KeeperId, Map, Update};
use crate::driver::{DirectoryParts, DirectoryReport, Ended, Lookups, Reread};

const ROOMS: KeeperId = KeeperId(1);
const OTHERS: KeeperId = KeeperId(2);

fn parts(name: &str, keeper: KeeperId, map: Option<Map>) -> DirectoryParts {
    DirectoryParts { name: name.into(), kind: "file", keeper, map }
}

/// A loop with one directory, and the way of its keeper.
async fn begin(loaded: bool) -> (World, mpsc::Sender<(KeeperId, Update)>) {
    let (tell, updates) = mpsc::channel(8);
    let directories = vec![parts("rooms", ROOMS, loaded.then(Map::default))];
    let lookups = Lookups { directories, updates: Some(updates) };
    let world = start(|_| Treat::Answer(200), Options { lookups, ..Options::default() }).await;
    let joined = Arrival::Status { source: SOURCE, status: Status::Ready };
    world.inbox.send(joined).await.unwrap();
    (world, tell)
}

fn map(key: &str, room: &str) -> Map {
    let mut map = Map::default();
    map.insert(key, &[room]);
    map
}

async fn directory(world: &World) -> DirectoryReport {
    world.handle.report().await.unwrap().directories.remove(0)
}

/// Waits until so many records wait for their key.
async fn waiting(world: &World, records: usize) {
    let wait = async {
        while directory(world).await.waiting != records {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("they wait within 20 s");
}

#[tokio::test]
async fn nothing_is_taken_before_every_directory_is_loaded() {
    let (mut world, tell) = begin(false).await;
    assert_eq!(world.commands.recv().await, Some(Command::Intake(false)));
    // What was on its way when the source was asked.
    for n in 0..3 {
        world.send(n, "k", &format!("?{n}")).await;
    }
    let report = world.handle.report().await.unwrap();
    assert!(!report.directories[0].is_loaded && !report.snapshot.sources[0].intake_open);
    tell.send((ROOMS, Update::Failed("not there".to_owned()))).await.unwrap();
    while directory(&world).await.loads != [0, 1] {
        tokio::task::yield_now().await;
    }
    assert_eq!(directory(&world).await.trouble.as_deref(), Some("not there"));
    assert!(!world.handle.is_ready(), "a directory is missing");
    assert!(world.log.lock().unwrap().is_empty());

    tell.send((ROOMS, Update::Loaded { map: map("k", "1001"), refused: 2 })).await.unwrap();
    for n in 0..3 {
        assert_eq!(world.settled().await, n);
    }
    assert!(world.handle.is_ready());
    assert_eq!(*world.log.lock().unwrap(), ["1001:?0", "1001:?1", "1001:?2"]);
    let report = world.handle.report().await.unwrap();
    assert!(report.snapshot.sources[0].intake_open);
    let told = &report.directories[0];
    assert_eq!(
        (told.keys, told.loads, told.rows, &told.trouble, told.unknown),
        (1, [1, 1], [0, 2], &None, 0)
    );
    assert!(told.age.is_some());
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn the_source_is_asked_to_go_on_once_all_is_loaded() {
    let (mut world, tell) = begin(false).await;
    tell.send((ROOMS, Update::Loaded { map: Map::default(), refused: 0 })).await.unwrap();
    let asked = [world.commands.recv().await, world.commands.recv().await];
    assert_eq!(asked, [Some(Command::Intake(false)), Some(Command::Intake(true))]);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn records_that_wait_go_before_those_that_come_after_their_key() {
    const WAITING: i64 = 300;
    for loads in [false, true] {
        let (mut world, tell) = begin(true).await;
        for n in 0..WAITING {
            world.send(n, "k", &format!("?{n}")).await;
        }
        world.send(1_000, "other", "?other").await;
        waiting(&world, 301).await;
        assert!(world.log.lock().unwrap().is_empty());
        let update = match loads {
            true => Update::Loaded { map: map("k", "1001"), refused: 0 },
            false => {
                let rows = vec![("k".to_owned(), Some(vec!["1001".to_owned()]))];
                Update::Changed { rows, refused: 0 }
            }
        };
        tell.send((ROOMS, update)).await.unwrap();
        // These come at the same time as the key.
        for n in WAITING..WAITING + 20 {
            world.send(n, "k", &format!("?{n}")).await;
        }
        for n in 0..WAITING + 20 {
            assert_eq!(world.settled().await, n, "in order, loads: {loads}");
        }
        let log = world.log.lock().unwrap().clone();
        let wanted: Vec<String> = (0..WAITING + 20).map(|n| format!("1001:?{n}")).collect();
        assert_eq!(log, wanted);
        assert_eq!(directory(&world).await.waiting, 1, "another key is none of its business");
        assert_eq!(world.stop().await, Ended::Drained, "what waits is given back unsettled");
    }
}

#[tokio::test]
async fn a_key_that_goes_and_comes_again_keeps_the_order() {
    let (mut world, tell) = begin(true).await;
    for n in 0..200 {
        world.send(n, "k", &format!("?{n}")).await;
    }
    waiting(&world, 200).await;
    let row = |rooms: Option<&str>| ("k".to_owned(), rooms.map(|room| vec![room.to_owned()]));
    for rows in [vec![row(Some("1001")), row(None)], vec![row(Some("1001")), row(None), row(Some("1002"))]] {
        tell.send((ROOMS, Update::Changed { rows, refused: 0 })).await.unwrap();
    }
    for n in 0..200 {
        assert_eq!(world.settled().await, n);
    }
    let log = world.log.lock().unwrap().clone();
    assert!(log.iter().all(|call| call.starts_with("1002:")), "each is looked up anew when it is its turn");
    assert_eq!(world.stop().await, Ended::Drained);
}

/// A reload that leaves the routes as they are; they ask the first directory.
async fn renew(world: &World, directories: Vec<DirectoryParts>) {
    let reread = Reread::Same { needs_restart: Vec::new(), directories };
    assert_eq!(world.handle.reload(reread).await, Ok(1));
}

fn set(key: &str, room: &str) -> Update {
    Update::Changed { rows: vec![(key.to_owned(), Some(vec![room.to_owned()]))], refused: 0 }
}

#[tokio::test]
async fn a_directory_keeps_what_its_keeper_told_under_whatever_id() {
    let (mut world, tell) = begin(true).await;
    tell.send((ROOMS, set("k", "1001"))).await.unwrap();
    world.send(0, "k", "?0").await;
    assert_eq!(world.settled().await, 0);
    // Another one comes before it by name, and takes its id; then that one goes.
    renew(&world, vec![parts("new", OTHERS, Some(map("k", "2001"))), parts("rooms", ROOMS, None)]).await;
    let report = world.handle.report().await.unwrap();
    let told: Vec<_> = report.directories.iter().map(|of| (&*of.name, of.keys, of.loads, of.rows)).collect();
    assert_eq!(told, [("new", 1, [1, 0], [0, 0]), ("rooms", 1, [1, 0], [1, 0])]);
    world.send(1, "k", "?1").await;
    assert_eq!(world.settled().await, 1);
    tell.send((ROOMS, set("k", "1002"))).await.unwrap();
    renew(&world, vec![parts("rooms", ROOMS, None)]).await;
    // The last words of one that nobody asks any more.
    tell.send((OTHERS, set("k", "2002"))).await.unwrap();
    tell.send((OTHERS, Update::Loaded { map: Map::default(), refused: 0 })).await.unwrap();
    tell.send((ROOMS, set("k", "1003"))).await.unwrap();
    while directory(&world).await.rows[0] != 3 {
        tokio::task::yield_now().await;
    }
    world.send(2, "k", "?2").await;
    assert_eq!(world.settled().await, 2);
    assert_eq!(*world.log.lock().unwrap(), ["1001:?0", "2001:?1", "1003:?2"]);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn what_waits_is_planned_anew_in_its_order_when_directories_change() {
    const WAITING: i64 = 300;
    let (mut world, tell) = begin(true).await;
    for n in 0..WAITING {
        world.send(n, "k", &format!("?{n}")).await;
    }
    waiting(&world, 300).await;
    // A key that goes again at once: some are asked of each state, and more than a turn's worth is left.
    let rows = vec![("k".to_owned(), Some(vec!["1001".to_owned()])), ("k".to_owned(), None)];
    tell.send((ROOMS, Update::Changed { rows, refused: 0 })).await.unwrap();
    renew(&world, vec![parts("rooms", ROOMS, Some(map("other", "1002")))]).await;
    waiting(&world, 300).await;
    assert!(world.log.lock().unwrap().is_empty());
    renew(&world, vec![parts("rooms", OTHERS, Some(map("k", "1003")))]).await;
    for n in WAITING..WAITING + 20 {
        world.send(n, "k", &format!("?{n}")).await;
    }
    for n in 0..WAITING + 20 {
        assert_eq!(world.settled().await, n);
    }
    let wanted: Vec<String> = (0..WAITING + 20).map(|n| format!("1003:?{n}")).collect();
    assert_eq!(*world.log.lock().unwrap(), wanted);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn records_wait_for_a_directory_that_came_with_a_reload_and_others_do_not() {
    let (mut world, tell) = begin(true).await;
    while !world.handle.is_ready() {
        tokio::task::yield_now().await;
    }
    renew(&world, vec![parts("rooms", OTHERS, None)]).await;
    let told = directory(&world).await;
    assert_eq!((told.is_loaded, told.loads, told.age), (false, [1, 0], None));
    assert!(world.handle.is_ready(), "the sources go on");
    for n in 0..3 {
        world.send(n, "k", &format!("?{n}")).await;
    }
    world.send(3, "unknown", "?3").await;
    world.send(4, "1005", "4").await;
    assert_eq!(world.settled().await, 4, "it asks no directory");
    waiting(&world, 4).await;
    assert_eq!(directory(&world).await.unknown, 0, "nobody can say so yet");
    tell.send((OTHERS, Update::Loaded { map: map("k", "1001"), refused: 0 })).await.unwrap();
    for n in 0..3 {
        assert_eq!(world.settled().await, n);
    }
    waiting(&world, 1).await;
    assert_eq!(directory(&world).await.unknown, 1, "now it is known that it is not");
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn a_reload_without_the_directory_that_never_loads_lets_the_sources_begin() {
    let (mut world, _tell) = begin(false).await;
    assert_eq!(world.commands.recv().await, Some(Command::Intake(false)));
    world.send(0, "1001", "0").await;
    assert!(!world.handle.is_ready());
    renew(&world, Vec::new()).await;
    assert_eq!(world.settled().await, 0);
    assert!(world.handle.is_ready(), "the source had joined before that record");
    assert_eq!(world.stop().await, Ended::Drained);
}
