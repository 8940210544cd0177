//! The messages that a route makes of an event: each of its `messages` for each of its rooms.
//!
//! A message that cannot be mapped makes one letter of the whole event, and nothing is sent: such a
//! letter is routed anew, and what had been sent beside it would be sent again. What a provider would
//! refuse concerns one message alone, whose letter carries that message's own id.

use std::sync::Arc;

use super::address::ROOM_MAX;
use super::conflate;
use super::filter::Input;
use super::message::{Filled, MessageRule};
use super::plan::{Turn, failure};
use super::replay::Replay;
use super::rule::{Send, Target};
use crate::core::model::{BaseId, Class, Content, Message, MessageId, Path, Priority, Room, RouteId};
use crate::core::provider::{Draft, Kind, MachineEvent};

/// Rooms that the provider would not take, by what is wrong with them.
type Refused = Vec<(String, Vec<Room>)>;

impl Turn<'_> {
    /// Makes the messages for these rooms and members.
    ///
    /// # Errors
    /// What a filter says when it fails, for a letter of class `mapping`: then there is no message.
    pub(super) fn make(
        &mut self,
        (id, name): (RouteId, &str),
        send: &Send,
        input: &Input,
        (priority, rooms, users): (Priority, Vec<Room>, &[String]),
    ) -> Result<(), String> {
        let only = self.replay.and_then(|replay| replay.owed_index(&self.identity()));
        if let Some(index) = only.filter(|index| *index >= send.messages.len()) {
            let many = send.messages.len();
            return Err(format!("the letter owes message {index} of the route, which makes {many} now"));
        }
        let wanted = |index: &usize| only.is_none_or(|only| only == *index);
        let (rooms, refused) = checked(send, rooms);
        let bases: Vec<BaseId> = (0..send.messages.len()).map(|index| self.base(name, index)).collect();
        if rooms.is_empty() {
            let wanted = bases.iter().enumerate().filter(|(index, _)| wanted(index));
            wanted.for_each(|(_, base)| self.refuse(*base, &refused));
            return Ok(());
        }
        let key = send.conflate.as_ref().map(|filter| conflate::key(filter, input, users)).transpose()?;
        let (newest_of, key) = key.flatten().unzip();
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.conflate = newest_of.map(|value| value.to_json());
        }
        let filled: Result<Vec<(usize, BaseId, Filled)>, String> = send
            .messages
            .iter()
            .zip(bases)
            .enumerate()
            .filter(|(index, _)| wanted(index))
            .map(|(index, (rule, base))| Ok((index, base, self.fill(rule, input, base)?)))
            .collect();
        let expires = send.ttl.map(|ttl| self.begins() + ttl);
        let path = send.target.path();
        let one_by_one = send.account.provider.limits().rooms_per_call == 1 && path != Path::Broadcast;
        for (index, base, filled) in filled? {
            self.refuse(base, &refused);
            let Filled { kind, sender, ext, options } = filled;
            let draft = Draft { path, users, kind, sender, ext, options, priority, base };
            let content: Arc<Content> = match send.account.provider.render(&draft) {
                Ok(content) => content,
                Err(invalid) => {
                    let owed = rooms.iter().filter(|room| !room.0.is_empty()).cloned().collect();
                    self.plan.failures.push(failure(base, Class::Invalid, invalid.0, owed));
                    continue;
                }
            };
            let conflate = key.as_ref().map(|key| conflate::of_message(key, index));
            self.plan.messages.extend(rooms.iter().map(|room| Message {
                account: send.account.id,
                path,
                id: if one_by_one { base.message(room) } else { MessageId(base.0) },
                room: room.clone(),
                priority,
                base,
                route: id,
                content: content.clone(),
                expires,
                conflate,
            }));
        }
        Ok(())
    }

    /// The base id of a message of the route of that name, which took the event.
    fn base(&self, name: &str, index: usize) -> BaseId {
        if let Some(owed) = self.replay.and_then(Replay::base) {
            return owed;
        }
        // A route has a handful of messages.
        self.identity().base(name, u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Letters of a message for the rooms that the provider would not take.
    fn refuse(&mut self, base: BaseId, refused: &Refused) {
        if refused.is_empty() {
            return;
        }
        let letters = refused.iter().map(|(why, rooms)| failure(base, Class::Invalid, why, rooms.clone()));
        self.plan.failures.extend(letters);
    }

    fn fill(&self, rule: &MessageRule, input: &Input, base: BaseId) -> Result<Filled, String> {
        match rule {
            MessageRule::Mapped(mapping) => mapping.fill(input).map_err(|trouble| trouble.to_string()),
            MessageRule::Machine(as_command) => Ok(Filled {
                kind: Kind::Machine(self.machine(*as_command, base)),
                sender: None,
                ext: None,
                options: serde_json::Map::new(),
            }),
        }
    }

    fn machine(&self, as_command: bool, base: BaseId) -> MachineEvent {
        let cloud = self.event.cloud.as_ref();
        let own_time = cloud.and_then(|cloud| cloud.time.as_ref()).map(|(_, text)| text.to_string());
        MachineEvent {
            as_command,
            event_type: self.event.kind().unwrap_or(&self.record.origin.topic).to_owned(),
            id: cloud.map_or_else(|| base.to_string(), |cloud| cloud.id.to_string()),
            time: own_time.unwrap_or_else(|| self.record.timestamp.rfc3339()),
            data: self.event.data(),
        }
    }
}

/// The rooms that the provider would take, and the others.
fn checked(send: &Send, rooms: Vec<Room>) -> (Vec<Room>, Refused) {
    let mut refused = Refused::new();
    if matches!(send.target, Target::All) {
        return (rooms, refused);
    }
    let mut good = Vec::with_capacity(rooms.len());
    for room in rooms {
        if room.0.len() > ROOM_MAX {
            // It would not fit into a letter's header.
            refused.push((format!("a room id of {} bytes; at most {ROOM_MAX}", room.0.len()), Vec::new()));
            continue;
        }
        match send.account.provider.check_room(&room.0) {
            Ok(()) => good.push(room),
            Err(invalid) => match refused.iter_mut().find(|(why, _)| *why == invalid.0) {
                Some((_, alike)) => alike.push(room),
                None => refused.push((invalid.0, vec![room])),
            },
        }
    }
    (good, refused)
}
