//! What jaq asks of a value: conversions and arithmetic. All of it pays. Paths are in [`super::access`].
//!
//! Where it differs from jq: text × number is refused, an object's fields are in the order of their
//! names, and there are no byte strings (bytes that are not UTF-8 are replaced by U+FFFD).

use std::ops::{Add, Div, Mul, Neg, Range, Rem, Sub};
use std::sync::Arc;

use jaq_core::ops::Math;
use jaq_core::{Error, ValR};

use super::budget::{aside, exhaust, spend, step};
use super::{DEPTH_MAX, Fields, Tree, Val};

pub(super) type Fault = Error<Val>;

/// Bytes that a place in an array is reckoned at.
pub(super) const PLACE: usize = 32;
/// Bytes that a field of an object is reckoned at, without its name.
pub(super) const FIELD: usize = 64;
/// Bytes that an object with one field takes, which is a node with room for eleven.
pub(super) const OBJECT: usize = 600;

#[expect(clippy::cast_precision_loss, reason = "that is what becoming a float means")]
pub(super) fn to_float(number: i128) -> f64 {
    number as f64
}

/// A float as a whole number, when it is one that an `i128` holds exactly.
#[expect(clippy::cast_possible_truncation, reason = "checked: whole and below 2^126")]
pub(super) fn to_whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 2f64.powi(126)).then_some(number as i128)
}

/// An array that a filter builds.
pub(super) fn new_array(items: Vec<Val>) -> Val {
    spend(items.len() * PLACE);
    Val::array(items)
}

/// An object that a filter builds.
pub(super) fn new_object(fields: Fields) -> Val {
    spend(fields.len() * FIELD);
    Val::object(fields)
}

pub(super) fn text(text: String) -> Val {
    spend(text.len());
    Val::Str(Arc::from(text))
}

/// What a shared container holds: itself where nobody else holds it, else a copy.
pub(super) fn take<T: Clone>(shared: Arc<Tree<T>>) -> T {
    Arc::try_unwrap(shared).map_or_else(|shared| shared.items.clone(), |own| own.items)
}

/// The container for changing it; a copy, which is paid for, where somebody else holds it.
pub(super) fn owned<T: Clone>(shared: &mut Arc<Tree<T>>, cost: impl Fn(&T) -> usize) -> &mut Tree<T> {
    if Arc::strong_count(shared) > 1 {
        spend(cost(&shared.items));
    }
    Arc::make_mut(shared)
}

impl<T> Tree<T> {
    /// Takes notice of a value that is about to be put in.
    pub(super) fn deepen(&mut self, value: &Val) {
        self.depth = self.depth.max(value.depth() + 1);
        if self.depth > DEPTH_MAX {
            exhaust(format!("nested values more than {DEPTH_MAX} deep"));
        }
    }
}

