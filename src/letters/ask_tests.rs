//! Asking against an archive in memory: what is counted, what is skipped, how it ends.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::broker::{Boxed, EachRow, Followed, Later, Part, Stands};
use crate::core::model::{Epoch, Origin, PartitionId, RecordId, SourceId};
use crate::core::replay::Content;
use crate::core::time::Wall;
use crate::letters::rate::Rate;
use crate::letters::rows::Verdict;

/// What is written to it comes back to those who follow its table.
#[derive(Default)]
struct Memory {
    letters: Vec<Record>,
    requests: Mutex<Vec<Record>>,
    told: Mutex<Option<mpsc::Sender<Followed>>>,
    /// Puts and requests after so many fail.
    works_for: Option<usize>,
    puts: AtomicUsize,
    /// Rows are told only when a test says so.
    keeps_rows: bool,
    together: (AtomicUsize, AtomicUsize),
}

struct Shelf(Arc<Memory>);

impl Archive for Shelf {
    fn read(&self, into: mpsc::Sender<Record>) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            for letter in &self.0.letters {
                if into.send(letter.clone()).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn request(&self, letter: Record, headers: Vec<(Arc<str>, Bytes)>) -> Boxed<'_, Result<Placed, String>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut requests = self.0.requests.lock().expect("nobody panics");
            if self.0.works_for.is_some_and(|most| requests.len() >= most) {
                return Err("the broker is away".to_owned());
            }
            let id = id_of(&letter);
            let placed = match requests.iter().any(|request| id_of(request) == id) {
                true => Placed::Before,
                false => Placed::Now,
            };
            let mut request = letter;
            request.headers.extend(headers);
            requests.push(request);
            Ok(placed)
        })
    }

    fn value_at(&self, origin: Origin) -> Boxed<'_, Result<Option<Bytes>, String>> {
        Box::pin(async move { Ok((origin.offset == 1).then(|| Bytes::from_static(br#"{"n":1}"#))) })
    }

    fn readers(&self) -> Boxed<'_, Result<usize, String>> {
        Box::pin(async { Ok(0) })
    }

    fn later(&self, _of: BTreeMap<Part, Stands>) -> Boxed<'_, Result<Later, String>> {
        Box::pin(async { Ok(Later::default()) })
    }

    fn table(&self) -> Arc<dyn Table> {
        Arc::new(Self(Arc::clone(&self.0)))
    }

    fn follow(&self, _told: mpsc::Sender<Followed>) {
        unreachable!("the tests tell rows themselves")
    }
}

impl Table for Shelf {
    fn each(&self, _row: EachRow) -> Boxed<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn put(&self, key: String, value: Bytes) -> Boxed<'_, Result<(), String>> {
        Box::pin(async move {
            let (now, most) = &self.0.together;
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            now.fetch_sub(1, Ordering::Relaxed);
            let number = self.0.puts.fetch_add(1, Ordering::Relaxed);
            if self.0.works_for.is_some_and(|most| number > most) {
                return Err("no leader".to_owned());
            }
            let told = self.0.told.lock().expect("nobody panics").clone();
            if let Some(told) = told.filter(|_| !self.0.keeps_rows) {
                let row = (Bytes::from(key), Some(value));
                told.send(Followed::Rows(vec![row])).await.expect("somebody listens");
            }
            Ok(())
        })
    }
}

fn id_of(record: &Record) -> LetterId {
    Told::read(record).expect("it is a letter").letter
}

