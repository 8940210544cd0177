//! What jaq asks of a value by path: fields, places, slices, and their updates. All of it pays.

use std::ops::Range;
use std::sync::Arc;

use jaq_core::box_iter::{BoxIter, box_once};
use jaq_core::path::Opt;
use jaq_core::{Error, Exn, ValR, ValX};

use super::budget::{aside, spend, step};
use super::ops::{FIELD, Fault, PLACE, new_array, new_object, owned, take, text};
use super::{Fields, Val};

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
        Ok(new_object(fields))
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
        aside();
        match self {
            Self::Null => Ok(Self::Null),
            Self::Arr(array) => {
                let range = Self::slice(&range, array.items.len())?;
                Ok(new_array(array.items[range].to_vec()))
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
                Ok(new_object(fields))
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
                Ok(new_object(value.into_iter().map(|value| (name.clone(), value)).collect()))
            }
            (Self::Obj(mut object), Self::Str(name)) => {
                step(name.len() / 64);
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
                let part = new_array(array.items[range.clone()].to_vec());
                let part = match new(part)? {
                    None => Vec::new(),
                    Some(Self::Arr(part)) => take(part),
                    Some(other) => return Err(Exn::from(Error::typ(other, "an array"))),
                };
                let mut items = take(array);
                items.splice(range, part);
                Ok(new_array(items))
            }
            Self::Str(whole) => {
                let range = char_range(&whole, &range).map_err(Exn::from)?;
                let part = match new(text(whole[range.clone()].to_owned()))? {
                    None => Arc::from(""),
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
