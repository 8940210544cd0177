//! What jaq asks of a value: arithmetic, access by path, and updates. All of it pays.
//!
//! Where it differs from jq: text × number is refused, an object's fields are in the order of their
//! names, and there are no byte strings (bytes that are not UTF-8 are replaced by U+FFFD).

use std::ops::{Add, Div, Mul, Neg, Range, Rem, Sub};
use std::sync::Arc as Rc;

use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::ops::Math;
use jaq_core::path::Opt;
use jaq_core::{Error, Exn, ValR, ValX};

use super::budget::{exhaust, spend, step};
use super::{DEPTH_MAX, Fields, Tree, Val};

type Fault = Error<Val>;

/// Bytes that a place in an array is reckoned at.
const PLACE: usize = 32;
/// Bytes that a field of an object is reckoned at, without its name.
const FIELD: usize = 64;

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
fn array(items: Vec<Val>) -> Val {
    spend(items.len() * PLACE);
    Val::array(items)
}

/// An object that a filter builds.
fn object(fields: Fields) -> Val {
    spend(fields.len() * FIELD);
    Val::object(fields)
}

fn text(text: String) -> Val {
    spend(text.len());
    Val::Str(Rc::from(text))
}

/// What a shared container holds: itself where nobody else holds it, else a copy.
fn take<T: Clone>(shared: Rc<Tree<T>>) -> T {
    Rc::try_unwrap(shared).map_or_else(|shared| shared.items.clone(), |own| own.items)
}

/// The container for changing it; a copy, which is paid for, where somebody else holds it.
fn owned<T: Clone>(shared: &mut Rc<Tree<T>>, cost: impl Fn(&T) -> usize) -> &mut Tree<T> {
    if Rc::strong_count(shared) > 1 {
        spend(cost(&shared.items));
    }
    Rc::make_mut(shared)
}

impl<T> Tree<T> {
    /// Takes notice of a value that is about to be put in.
    fn deepen(&mut self, value: &Val) {
        self.depth = self.depth.max(value.depth() + 1);
        if self.depth > DEPTH_MAX {
            exhaust(format!("nested values more than {DEPTH_MAX} deep"));
        }
    }
}

