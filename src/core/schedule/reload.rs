//! What changes while the scheduler runs: routes, quotas, time limits and credentials. Messages that
//! are held keep the route they had.
//!
//! A message refers to its route by id. A route that a reload leaves as it was keeps its id; one that
//! is new or says something else gets another; and an id is used again once it takes no events and
//! nothing that is held refers to it. That is found out at a reload, by a walk over what is held: a
//! decision costs nothing for it, and there are never more ids than routes and messages held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{AccountSettings, RoutePolicy, Scheduler, Settings};
use crate::core::model::{AccountId, RouteId};
use crate::core::share::RoomPace;
use crate::core::time::Now;

/// What a reload says of an account beside its quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renewal {
    /// Calls look as before.
    #[default]
    None,
    /// Something else of its calls: an address, the sender.
    Calls,
    /// Its credentials: where it logs in, it does so anew.
    Credentials,
}

impl Scheduler {
    /// Goes on under other settings, and says which ids the routes have from now on, in their order.
    /// `settings.accounts` and `renewals` are by [`AccountId`], the same accounts as before; `sources`
    /// and `seed` stay as they were. `None`, and nothing changes, when there would be more routes in use
    /// than there are ids.
    ///
    /// A smaller quota holds at once; of a larger one this process has what it had, until
    /// [`Scheduler::handle_share`] says how much of it is its own. Walks everything that is held.
    pub fn handle_reload(
        &mut self,
        settings: Settings,
        renewals: &[Renewal],
        now: Now,
    ) -> Option<Vec<RouteId>> {
        debug_assert_eq!(settings.accounts.len(), self.accounts.len(), "accounts neither come nor go");
        let routes = self.renew_routes(settings.routes)?;
        self.settings.max_waiting_per_room = settings.max_waiting_per_room;
        self.settings.room_gone = settings.room_gone;
        // Whoever changes the config has looked; and routes may have other ids now.
        self.flood.set_limit(settings.flood_guard);
        self.handle_looked_at(now.mono);
        for ((account, renewal), id) in settings.accounts.into_iter().zip(renewals).zip(0..) {
            self.renew_account(AccountId(id), account, *renewal, now);
        }
        for room in self.full_rooms.keys().copied().collect::<Vec<_>>() {
            self.resume_if_room(room);
        }
        Some(routes)
    }

    fn renew_account(&mut self, id: AccountId, new: AccountSettings, renewal: Renewal, now: Now) {
        let old = &mut self.settings.accounts[usize::from(id.0)];
        let account = &mut self.accounts[usize::from(id.0)];
        // Its rooms keep the pace they had until the share says otherwise.
        account.shared.begin_pace(RoomPace::whole(&old.limits));
        for (state, quota) in account.paths.iter_mut().zip(&new.limits.paths) {
            state.quota.set_limits(quota);
            state.gate.set_calls_per_day(quota.calls_per_day);
            if renewal != Renewal::None {
                state.gate.renewed(now.mono);
            }
        }
        if renewal == Renewal::Credentials || old.needs_login != new.needs_login {
            account.login.renew(new.needs_login, now.mono);
            account.login_failures = 0;
        }
        // Calls of the longer time limit may be away, from here and from others.
        let timeout = new.timeout.max(old.timeout);
        *old = AccountSettings { timeout, ..new };
    }

    fn renew_routes(&mut self, policies: Vec<RoutePolicy>) -> Option<Vec<RouteId>> {
        let mut in_use: Vec<bool> = vec![false; self.settings.routes.len()];
        let groups = self.held.groups.iter().map(|group| group.route);
        let burials = self.burials.values().filter_map(|burial| burial.route);
        let waits = self.unrouted.routes();
        groups.chain(burials).chain(waits).for_each(|id| in_use[usize::from(id.0)] = true);
        let mut is_known = in_use.clone();
        self.routes.iter().for_each(|id| is_known[usize::from(id.0)] = true);
        let mut known: BTreeMap<&str, Vec<RouteId>> = BTreeMap::new();
        for ((id, policy), _) in (0..).zip(&self.settings.routes).zip(&is_known).filter(|(_, known)| **known)
        {
            known.entry(&policy.name).or_default().push(RouteId(id));
        }
        let same = |policy: &RoutePolicy| {
            let ids = known.get(&*policy.name)?;
            ids.iter().copied().find(|id| self.settings.routes[usize::from(id.0)] == *policy)
        };
        let kept: Vec<Option<RouteId>> = policies.iter().map(same).collect();
        kept.iter().flatten().for_each(|id| in_use[usize::from(id.0)] = true);
        let mut free =
            (0_u16..=u16::MAX).filter(|id| !in_use.get(usize::from(*id)).is_some_and(|used| *used));
        let ids: Option<Vec<RouteId>> =
            kept.iter().map(|kept| kept.or_else(|| free.next().map(RouteId))).collect();
        let ids = ids?;
        self.move_counts(&ids, &policies, &in_use);
        for (id, policy) in ids.iter().zip(policies) {
            match self.settings.routes.get_mut(usize::from(id.0)) {
                Some(place) => *place = policy,
                None => self.settings.routes.push(policy),
            }
        }
        let used = (0..).zip(&in_use).filter(|(_, used)| **used).map(|(id, _)| RouteId(id));
        let current: BTreeSet<RouteId> = ids.iter().copied().collect();
        self.former = used.filter(|id| !current.contains(id)).collect();
        self.routes.clone_from(&ids);
        Some(ids)
    }

    /// What was counted under ids that are free goes to the routes of the same names.
    fn move_counts(&mut self, ids: &[RouteId], policies: &[RoutePolicy], in_use: &[bool]) {
        let mut left: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for ((policy, count), used) in self.settings.routes.iter().zip(&mut self.conflated).zip(in_use) {
            if !used {
                *left.entry(policy.name.clone()).or_default() += std::mem::take(count);
            }
        }
        let most = ids.iter().map(|id| usize::from(id.0) + 1).max().unwrap_or(0);
        self.conflated.resize(most.max(self.conflated.len()), 0);
        for (id, policy) in ids.iter().zip(policies) {
            self.conflated[usize::from(id.0)] += left.remove(&policy.name).unwrap_or(0);
        }
    }

    /// The names of routes by id, for letters.
    pub fn route_names(&self) -> Vec<Arc<str>> {
        self.settings.routes.iter().map(|policy| policy.name.clone()).collect()
    }

    /// Messages that gave way to newer ones, by the names of their routes.
    pub(super) fn conflated_by_name(&self) -> Vec<(Arc<str>, u64)> {
        let of = |id: &RouteId| {
            let at = usize::from(id.0);
            (self.settings.routes[at].name.clone(), self.conflated[at])
        };
        let mut counts: Vec<(Arc<str>, u64)> = self.routes.iter().map(of).collect();
        for (name, count) in self.former.iter().map(of) {
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => counts.push((name, count)),
            }
        }
        counts
    }
}
