//! The broker of the world: partitions that deliver, go and come back, and processes that die.

use std::sync::Arc;

use bytes::Bytes;
use roomcast::core::model::{
    BaseId, Epoch, Message, MessageId, Origin, PartitionId, Path, Plan, Record, RecordId, Room, RouteId,
};
use roomcast::core::schedule::{OnFull, Scheduler};

use crate::laws::End;
use crate::world::{ACCOUNT, Event, SOURCE, World, millis};

impl World {
    pub fn assign(&mut self, number: u32) {
        let partition = &mut self.partitions[number as usize];
        partition.epoch += 1;
        partition.assigned = true;
        partition.paused = false;
        partition.next = 0;
        let epoch = Epoch(partition.epoch);
        self.scheduler.handle_assigned(SOURCE, &[(PartitionId(number), epoch)]);
        self.after(millis(1), Event::Deliver(number));
    }

    pub fn deliver(&mut self, number: u32) {
        let pause = millis(self.rng.u64(0..60));
        let partition = &mut self.partitions[number as usize];
        if !partition.assigned {
            return;
        }
        if !self.intake || partition.paused {
            self.after(millis(20), Event::Deliver(number));
            return;
        }
        while partition.done.contains(&i64::try_from(partition.next).expect("few")) {
            partition.next += 1;
        }
        let Some(record) = partition.records.get(partition.next) else { return };
        let offset = i64::try_from(partition.next).expect("few");
        let id = RecordId {
            source: SOURCE,
            partition: PartitionId(number),
            epoch: Epoch(partition.epoch),
            offset,
        };
        partition.next += 1;
        let base = BaseId(uuid::Uuid::from_u64_pair(u64::from(number), offset.unsigned_abs()));
        let messages = record.messages.iter().map(|(path, room, priority, id, content, expires)| Message {
            account: ACCOUNT,
            path: *path,
            room: Room(room.as_str().into()),
            priority: *priority,
            id: *id,
            base,
            route: RouteId(0),
            content: Arc::clone(content),
            expires: *expires,
        });
        let plan = Plan {
            route: Some(RouteId(0)),
            account: Some(ACCOUNT),
            base,
            messages: messages.collect(),
            failures: Vec::new(),
            dropped: None,
            when_errors: 0,
        };
        let record = Record {
            id,
            origin: Origin { stream: "s".into(), topic: "s".into(), partition: 0, offset },
            key: None,
            value: Some(Bytes::from_static(b"{}")),
            headers: Vec::new(),
            timestamp: self.now.wall,
            maybe_tried: partition.epoch > 1,
        };
        self.note(&|| {
            let messages = plan
                .messages
                .iter()
                .map(|m| format!("{:?} {} {:?} {:?}", m.path, m.room, m.priority, m.expires));
            format!("  {number}/{offset}: {:?}", messages.collect::<Vec<_>>())
        });
        self.scheduler.handle_record(Arc::new(record), plan, self.now);
        self.after(pause, Event::Deliver(number));
    }

    pub fn revoke(&mut self, number: u32) {
        let partition = &mut self.partitions[number as usize];
        if !std::mem::replace(&mut partition.assigned, false) {
            return;
        }
        let epoch = Epoch(partition.epoch);
        self.scheduler.handle_revoking(SOURCE, &[(PartitionId(number), epoch)], self.now);
        self.seen.revoked += 1;
    }

    pub fn lose(&mut self, number: u32) {
        let partition = &mut self.partitions[number as usize];
        if !std::mem::replace(&mut partition.assigned, false) {
            return;
        }
        let epoch = Epoch(partition.epoch);
        self.scheduler.handle_lost(SOURCE, &[(PartitionId(number), epoch)], self.now);
        self.seen.lost += 1;
        self.assign(number);
    }

    /// The process dies and another one starts: calls away are counted for a quarter of a second
    /// more, and answer nobody.
    pub fn crash(&mut self) {
        self.seen.crashes += 1;
        self.process += 1;
        self.flights.clear();
        self.letters.clear();
        self.token_good = false;
        // The new process has not been told of a ban.
        self.ban = Default::default();
        self.intake = true;
        self.settings.seed ^= u64::from(self.process) << 32;
        self.scheduler = Scheduler::new(self.settings.clone(), self.now);
        for number in 0..self.partitions.len() {
            self.assign(u32::try_from(number).expect("few"));
        }
        self.restore();
    }

    pub fn restore(&mut self) {
        let (day, calls, last) = self.day;
        self.scheduler.restore_count(ACCOUNT, Path::Broadcast, day, calls, last, self.now);
    }

    pub fn messages_of(&self, id: RecordId) -> Vec<(String, MessageId)> {
        let offset = usize::try_from(id.offset).expect("positive");
        let record = &self.partitions[id.partition.0 as usize].records[offset];
        record.messages.iter().map(|(_, room, _, id, ..)| (room.clone(), *id)).collect()
    }

    pub fn settle(&mut self, id: RecordId) {
        self.note(&|| format!("settle {id:?}"));
        let messages = self.messages_of(id);
        // What is neither accepted nor in a letter was dropped by a rule: expiry or a full room.
        for (_, message) in &messages {
            let may_drop =
                self.expires[message].is_some() || self.settings.routes[0].on_full == OnFull::DropOldest;
            if may_drop {
                self.laws.ended(*message, End::Dropped);
                self.seen.dropped += 1;
            }
        }
        let messages: Vec<MessageId> = messages.into_iter().map(|(_, id)| id).collect();
        self.laws.p1_settled(id, &messages);
        self.partitions[id.partition.0 as usize].done.insert(id.offset);
    }
}
