//! Another config between two records: what is away and what is held keeps what it had.

use std::sync::Arc;
use std::time::Duration;

use super::slots;
use super::world::{self, EPOCH, Options, PARTITION, SOURCE, Treat, World, start};
use crate::broker::Arrival;
use crate::core::model::{Path, RouteId};
use crate::core::provider::Provider as _;
use crate::core::schedule::backoff::Retry;
use crate::core::schedule::{
    AccountSettings, OnExpiry, OnFull, Renewal, RoutePolicy, Settings, SourceSettings,
};
use crate::core::share::Quotas;
use crate::core::share::settings::Sharing;
use crate::driver::{AccountReload, Ended, Reload, ReloadResult, Reread};

/// With a route of that name, an account at that address, and so many calls a second.
fn reread(url: &str, route: &str, calls: u32, sharing: Sharing) -> Reread {
    let mut provider = world::Plain::new(url);
    provider.limits.paths[Path::Room as usize].calls_per_second = calls;
    let provider = Arc::new(provider);
    let client = crate::http::Client::new(provider.base_urls(), provider.timeout()).expect("an address");
    let settings = Settings {
        accounts: vec![AccountSettings {
            limits: provider.limits.clone(),
            timeout: provider.timeout(),
            needs_login: false,
            base_urls: 1,
        }],
        routes: vec![RoutePolicy {
            name: route.into(),
            retry: Retry::default(),
            on_expiry: OnExpiry::Drop,
            on_full: OnFull::Wait,
        }],
        sources: vec![SourceSettings { held_records: 1, held_bytes: 1, is_answered: false }],
        max_waiting_per_room: 1_000,
        room_gone: Duration::ZERO,
        flood_guard: None,
        seed: 0,
    };
    let account = AccountReload {
        quotas: Quotas::new(&provider.limits, true),
        provider,
        client: Some(Arc::new(client)),
        renewal: Renewal::Calls,
        sharing,
    };
    let planner = |ids: Vec<RouteId>| -> crate::driver::Planner {
        Box::new(move |record, _| {
            let mut plan = world::plan(record);
            plan.route = Some(ids[0]);
            plan.messages.iter_mut().for_each(|message| message.route = ids[0]);
            plan
        })
    };
    let reload = Reload {
        accounts: vec![account],
        settings,
        planner: Box::new(planner),
        directories: Vec::new(),
        drain_timeout: Duration::from_secs(5),
        max_replays: 3,
    };
    Reread::Takes { reload: Box::new(reload), needs_restart: vec!["admin.listen".to_owned()] }
}

async fn letter_routes(world: &World) -> Vec<String> {
    world.shelf.letters.lock().unwrap().iter().map(|sealed| route_of(&sealed.headers)).collect()
}

fn route_of(headers: &[(Arc<str>, bytes::Bytes)]) -> String {
    let (_, value) = headers.iter().find(|(name, _)| &**name == "roomcast-route").expect("it has a route");
    String::from_utf8(value.to_vec()).expect("a name is text")
}

#[tokio::test]
async fn what_comes_after_a_reload_takes_the_new_route_and_address_and_what_was_away_lands() {
    let mut world = start(|_| Treat::Answer(200), Options::default()).await;
    let (other, there) = world::serve(|_| Treat::Answer(200)).await;
    world.send(1, "a", "before").await;
    world.send(2, "b", "garbled").await;
    world.seen(1).await;
    assert_eq!(world.handle.reload(reread(&other, "new", 100_000, Sharing::Whole)).await, Ok(2));
    world.send(3, "a", "after").await;
    world.send(4, "b", "garbled").await;
    let mut settled = Vec::new();
    for _ in 0..4 {
        settled.push(world.settled().await);
    }
    settled.sort_unstable();
    assert_eq!(settled, [1, 2, 3, 4]);
    let bodies = there.lock().unwrap().clone();
    assert!(bodies.len() == 1 && bodies[0].contains("after"), "{bodies:?}");
    let mut routes = letter_routes(&world).await;
    routes.sort_unstable();
    assert_eq!(routes, ["all", "new"]);
    let report = world.handle.report().await.unwrap();
    assert_eq!((report.config.generation, report.config.results), (2, [1, 0, 0]));
    assert_eq!(report.config.needs_restart, ["admin.listen"]);
    assert_eq!(world.stop().await, Ended::Drained);
}

#[tokio::test]
async fn a_refusal_is_noted_and_changes_nothing() {
    let world = start(|_| Treat::Answer(200), Options::default()).await;
    let before = slots(&world).await;
    let problems = vec!["a.toml:1:1: routes: found nothing".to_owned()];
    assert_eq!(world.handle.reload(Reread::Refused { problems: problems.clone() }).await, Ok(1));
    let report = world.handle.report().await.unwrap();
    assert_eq!(report.config.problems, problems);
    assert_eq!(report.config.last.map(|(_, how)| how), Some(ReloadResult::Refused));
    assert_eq!(slots(&world).await, before);
    assert_eq!(
        world.handle.reload(Reread::Same { needs_restart: Vec::new(), directories: Vec::new() }).await,
        Ok(1)
    );
    let report = world.handle.report().await.unwrap();
    assert!(report.config.problems.is_empty() && report.config.results == [0, 1, 1]);
    let handle = world.handle.clone();
    assert_eq!(world.stop().await, Ended::Drained);
    assert!(
        handle.reload(Reread::Same { needs_restart: Vec::new(), directories: Vec::new() }).await.is_err()
    );
}

#[tokio::test]
async fn a_smaller_quota_and_another_way_to_share_hold_at_once() {
    let world = start(|_| Treat::Answer(200), Options::default()).await;
    let (url, _) = world::serve(|_| Treat::Answer(200)).await;
    let order = Some(vec![PARTITION, crate::core::model::PartitionId(1)]);
    let partitions = vec![(PARTITION, EPOCH, Arc::from("events/0"))];
    world.inbox.send(Arrival::Assigned { source: SOURCE, partitions, order }).await.unwrap();
    while world.handle.report().await.unwrap().sources[0].partitions.is_empty() {
        tokio::task::yield_now().await;
    }
    world.handle.reload(reread(&url, "all", 40, Sharing::Whole)).await.expect("it takes");
    assert_eq!(slots(&world).await, 40);
    world.handle.reload(reread(&url, "all", 40, Sharing::Partitions(SOURCE))).await.expect("it takes");
    let report = world.handle.report().await.unwrap();
    assert_eq!((slots(&world).await, &*report.shares[0].why), (20, "1 of 2 partitions"));
    world.handle.reload(reread(&url, "all", 10, Sharing::Partitions(SOURCE))).await.expect("it takes");
    assert_eq!(slots(&world).await, 5);
    world.handle.reload(reread(&url, "all", 60, Sharing::Partitions(SOURCE))).await.expect("it takes");
    assert_eq!(slots(&world).await, 5, "what is gained waits");
    assert_eq!(world.stop().await, Ended::Drained);
}