fn letter(number: u128, more: &[(&str, &str)]) -> Record {
    let mut headers: Vec<(Arc<str>, Bytes)> = [
        ("letter", Uuid::from_u128(number).to_string()),
        ("id", Uuid::from_u128(1).to_string()),
        ("class", "rejected".to_owned()),
        ("replays", "0".to_owned()),
        ("source", "live".to_owned()),
        ("topic", "events".to_owned()),
        ("partition", "0".to_owned()),
        ("offset", number.to_string()),
        ("timestamp", "2026-01-31T00:00:00.000Z".to_owned()),
    ]
    .map(|(name, value)| (Arc::from(format!("roomcast-{name}")), Bytes::from(value)))
    .into();
    for (name, value) in more {
        headers.push((Arc::from(*name), Bytes::copy_from_slice(value.as_bytes())));
    }
    let offset = i64::try_from(number).expect("it is small");
    Record {
        id: RecordId { source: SourceId(0), partition: PartitionId(0), epoch: Epoch(0), offset },
        origin: Origin { stream: "dlq".into(), topic: "dlq".into(), partition: 0, offset },
        key: Some(Bytes::from_static(b"r1")),
        value: Some(Bytes::from(format!("{{\"n\":{number}}}"))),
        headers,
        timestamp: Wall(0),
        maybe_tried: false,
    }
}

fn wish(query: Query) -> Wish {
    let asked = Asked {
        id: Uuid::from_u128(99),
        by: "ann@host".to_owned(),
        at: Wall(0),
        content: Content::Current,
        keep_ttl: false,
    };
    Wish { query, asked, why: "tried".to_owned(), limit: None, change: None }
}

fn id(number: u128) -> LetterId {
    LetterId(Uuid::from_u128(number))
}

/// A shelf with letters, and with rows in these states.
async fn shelf(memory: Memory, states: &[(u128, State)]) -> (Shelf, Rows) {
    let (mut rows, told) = Rows::listen();
    let row = |(number, state): &(u128, State)| {
        let row = Row::new(*state, "bob@host", Wall(0));
        (Bytes::from(Row::key(id(*number))), Some(Bytes::from(row.write())))
    };
    for news in [Followed::Begun, Followed::Rows(states.iter().map(row).collect()), Followed::Current] {
        told.send(news).await.expect("somebody listens");
    }
    rows.current(Duration::from_secs(5)).await.expect("it was told");
    *memory.told.lock().expect("nobody panics") = Some(told);
    (Shelf(Arc::new(memory)), rows)
}

async fn run(shelf: &Shelf, rows: &Rows, wish: &Wish, rate: Option<&str>) -> (Ended, Tally) {
    let values =
        BTreeMap::from([("live".to_owned(), Arc::new(Shelf(Arc::clone(&shelf.0))) as Arc<dyn Archive>)]);
    let place = Target { archive: shelf, rows, values };
    let (tally, told) = watch::channel(Tally::default());
    let (_keep, stop) = watch::channel(false);
    let mut pace = Pace::new(rate.map(|rate| Rate::parse(rate).expect("a rate")));
    let ended = ask(&place, wish, &mut pace, &tally, stop).await;
    let tally = told.borrow().clone();
    assert_eq!(tally.told(), tally.meant, "{tally:?}");
    assert_eq!(tally.asked, rows.verdicts().all(), "{tally:?}");
    (ended, tally)
}

fn letters(numbers: std::ops::RangeInclusive<u128>) -> Memory {
    Memory { letters: numbers.map(|number| letter(number, &[])).collect(), ..Memory::default() }
}

#[tokio::test(start_paused = true)]
async fn letters_are_asked_for_by_their_state_and_each_once() {
    let mut memory = letters(1..=200);
    memory.letters.push(letter(7, &[]));
    let mut other = letter(201, &[]);
    other.headers.clear();
    memory.letters.push(other);
    let states = [
        (1, State::Requested),
        (2, State::Replayed),
        (3, State::Discarded),
        (4, State::Parked),
        (5, State::Replayed),
        (6, State::Open),
    ];
    let (shelf, rows) = shelf(memory, &states).await;
    let (ended, tally) = run(&shelf, &rows, &wish(Query::default()), None).await;
    assert_eq!((ended, tally.meant, tally.asked, tally.before), (Ended::Through, 200, 195, 0));
    let skipped = [(State::Requested, 1), (State::Replayed, 2), (State::Discarded, 1), (State::Parked, 1)];
    assert_eq!(tally.skipped, skipped.into());
    assert_eq!(rows.of(id(8)), State::Requested);
    let most = shelf.0.together.1.load(Ordering::Relaxed);
    assert_eq!(most, AT_ONCE, "so many at a time");
}