impl Val {
    pub(super) fn key(&self) -> Result<Arc<str>, Fault> {
        match self {
            Self::Str(name) => {
                step(name.len() / 64);
                Ok(name.clone())
            }
            other => Err(Error::typ(other.clone(), "the name of a field (a text)")),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(to_float(*number)),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// A place in something of `len` places; negative ones count from the end. `None`: outside.
    pub(super) fn place(&self, len: usize) -> Result<Option<usize>, Fault> {
        let number = match self {
            Self::Int(number) => *number,
            Self::Float(number) => to_whole(number.floor()).unwrap_or(i128::MAX),
            other => return Err(Error::typ(other.clone(), "a place (a whole number)")),
        };
        let from_start = if number < 0 { number + len as i128 } else { number };
        Ok(usize::try_from(from_start).ok().filter(|place| *place < len))
    }

    /// Start and end of a slice of something of `len` places.
    #[expect(clippy::cast_possible_truncation, reason = "clamped; NaN becomes 0")]
    pub(super) fn slice(range: &Range<Option<&Self>>, len: usize) -> Result<Range<usize>, Fault> {
        let bound = |bound: Option<&Self>, default: usize, whole: fn(f64) -> f64| {
            let number = match bound {
                None | Some(Self::Null) => return Ok(default),
                Some(Self::Int(number)) => *number,
                // Beyond what an i128 holds is beyond any place as well.
                Some(Self::Float(number)) => whole(number.clamp(-1e30, 1e30)) as i128,
                Some(other) => return Err(Error::typ(other.clone(), "the bound of a slice (a number)")),
            };
            let from_start = if number < 0 { number.saturating_add(len as i128) } else { number };
            Ok(usize::try_from(from_start.clamp(0, len as i128)).unwrap_or(len))
        };
        // As in jq, a slice with bounds that are not whole is the larger one.
        let (start, end) = (bound(range.start, 0, f64::floor)?, bound(range.end, len, f64::ceil)?);
        Ok(start..end.max(start))
    }

    /// The value at an index; `None` when there is nothing.
    pub(crate) fn get(&self, index: &Self) -> Result<Option<Self>, Fault> {
        step(1 + index.as_text().map_or(0, |name| name.len() / 64));
        match (self, index) {
            (Self::Null, _) => {
                aside();
                Ok(None)
            }
            (Self::Obj(object), Self::Str(name)) => Ok(object.items.get(name).cloned()),
            (Self::Arr(array), Self::Int(_) | Self::Float(_)) => {
                Ok(index.place(array.items.len())?.map(|place| array.items[place].clone()))
            }
            (Self::Arr(_) | Self::Str(_), Self::Obj(range)) => {
                let range = range.items.get("start")..range.items.get("end");
                jaq_core::ValT::range(self.clone(), range).map(Some)
            }
            (Self::Arr(array), Self::Arr(wanted)) => {
                aside();
                let places = windows(&array.items, &wanted.items);
                Ok(Some(new_array(places.map(|place| Self::Int(place as i128)).collect())))
            }
            _ => Err(Error::index(self.clone(), index.clone())),
        }
    }
}

/// Where `wanted` stands in `items`; nowhere when it is empty.
pub(crate) fn windows<'a>(items: &'a [Val], wanted: &'a [Val]) -> impl Iterator<Item = usize> + 'a {
    let size = wanted.len().max(1);
    let found = items.windows(size).enumerate().filter(move |(_, window)| {
        step(1);
        *window == wanted
    });
    found.map(|(place, _)| place)
}

impl From<bool> for Val {
    fn from(word: bool) -> Self {
        Self::Bool(word)
    }
}

impl From<isize> for Val {
    fn from(number: isize) -> Self {
        Self::Int(number as i128)
    }
}

impl From<usize> for Val {
    fn from(number: usize) -> Self {
        Self::Int(number as i128)
    }
}

impl From<f64> for Val {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<String> for Val {
    fn from(words: String) -> Self {
        text(words)
    }
}

impl From<Range<Option<Self>>> for Val {
    fn from(range: Range<Option<Self>>) -> Self {
        let bounds = [("start", range.start), ("end", range.end)];
        new_object(bounds.into_iter().filter_map(|(name, bound)| Some((Arc::from(name), bound?))).collect())
    }
}

impl FromIterator<Self> for Val {
    /// Pays as it goes, so that an endless iterator ends.
    fn from_iter<I: IntoIterator<Item = Self>>(iter: I) -> Self {
        let mut items = Vec::new();
        for item in iter {
            spend(PLACE);
            items.push(item);
        }
        Self::array(items)
    }
}

impl Add for Val {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> Self::Output {
        step(1);
        match (self, other) {
            (Self::Null, value) | (value, Self::Null) => Ok(value),
            (Self::Int(a), Self::Int(b)) => {
                Ok(a.checked_add(b).map_or_else(|| Self::Float(to_float(a) + to_float(b)), Self::Int))
            }
            (Self::Str(a), Self::Str(b)) => {
                spend(a.len() + b.len());
                Ok(Self::Str(Arc::from([&*a, &*b].concat())))
            }
            (Self::Arr(mut a), Self::Arr(b)) => {
                spend(b.items.len() * PLACE);
                let own = owned(&mut a, |items| items.len() * PLACE);
                own.items.extend(b.items.iter().cloned());
                own.depth = own.depth.max(b.depth);
                Ok(Self::Arr(a))
            }
            (Self::Obj(mut a), Self::Obj(b)) => {
                spend(b.items.len() * FIELD);
                step(b.items.keys().map(|name| name.len() / 64).sum());
                let own = owned(&mut a, |fields| fields.len() * FIELD);
                own.items.extend(b.items.iter().map(|(name, value)| (name.clone(), value.clone())));
                own.depth = own.depth.max(b.depth);
                Ok(Self::Obj(a))
            }
            (a, b) => arithmetic(a, Math::Add, b, |a, b| a + b),
        }
    }
}

#[expect(clippy::suspicious_arithmetic_impl, reason = "the other arithmetic is the price")]
impl Sub for Val {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> Self::Output {
        step(1);
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => {
                Ok(a.checked_sub(b).map_or_else(|| Self::Float(to_float(a) - to_float(b)), Self::Int))
            }
            (Self::Arr(a), Self::Arr(b)) => {
                spend(a.items.len() * PLACE);
                let mut items = take(a);
                items.retain(|item| !b.items.contains(item));
                Ok(new_array(items))
            }
            (a, b) => arithmetic(a, Math::Sub, b, |a, b| a - b),
        }
    }
}

impl Mul for Val {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> Self::Output {
        step(1);
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => {
                Ok(a.checked_mul(b).map_or_else(|| Self::Float(to_float(a) * to_float(b)), Self::Int))
            }
            (Self::Obj(a), Self::Obj(b)) => Ok(merge(take(a), &b.items)),
            (a, b) => arithmetic(a, Math::Mul, b, |a, b| a * b),
        }
    }
}

/// `a * b` for objects: fields of both, merged where both are objects, else `b`'s.
fn merge(mut into: Fields, from: &Fields) -> Val {
    spend((into.len() + from.len()) * FIELD);
    for (name, value) in from {
        step(name.len() / 64);
        let merged = match (into.remove(name), value) {
            (Some(Val::Obj(old)), Val::Obj(new)) => merge(take(old), &new.items),
            (_, new) => new.clone(),
        };
        into.insert(name.clone(), merged);
    }
    Val::object(into)
}

impl Div for Val {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> Self::Output {
        step(1);
        match (self, other) {
            (Self::Int(a), Self::Int(b)) if b != 0 && a.checked_rem(b) == Some(0) => Ok(Self::Int(a / b)),
            (Self::Str(whole), Self::Str(mark)) => {
                spend(whole.len());
                Ok(match (whole.is_empty(), mark.is_empty()) {
                    (true, _) => Self::array(Vec::new()),
                    (false, true) => whole.chars().map(|c| text(c.to_string())).collect(),
                    (false, false) => whole.split(&*mark).map(|part| text(part.to_owned())).collect(),
                })
            }
            (a, b) => arithmetic(a, Math::Div, b, |a, b| a / b),
        }
    }
}

impl Rem for Val {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> Self::Output {
        step(1);
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => match a.checked_rem(b) {
                Some(rest) => Ok(Self::Int(rest)),
                None => Err(Error::math(Self::Int(a), Math::Rem, Self::Int(b))),
            },
            (a, b) => arithmetic(a, Math::Rem, b, |a, b| a % b),
        }
    }
}

