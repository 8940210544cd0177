//! What runs have met: a generator that stops reaching a case fails the test.

/// Counters over a run, and over all runs.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub trace_hash: u64,
    pub steps: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub repeats: u64,
    pub letters: u64,
    pub dropped: u64,
    pub conflated: u64,
    pub bans: u64,
    pub foreign: u64,
    pub uncertain: u64,
    pub revoked: u64,
    pub lost: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub shared_calls: u64,
    pub batched_calls: u64,
    pub pauses: u64,
    pub partition_pauses: u64,
    pub logins: u64,
    pub day_counts: u64,
    pub skipped_by_metadata: u64,
    pub failed_commits: u64,
    pub rewinds: u64,
    pub redeliveries: u64,
    pub gatherings: u64,
    pub consumers_made_anew: u64,
    pub tails_lost: u64,
    pub clock_jumps: u64,
    pub waited_for_keys: u64,
    pub reloads: u64,
    pub requests: u64,
    pub replayed: u64,
    pub repeated_requests: u64,
    pub letters_of_letters: u64,
    pub parked: u64,
    pub discards: u64,
    pub refused_rows: u64,
    pub takeovers: u64,
    pub waited_behind: u64,
    pub keyed: u64,
}

impl Seen {
    /// Adds a run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts().into_iter().zip(other.clone().counts()) {
            *mine.1 += *theirs.1;
        }
    }

    fn counts(&mut self) -> [(&'static str, &mut u64); 40] {
        [
            ("steps", &mut self.steps),
            ("keyed", &mut self.keyed),
            ("accepted", &mut self.accepted),
            ("duplicates", &mut self.duplicates),
            ("repeats", &mut self.repeats),
            ("letters", &mut self.letters),
            ("dropped", &mut self.dropped),
            ("conflated", &mut self.conflated),
            ("bans", &mut self.bans),
            ("foreign", &mut self.foreign),
            ("uncertain", &mut self.uncertain),
            ("revoked", &mut self.revoked),
            ("lost", &mut self.lost),
            ("crashes", &mut self.crashes),
            ("restarts", &mut self.restarts),
            ("shared calls", &mut self.shared_calls),
            ("batched calls", &mut self.batched_calls),
            ("pauses", &mut self.pauses),
            ("partition pauses", &mut self.partition_pauses),
            ("logins", &mut self.logins),
            ("day counts", &mut self.day_counts),
            ("skipped by metadata", &mut self.skipped_by_metadata),
            ("failed commits", &mut self.failed_commits),
            ("rewinds", &mut self.rewinds),
            ("redeliveries", &mut self.redeliveries),
            ("gatherings", &mut self.gatherings),
            ("consumers made anew", &mut self.consumers_made_anew),
            ("tails lost", &mut self.tails_lost),
            ("clock jumps", &mut self.clock_jumps),
            ("waited for keys", &mut self.waited_for_keys),
            ("reloads", &mut self.reloads),
            ("requests", &mut self.requests),
            ("replayed", &mut self.replayed),
            ("repeated requests", &mut self.repeated_requests),
            ("letters of letters", &mut self.letters_of_letters),
            ("parked", &mut self.parked),
            ("discards", &mut self.discards),
            ("refused rows", &mut self.refused_rows),
            ("takeovers", &mut self.takeovers),
            ("waited behind the background", &mut self.waited_behind),
        ]
    }

    /// Every case was met.
    pub fn check(&mut self) {
        for (what, count) in self.counts() {
            assert!(*count > 0, "no run met: {what}");
        }
    }

    /// One line of figures.
    pub fn line(&mut self) -> String {
        let words = self.counts().into_iter().map(|(what, count)| format!("{what} {count}"));
        words.collect::<Vec<_>>().join(", ")
    }
}