#[tokio::test(start_paused = true)]
async fn other_states_are_reached_by_their_word_and_parked_ones_by_name() {
    let states = [(1, State::Requested), (2, State::Replayed), (3, State::Discarded), (4, State::Parked)];
    let all: BTreeMap<State, u64> = BTreeMap::new();
    for (query, meant, asked, skipped) in [
        (Query { states: [State::Requested].into(), ..Query::default() }, 1, 1, all.clone()),
        (Query { states: [State::Parked].into(), ..Query::default() }, 1, 1, all.clone()),
        (
            Query { states: [State::Replayed, State::Open].into(), ..Query::default() },
            2,
            1,
            [(State::Replayed, 1)].into(),
        ),
        (
            Query { letters: (1..=4).map(id).collect(), ..Query::default() },
            4,
            1,
            [(State::Requested, 1), (State::Replayed, 1), (State::Discarded, 1)].into(),
        ),
    ] {
        let (shelf, rows) = shelf(letters(1..=5), &states).await;
        let (ended, tally) = run(&shelf, &rows, &wish(query), None).await;
        assert_eq!((ended, tally.meant, tally.asked), (Ended::Through, meant, asked), "{tally:?}");
        assert_eq!(tally.skipped, skipped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_became_final_meanwhile_is_never_set_back() {
    let (shelf, rows) = shelf(letters(1..=1), &[]).await;
    let found = Found {
        told: Told::read(&shelf.0.letters[0]).expect("a letter"),
        record: shelf.0.letters[0].clone(),
        state: State::Open,
    };
    let row = Row::new(State::Discarded, "bob@host", Wall(0)).write();
    let told = shelf.0.told.lock().expect("nobody panics").clone().expect("it is followed");
    let mut news = rows;
    told.send(Followed::Rows(vec![(Row::key(id(1)).into(), Some(row.into()))])).await.expect("heard");
    assert!(news.changed().await);
    let place = Target { archive: &shelf, rows: &news, values: BTreeMap::new() };
    let wish = wish(Query::default());
    let (_, fate) = one(&place, &*shelf.table(), &wish, found).await;
    assert!(matches!(fate, Fate::Skipped(State::Discarded)));
    assert_eq!(shelf.0.puts.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_counts_those_asked_for_and_the_next_run_goes_on() {
    let memory =
        Memory { letters: (1..=300).map(|number| letter(number, &[])).collect(), ..Memory::default() };
    let (shelf, rows) = shelf(memory, &[(1, State::Replayed)]).await;
    let mut wish = wish(Query::default());
    wish.limit = Some(100);
    let (ended, tally) = run(&shelf, &rows, &wish, None).await;
    assert_eq!((ended, tally.asked, tally.meant), (Ended::Limit, 100, 101));
    let place = Target { archive: &shelf, rows: &rows, values: BTreeMap::new() };
    let (told, tally) = watch::channel(Tally::default());
    let (_keep, stop) = watch::channel(false);
    wish.limit = None;
    assert_eq!(ask(&place, &wish, &mut Pace::new(None), &told, stop).await, Ended::Through);
    let tally = tally.borrow().clone();
    assert_eq!((tally.asked, tally.before, tally.meant), (199, 0, 300));
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_a_stop_finishes_what_is_under_way() {
    let (shelf, rows) = shelf(letters(1..=10_000), &[]).await;
    let place = Target { archive: &shelf, rows: &rows, values: BTreeMap::new() };
    let (tally, told) = watch::channel(Tally::default());
    let (end, stop) = watch::channel(false);
    let wish = wish(Query::default());
    let mut pace = Pace::new(Some(Rate::parse("100/s").expect("a rate")));
    let began = Instant::now();
    let later = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        end.send(true).expect("it is heard");
    };
    let (ended, ()) = tokio::join!(ask(&place, &wish, &mut pace, &tally, stop), later);
    let tally = told.borrow().clone();
    assert_eq!(ended, Ended::Stopped);
    assert!((295..=305).contains(&tally.asked), "{tally:?}");
    assert_eq!((tally.meant, tally.told()), (tally.asked, tally.asked));
    assert_eq!(shelf.0.requests.lock().expect("nobody panics").len() as u64, tally.asked);
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_fails_leaves_its_letters_open() {
    let mut memory = letters(2..=9);
    let truncated = ("roomcast-truncated", "events/0/1");
    memory.letters.push(letter(1, &[truncated]));
    memory.letters.push(letter(10, &[truncated]));
    for number in [0, 9] {
        memory.letters[8 + usize::from(number == 9)].value = None;
    }
    let (shelf, rows) = shelf(memory, &[]).await;
    let mut wish = wish(Query::default());
    wish.change = Some(Box::new(|told, record| match told.origin.offset % 2 {
        0 => Err("it is even".to_owned()),
        _ => Ok([record.value.as_deref().expect("a value"), b"!"].concat().into()),
    }));
    let (ended, tally) = run(&shelf, &rows, &wish, None).await;
    assert_eq!(ended, Ended::Through);
    // 1, 3, 5, 7, 9; the value of 10 is nowhere.
    assert_eq!((tally.meant, tally.asked, tally.unpatched, tally.gone), (10, 5, 4, 1), "{tally:?}");
    assert!(tally.notes.contains(&(id(2), "the patch: it is even".to_owned())), "{:?}", tally.notes);
    assert!(tally.notes.iter().any(|(letter, why)| *letter == id(10) && why.contains("events/0/1")));
    assert_eq!(rows.of(id(2)), State::Open);
    let requests = shelf.0.requests.lock().expect("nobody panics");
    let of = |number| requests.iter().find(|request| id_of(request) == id(number)).expect("it was asked for");
    assert_eq!(of(3).value.as_deref(), Some(&br#"{"n":3}!"#[..]));
    assert_eq!(of(1).value.as_deref(), Some(&br#"{"n":1}!"#[..]), "from where it stands");
    assert!(Told::read(of(1)).expect("a letter").truncated.is_none(), "else the daemon would not take it");
    assert_eq!(of(3).headers.iter().filter(|(name, _)| &**name == "roomcast-request").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_fails_ends_it_and_every_letter_is_told_of() {
    let memory = Memory { works_for: Some(20), ..letters(1..=500) };
    let (shelf, rows) = shelf(memory, &[]).await;
    let (ended, tally) = run(&shelf, &rows, &wish(Query::default()), None).await;
    assert!(
        matches!(&ended, Ended::Failed(why) if why.contains("no leader") || why.contains("away")),
        "{ended:?}"
    );
    assert_eq!(tally.asked, 20);
    assert!(tally.stuck == 1 && tally.unwritten > 0 && tally.meant < 500, "{tally:?}");
    assert_eq!(rows.verdicts().of(Verdict::Left), 20);
}

/// Two at once, neither of which hears of the other's rows in time: the broker tells them apart.
#[tokio::test(start_paused = true)]
async fn two_who_ask_at_once_ask_for_all_and_each_knows_its_part() {
    let memory = Memory { keeps_rows: true, ..letters(1..=100) };
    let (one_shelf, one_rows) = shelf(memory, &[]).await;
    let other_shelf = Shelf(Arc::clone(&one_shelf.0));
    let other_rows = shelf(Memory::default(), &[]).await.1;
    let wish = wish(Query::default());
    let ((_, one), (_, other)) =
        tokio::join!(run(&one_shelf, &one_rows, &wish, None), run(&other_shelf, &other_rows, &wish, None));
    assert_eq!((one.asked, other.asked, one.before + other.before), (100, 100, 100));
}
