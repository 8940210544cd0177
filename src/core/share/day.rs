//! What the rows of all holders say of a quota by the day.

use std::collections::BTreeMap;

use crate::core::time::Wall;

pub use crate::core::schedule::LATE;

/// One holder's calls of one UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayRow<'a> {
    /// Which process.
    pub holder: &'a str,
    /// The day, counted from 1970-01-01.
    pub utc_day: i64,
    /// Calls, with those of the day before that the provider may count for this one.
    pub calls: u32,
    /// The last of them.
    pub last: Wall,
}

/// The last day that has rows, the calls that count for it, and when the last one was made; `None`
/// where there are no rows. A holder without a row of that day counts with the day before, if it made
/// calls so late that the provider may have counted them for the next.
pub fn used<'a>(rows: impl IntoIterator<Item = DayRow<'a>>) -> Option<(i64, u32, Wall)> {
    let mut newest: BTreeMap<&str, DayRow<'a>> = BTreeMap::new();
    for row in rows {
        let known = newest.entry(row.holder).or_insert(row);
        if row.utc_day > known.utc_day {
            *known = row;
        }
    }
    let day = newest.values().map(|row| row.utc_day).max()?;
    let is_late = |row: &DayRow<'_>| row.utc_day == day - 1 && row.last.until_next_utc_day() <= LATE;
    let counted = newest.values().filter(|row| row.utc_day == day || is_late(row));
    let (mut calls, mut last) = (0_u32, Wall(i64::MIN));
    for row in counted {
        calls = calls.saturating_add(row.calls);
        last = last.max(row.last);
    }
    Some((day, calls, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: i64 = 86_400_000 * 5;

    fn row(holder: &'static str, utc_day: i64, calls: u32, last: i64) -> DayRow<'static> {
        DayRow { holder, utc_day, calls, last: Wall(last) }
    }

    #[test]
    fn a_holder_that_ended_late_counts_for_the_next_day_as_well() {
        assert_eq!(used([]), None);
        let (early, late) = (row("a", 4, 3, MIDNIGHT - 61_000), row("b", 4, 5, MIDNIGHT - 60_000));
        assert_eq!(used([early, late]), Some((4, 8, late.last)));
        let next = row("c", 5, 1, MIDNIGHT + 1);
        assert_eq!(used([early, late, next]), Some((5, 6, next.last)));
        let carried = row("b", 5, 6, MIDNIGHT + 2);
        assert_eq!(used([late, carried, early]), Some((5, 6, carried.last)), "its own row has them");
    }
}
