//! How values compare: null < false < true < numbers < texts < arrays < objects, as in jq.
//!
//! The order is total (NaN equals itself and is the least number), because sorting asks for one.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Val;
use super::budget::{spend, step};

impl Val {
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) => 2,
            Self::Str(_) => 3,
            Self::Arr(_) => 4,
            Self::Obj(_) => 5,
        }
    }
}

impl Ord for Val {
    fn cmp(&self, other: &Self) -> Ordering {
        step(1);
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Int(a), Self::Float(b)) => exactly(*a, *b),
            (Self::Float(a), Self::Int(b)) => exactly(*b, *a).reverse(),
            (Self::Float(a), Self::Float(b)) => floats(*a, *b),
            (Self::Str(a), Self::Str(b)) => {
                step(a.len().min(b.len()) / 64);
                a.cmp(b)
            }
            (Self::Arr(a), Self::Arr(b)) => a.items.cmp(&b.items),
            (Self::Obj(a), Self::Obj(b)) => {
                spend(a.items.len() + b.items.len());
                let bytes = |name: &Arc<str>| step(name.len() / 64);
                a.items
                    .keys()
                    .inspect(|name| bytes(name))
                    .cmp(b.items.keys())
                    .then_with(|| a.items.values().cmp(b.items.values()))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// A whole number and a float, without rounding the first: rounded, two that differ could equal the same
/// float, and that is no order.
#[expect(clippy::cast_possible_truncation, reason = "checked: below 2^127")]
fn exactly(whole: i128, float: f64) -> Ordering {
    const END: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0; // 2^127
    match float {
        _ if float.is_nan() || float < -END => Ordering::Greater,
        _ if float >= END => Ordering::Less,
        _ => whole.cmp(&(float.trunc() as i128)).then_with(|| floats(0.0, float.fract())),
    }
}

fn floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

impl PartialOrd for Val {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Val {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_numbers_stand_in_the_order_of_jq() {
        let sorted = [
            Val::Null,
            Val::Bool(false),
            Val::Bool(true),
            Val::Float(f64::NAN),
            Val::Int(-1),
            Val::Float(0.5),
            Val::Int(1),
            Val::text(""),
            Val::text("a"),
            Val::array(vec![]),
            Val::array(vec![Val::Null]),
            Val::object(super::super::Fields::new()),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} and {b}");
            }
        }
        assert_eq!(Val::Int(2), Val::Float(2.0));
        let large = 1_i128 << 53;
        let sorted = [
            Val::Float(f64::NEG_INFINITY),
            Val::Int(i128::MIN),
            Val::Float(-0.5),
            Val::Int(0),
            Val::Float(9_007_199_254_740_992.0),
            Val::Int(large + 1),
            Val::Float(9_007_199_254_740_994.0),
            Val::Int(i128::MAX),
            Val::Float(1e300),
        ];
        let ordered = |a: &Val, b: &Val| {
            a.partial_cmp(b) == Some(Ordering::Less) && b.partial_cmp(a) == Some(Ordering::Greater)
        };
        assert!(sorted.windows(2).all(|pair| ordered(&pair[0], &pair[1])));
        assert_eq!(Val::Int(large), Val::Float(9_007_199_254_740_992.0));
    }
}
