//! What can go wrong. Each seed has a random half of the list; reloads have every fourth one.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The group moves partitions about.
    Rebalance,
    /// A process loses all its partitions at once, to others or to itself.
    LostAssignment,
    /// Offsets have gaps.
    Gaps,
    /// The broker gives a partition again from an earlier offset.
    Rewind,
    /// Commits fail.
    CommitFails,
    /// The broker keeps no commit metadata, or somebody clears it.
    MetadataLost,
    /// Acks get lost on their way.
    LostAck,
    /// The JetStream server restarts and forgets its last acks.
    ServerRestart,
    /// The consumer is deleted.
    ConsumerDeleted,
    /// The stream loses its tail, and gives the sequences to other messages.
    TailLost,
    /// Progress is not told in time, so that held messages are redelivered.
    ProgressLost,
    /// A few answers take as long as a call may.
    HeavyTail,
    /// The request never arrives.
    LostRequest,
    /// The answer never arrives.
    LostAnswer,
    /// The connection is refused.
    Unreachable,
    /// A gateway answers 5xx in the provider's place.
    Storm,
    /// The provider's answer breaks off.
    BrokenAnswer,
    /// Others use the account's quota, up to the ban.
    Foreigners,
    /// The provider is away for a while; in some seeds for an hour.
    Outage,
    /// Rooms that the provider calls gone.
    GoneRooms,
    /// Messages that it refuses.
    Poison,
    /// Tokens end early.
    Tokens,
    /// Letters take seconds.
    SlowLetters,
    /// Letters are refused for a while.
    RefusedLetters,
    /// The confirmation of a letter gets lost.
    LostConfirmation,
    /// Processes die at the boundary of an effect.
    Crash,
    /// Processes stop in good order and start again.
    Restart,
    /// The wall clock of a process jumps by an hour, and back.
    ClockJump,
    /// Messages have a time-to-live.
    Expiry,
    /// The config changes while everything goes on.
    Reload,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Rebalance,
        Self::LostAssignment,
        Self::Gaps,
        Self::Rewind,
        Self::CommitFails,
        Self::MetadataLost,
        Self::LostAck,
        Self::ServerRestart,
        Self::ConsumerDeleted,
        Self::TailLost,
        Self::ProgressLost,
        Self::HeavyTail,
        Self::LostRequest,
        Self::LostAnswer,
        Self::Unreachable,
        Self::Storm,
        Self::BrokenAnswer,
        Self::Foreigners,
        Self::Outage,
        Self::GoneRooms,
        Self::Poison,
        Self::Tokens,
        Self::SlowLetters,
        Self::RefusedLetters,
        Self::LostConfirmation,
        Self::Crash,
        Self::Restart,
        Self::ClockJump,
        Self::Expiry,
        Self::Reload,
    ];
}

/// A set of faults.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults(u64);

impl Faults {
    /// A random half. Reloads are not drawn, so that the other seeds stay the worlds they were before
    /// there were any.
    pub fn draw(rng: &mut fastrand::Rng, seed: u64) -> Self {
        let mut faults = Self::default();
        for fault in Fault::ALL {
            let is_in = if fault == Fault::Reload { seed % 4 == 2 } else { rng.bool() };
            if is_in {
                faults.0 |= 1 << fault as u64;
            }
        }
        faults
    }

    /// These and no others.
    pub fn of(faults: &[Fault]) -> Self {
        Self(faults.iter().fold(0, |all, &fault| all | 1 << fault as u64))
    }

    /// Whether the seed has it.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u64 != 0
    }

    /// Strikes some.
    pub fn without_all(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// With one more.
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u64)
    }

    /// Strikes one.
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u64))
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(Fault::ALL.into_iter().filter(|&fault| self.has(fault))).finish()
    }
}