impl Val {
    fn key(&self) -> Result<Rc<str>, Fault> {
        match self {
            Self::Str(name) => Ok(name.clone()),
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
    fn place(&self, len: usize) -> Result<Option<usize>, Fault> {
        let number = match self {
            Self::Int(number) => *number,
            Self::Float(number) => to_whole(number.floor()).unwrap_or(i128::MAX),
            other => return Err(Error::typ(other.clone(), "a place (a whole number)")),
        };
        let from_start = if number < 0 { number + len as i128 } else { number };
        Ok(usize::try_from(from_start).ok().filter(|place| *place < len))
    }

    /// Start and end of a slice of something of `len` places.
    fn slice(range: &Range<Option<&Self>>, len: usize) -> Result<Range<usize>, Fault> {
        let bound = |bound: Option<&Self>, default: usize| match bound {
            None | Some(Self::Null) => Ok(default),
            Some(Self::Int(number)) => {
                let from_start = if *number < 0 { number + len as i128 } else { *number };
                Ok(usize::try_from(from_start.clamp(0, len as i128)).unwrap_or(len))
            }
            Some(other) => Err(Error::typ(other.clone(), "the bound of a slice (a whole number)")),
        };
        let (start, end) = (bound(range.start, 0)?, bound(range.end, len)?);
        Ok(start..end.max(start))
    }

    /// The value at an index; `None` when there is nothing.
    pub(crate) fn get(&self, index: &Self) -> Result<Option<Self>, Fault> {
        step(1);
        match (self, index) {
            (Self::Null, _) => Ok(None),
            (Self::Obj(object), Self::Str(name)) => Ok(object.items.get(name).cloned()),
            (Self::Arr(array), Self::Int(_) | Self::Float(_)) => {
                Ok(index.place(array.items.len())?.map(|place| array.items[place].clone()))
            }
            (Self::Arr(_) | Self::Str(_), Self::Obj(range)) => {
                let range = range.items.get("start")..range.items.get("end");
                jaq_core::ValT::range(self.clone(), range).map(Some)
            }
            (Self::Arr(array), Self::Arr(wanted)) => {
                let places = windows(&array.items, &wanted.items);
                Ok(Some(self::array(places.map(|place| Self::Int(place as i128)).collect())))
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
        object(bounds.into_iter().filter_map(|(name, bound)| Some((Rc::from(name), bound?))).collect())
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
                Ok(Self::Str(Rc::from([&*a, &*b].concat())))
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
                let own = owned(&mut a, |fields| fields.len() * FIELD);
                own.items.extend(b.items.iter().map(|(name, value)| (name.clone(), value.clone())));
                own.depth = own.depth.max(b.depth);
                Ok(Self::Obj(a))
            }
            (a, b) => arithmetic(a, Math::Add, b, |a, b| a + b),
        }
    }
}

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
                Ok(array(items))
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

impl jaq_core::ValT for Val {
    fn from_num(number: &str) -> ValR<Self> {
        if let Ok(whole) = number.parse::<i128>() {
            return Ok(Self::Int(whole));
        }
        number.parse::<f64>().map(Self::Float).map_err(|_| Error::str(format!("{number:?} is no number")))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(iter: I) -> ValR<Self> {
        let mut fields = Fields::new();
        for (name, value) in iter {
            step(1);
            fields.insert(name.key()?, value);
        }
        Ok(object(fields))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        step(1);
        match self {
            Self::Arr(array) => {
                spend(array.items.len() * PLACE);
                Box::new(take(array).into_iter().enumerate().map(|(i, value)| Ok((Self::from(i), value))))
            }
            Self::Obj(object) => {
                spend(object.items.len() * FIELD);
                Box::new(take(object).into_iter().map(|(name, value)| Ok((Self::Str(name), value))))
            }
            other => box_once(Err(Error::typ(other, "an array or an object"))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        step(1);
        match self {
            Self::Arr(array) => {
                spend(array.items.len() * PLACE);
                Box::new(take(array).into_iter().map(Ok))
            }
            Self::Obj(object) => {
                spend(object.items.len() * FIELD);
                Box::new(take(object).into_values().map(Ok))
            }
            other => box_once(Err(Error::typ(other, "an array or an object"))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        self.get(index).map(Option::unwrap_or_default)
    }

    fn range(self, range: Range<Option<&Self>>) -> ValR<Self> {
        step(1);
        match self {
            Self::Null => Ok(Self::Null),
            Self::Arr(array) => {
                let range = Self::slice(&range, array.items.len())?;
                Ok(self::array(array.items[range].to_vec()))
            }
            Self::Str(whole) => {
                step(whole.len() / 16);
                let range = char_range(&whole, &range)?;
                Ok(text(whole[range].to_owned()))
            }
            other => Err(Error::typ(other, "an array or a text")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        step(1);
        match self {
            Self::Arr(array) => take(array).into_iter().flat_map(f).collect(),
            Self::Obj(object) => {
                let mut fields = Fields::new();
                for (name, value) in take(object) {
                    step(1);
                    if let Some(value) = f(value).next().transpose()? {
                        fields.insert(name, value);
                    }
                }
                Ok(self::object(fields))
            }
            other => opt.fail(other, |v| Exn::from(Error::typ(v, "an array or an object"))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        step(1);
        match (self, index) {
            (list @ (Self::Arr(_) | Self::Str(_)), Self::Obj(range)) => {
                list.map_range(range.items.get("start")..range.items.get("end"), opt, f)
            }
            (Self::Null, Self::Str(name)) => {
                let value = f(Self::Null).next().transpose()?;
                Ok(object(value.into_iter().map(|value| (name.clone(), value)).collect()))
            }
            (Self::Obj(mut object), Self::Str(name)) => {
                let own = owned(&mut object, |fields| fields.len() * FIELD);
                let old = own.items.remove(name).unwrap_or_default();
                if let Some(value) = f(old).next().transpose()? {
                    spend(FIELD);
                    own.deepen(&value);
                    own.items.insert(name.clone(), value);
                }
                Ok(Self::Obj(object))
            }
            (Self::Arr(mut array), Self::Int(_) | Self::Float(_)) => {
                let len = array.items.len();
                let Ok(Some(place)) = index.place(len) else {
                    let error = Error::str(format!("an array of {len} has no place {index}"));
                    return opt.fail(Self::Arr(array), |_| Exn::from(error));
                };
                let own = owned(&mut array, |items| items.len() * PLACE);
                let old = std::mem::take(&mut own.items[place]);
                match f(old).next().transpose()? {
                    Some(value) => {
                        own.deepen(&value);
                        own.items[place] = value;
                    }
                    None => {
                        step(len / 8);
                        own.items.remove(place);
                    }
                }
                Ok(Self::Arr(array))
            }
            (other, _) => opt.fail(other, |v| Exn::from(Error::index(v, index.clone()))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<Option<&Self>>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        step(1);
        let new = |part: Self| f(part).next().transpose();
        match self {
            Self::Arr(array) => {
                let range = Self::slice(&range, array.items.len()).map_err(Exn::from)?;
                let part = self::array(array.items[range.clone()].to_vec());
                let part = match new(part)? {
                    None => Vec::new(),
                    Some(Self::Arr(part)) => take(part),
                    Some(other) => return Err(Exn::from(Error::typ(other, "an array"))),
                };
                let mut items = take(array);
                items.splice(range, part);
                Ok(self::array(items))
            }
            Self::Str(whole) => {
                let range = char_range(&whole, &range).map_err(Exn::from)?;
                let part = match new(text(whole[range.clone()].to_owned()))? {
                    None => Rc::from(""),
                    Some(Self::Str(part)) => part,
                    Some(other) => return Err(Exn::from(Error::typ(other, "a text"))),
                };
                Ok(text([&whole[..range.start], &*part, &whole[range.end..]].concat()))
            }
            other => opt.fail(other, |v| Exn::from(Error::typ(v, "an array or a text"))),
        }
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    fn into_string(self) -> Self {
        match self {
            words @ Self::Str(_) => words,
            other => text(other.to_string()),
        }
    }
}

/// A slice that counts characters, in bytes.
fn char_range(whole: &str, range: &Range<Option<&Val>>) -> Result<Range<usize>, Fault> {
    let chars = Val::slice(range, whole.chars().count())?;
    let byte = |place: usize| whole.char_indices().nth(place).map_or(whole.len(), |(byte, _)| byte);
    Ok(byte(chars.start)..byte(chars.end))
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
        step(1 + text.len() / 64);
        Some(text.as_bytes())
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        text(String::from_utf8_lossy(sub).into_owned())
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        text(String::from_utf8_lossy(bytes.as_ref()).into_owned())
    }
}