impl Neg for Val {
    type Output = ValR<Self>;

    fn neg(self) -> Self::Output {
        match self {
            Self::Int(number) => {
                Ok(number.checked_neg().map_or_else(|| Self::Float(-to_float(number)), Self::Int))
            }
            Self::Float(number) => Ok(Self::Float(-number)),
            other => Err(Error::typ(other, "a number")),
        }
    }
}

/// Arithmetic on two numbers of which one is a float; an error for anything else.
fn arithmetic(a: Val, op: Math, b: Val, f: impl Fn(f64, f64) -> f64) -> ValR<Val> {
    match (a.number(), b.number()) {
        (Some(x), Some(y)) => Ok(Val::Float(f(x, y))),
        _ => Err(Error::math(a, op, b)),
    }
}

impl jaq_std::ValT for Val {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Self::Arr(array) => {
                spend(array.items.len() * PLACE);
                Ok(take(array).into_iter().collect())
            }
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Self::Int(_))
    }

    fn as_isize(&self) -> Option<isize> {
        match self {
            Self::Int(number) => isize::try_from(*number).ok(),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        self.number()
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Self::Str(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        let text = self.as_text()?;
        // What is written of it may be six times as long, and is paid for when it is there.
        step(1 + text.len() / 16);
        Some(text.as_bytes())
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        text(String::from_utf8_lossy(sub).into_owned())
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        text(String::from_utf8_lossy(bytes.as_ref()).into_owned())
    }
}
