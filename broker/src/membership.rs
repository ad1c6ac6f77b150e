//! Who is connected: producers and consumers by group, as their heartbeats say.
//!
//! Membership is volatile: clients say it again every 30 seconds, and a closed connection ends it at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use skylark_protocol::command::heartbeat::{
    self, ConsumeFrom, ConsumeType, ConsumerData, Heartbeat, MessageModel,
};
use skylark_protocol::header::Language;
use skylark_protocol::message::TagFilter;
use skylark_protocol::transport::Mailbox;

use crate::calls::Callee;
use crate::context::Refusal;
use crate::selection::{Filters, Selection};
use crate::session::Mail;

/// A member whose heartbeats stop is removed after this long.
pub const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Who leaves more bytes than this unread is asked nothing, until it has read them.
const UNREAD_MAX: usize = 4 << 20;

/// Whether a group has somebody to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody is connected.
    Absent,
    /// Whoever is connected has not read what it was sent before.
    Busy,
    /// Somebody is.
    There,
}

/// Names a connection for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A connected client, as a member of a group.
#[derive(Clone)]
pub struct Member {
    /// What the client calls itself.
    pub client_id: Arc<str>,
    /// What it is written in.
    pub language: Language,
    /// Which release it says it is.
    pub version: i32,
    /// Where it connects from.
    pub address: SocketAddr,
    /// How its connection is reached.
    pub mailbox: Arc<Mailbox<Mail>>,
    /// When it last said that it is there.
    pub seen: Duration,
}

/// What a group reads of a topic.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// As the client stated it: with its version, in milliseconds or nanoseconds as the client counts; higher is
    /// newer.
    pub stated: heartbeat::Subscription,
    /// Which messages: made by the first pull, so that it is told what is wrong with the expression.
    selection: OnceLock<Arc<Selection>>,
}

impl Subscription {
    fn new(stated: &heartbeat::Subscription) -> Self {
        Self { stated: stated.clone(), selection: OnceLock::new() }
    }

    /// Which messages.
    ///
    /// # Errors
    /// When the expression does not compile, or there is no room for another.
    pub fn selection(&self, filters: &Filters) -> Result<Arc<Selection>, Refusal> {
        if let Some(known) = self.selection.get() {
            return Ok(Arc::clone(known));
        }
        let heartbeat::Subscription { topic, expression_type, expression, .. } = &self.stated;
        let made = if self.stated.is_by_tags() {
            // An expression without tags selects nothing.
            Selection::Tags(self.stated.tag_filter().unwrap_or(TagFilter::none()))
        } else {
            filters.selection(topic, expression_type, expression)?
        };
        Ok(Arc::clone(self.selection.get_or_init(|| Arc::new(made))))
    }
}

/// A consumer group with at least one member.
#[derive(Clone)]
pub struct ConsumerGroup {
    /// Its connections.
    pub members: BTreeMap<ConnectionId, Member>,
    /// What it reads, by topic.
    pub subscriptions: BTreeMap<Arc<str>, Arc<Subscription>>,
    /// Whether each member gets every message, or its share.
    pub model: MessageModel,
    /// How it asks for messages.
    pub consume_type: ConsumeType,
    /// Where it starts without an offset.
    pub consume_from: ConsumeFrom,
}

/// Every group with members. Its lock is the innermost: nothing else is locked, called or woken under it.
///
/// Memory: a few hundred bytes per connection and group, and what each group's newest heartbeat says of its
/// subscriptions; so bounded by the connections and by what one of them may send at once.
#[derive(Default)]
pub struct Membership {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    consumers: BTreeMap<Arc<str>, ConsumerGroup>,
    producers: BTreeMap<Arc<str>, BTreeMap<ConnectionId, Member>>,
}

impl Membership {
    /// Takes a heartbeat. `notifies` says of a consumer group whether its members want to hear of changes.
    pub fn heartbeat(
        &self,
        connection: ConnectionId,
        member: &Member,
        heartbeat: &Heartbeat,
        notifies: impl Fn(&str) -> bool,
    ) {
        let mut changed = Vec::new();
        {
            let mut inner = self.inner.lock();
            for producer in &heartbeat.producers {
                let members = entry(&mut inner.producers, &producer.group_name);
                members.insert(connection, member.clone());
            }
            for consumer in &heartbeat.consumers {
                let shares_out = inner.join(connection, member, consumer);
                if shares_out && consumer.message_model == MessageModel::Clustering {
                    changed.extend(inner.notice(&consumer.group_name));
                }
            }
        }
        tell(changed, notifies);
    }

    /// A client leaves one or two of its groups.
    pub fn leave(
        &self,
        connection: ConnectionId,
        producer_group: Option<&str>,
        consumer_group: Option<&str>,
        notifies: impl Fn(&str) -> bool,
    ) {
        let mut changed = Vec::new();
        {
            let mut inner = self.inner.lock();
            if let Some(group) = producer_group {
                inner.leave_producers(group, connection);
            }
            if let Some(group) = consumer_group
                && inner.leave_consumers(group, connection)
            {
                changed.extend(inner.notice(group));
            }
        }
        tell(changed, notifies);
    }

    /// A connection is gone: it leaves every group.
    pub fn disconnect(&self, connection: ConnectionId, notifies: impl Fn(&str) -> bool) {
        let mut changed = Vec::new();
        {
            let mut inner = self.inner.lock();
            let producing: Vec<_> = groups_of(&inner.producers, |members| members.contains_key(&connection));
            let consuming = groups_of(&inner.consumers, |group| group.members.contains_key(&connection));
            producing.iter().for_each(|group| inner.leave_producers(group, connection));
            for group in consuming {
                if inner.leave_consumers(&group, connection) {
                    changed.extend(inner.notice(&group));
                }
            }
        }
        tell(changed, notifies);
    }

    /// Closes the connections of members that have been silent for too long.
    pub fn expire(&self, now: Duration) {
        let silent: Vec<_> = {
            let inner = self.inner.lock();
            let consumers = inner.consumers.values().flat_map(|group| group.members.values());
            let members = consumers.chain(inner.producers.values().flat_map(BTreeMap::values));
            let silent = members.filter(|member| now.saturating_sub(member.seen) > SILENCE_MAX);
            silent.map(|member| Arc::clone(&member.mailbox)).collect()
        };
        for mailbox in silent {
            // A full mailbox is emptied or closed before long; the next round tries again.
            mailbox.post(Mail::Close("no heartbeat for two minutes")).ok();
        }
    }

    /// The client ids of a consumer group, one per connection.
    pub fn client_ids(&self, group: &str) -> Vec<Arc<str>> {
        let inner = self.inner.lock();
        let members = inner.consumers.get(group).into_iter().flat_map(|group| group.members.values());
        members.map(|member| Arc::clone(&member.client_id)).collect()
    }

    /// The members of a consumer group, with their connections.
    pub fn members(&self, group: &str) -> Vec<(ConnectionId, Member)> {
        let inner = self.inner.lock();
        let members = inner.consumers.get(group).into_iter().flat_map(|group| &group.members);
        members.map(|(connection, member)| (*connection, member.clone())).collect()
    }

    /// Whether a connection is one of a consumer group's.
    pub fn is_member(&self, group: &str, connection: ConnectionId) -> bool {
        self.inner.lock().consumers.get(group).is_some_and(|group| group.members.contains_key(&connection))
    }

    /// What a client calls itself, if it has said so over this connection.
    pub fn client_id(&self, connection: ConnectionId) -> Option<Arc<str>> {
        let inner = self.inner.lock();
        let consumers = inner.consumers.values().map(|group| &group.members);
        let mut groups = consumers.chain(inner.producers.values());
        groups.find_map(|members| members.get(&connection)).map(|member| Arc::clone(&member.client_id))
    }

    /// The connection of a producer that calls itself so.
    pub fn producer(&self, client_id: &str) -> Option<Callee> {
        let inner = self.inner.lock();
        let mut members = inner.producers.values().flatten();
        let (connection, member) = members.find(|(_, member)| *member.client_id == *client_id)?;
        Some(Callee { connection: *connection, mailbox: Arc::clone(&member.mailbox) })
    }

    /// A consumer group, if it has members.
    pub fn consumers(&self, group: &str) -> Option<ConsumerGroup> {
        self.inner.lock().consumers.get(group).cloned()
    }

    /// The consumer groups that read a topic.
    pub fn readers_of(&self, topic: &str) -> Vec<Arc<str>> {
        groups_of(&self.inner.lock().consumers, |group| group.subscriptions.contains_key(topic))
    }

    /// The members of a producer group; none if there is no such group.
    pub fn producers(&self, group: &str) -> Vec<Member> {
        let inner = self.inner.lock();
        inner.producers.get(group).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Whether a producer of the group is there to be asked. Those that are busy are woken, so that it is known the next
    /// time whether they still are.
    pub fn producers_presence(&self, group: &str) -> Presence {
        let inner = self.inner.lock();
        let Some(members) = inner.producers.get(group) else { return Presence::Absent };
        let open = || members.values().filter(|member| !member.mailbox.is_closed());
        if open().any(keeps_up) {
            return Presence::There;
        }
        let busy: Vec<_> = open().map(|member| Arc::clone(&member.mailbox)).collect();
        drop(inner);
        busy.iter().for_each(|mailbox| mailbox.wake());
        if busy.is_empty() { Presence::Absent } else { Presence::Busy }
    }

    /// A connected producer of the group that reads what it is asked: another one with each `turn`.
    pub fn producer_of(&self, group: &str, turn: usize) -> Option<Callee> {
        let inner = self.inner.lock();
        let members = inner.producers.get(group)?;
        let open = members.iter().filter(|(_, member)| !member.mailbox.is_closed() && keeps_up(member));
        let (connection, member) = open.clone().nth(turn % open.count().max(1))?;
        Some(Callee { connection: *connection, mailbox: Arc::clone(&member.mailbox) })
    }

    /// The members of all producer groups.
    pub fn all_producers(&self) -> Vec<(Arc<str>, Vec<Member>)> {
        let inner = self.inner.lock();
        let groups = inner.producers.iter();
        groups.map(|(group, members)| (Arc::clone(group), members.values().cloned().collect())).collect()
    }

    /// What a group reads of a topic, and whether it has members at all.
    pub fn subscription(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<Option<(Arc<Subscription>, MessageModel)>, NoMembers> {
        let inner = self.inner.lock();
        let group = inner.consumers.get(group).ok_or(NoMembers)?;
        Ok(group.subscriptions.get(topic).map(|found| (Arc::clone(found), group.model)))
    }
}

/// The group has no members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMembers;

impl Inner {
    /// Whether the group's members have to share out anew.
    fn join(&mut self, connection: ConnectionId, member: &Member, data: &ConsumerData) -> bool {
        let group = entry_with(&mut self.consumers, &data.group_name, || ConsumerGroup {
            members: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            model: data.message_model,
            consume_type: data.consume_type,
            consume_from: data.consume_from_where,
        });
        group.model = data.message_model;
        group.consume_type = data.consume_type;
        group.consume_from = data.consume_from_where;
        let is_new = group.members.insert(connection, member.clone()).is_none();
        let before = group.subscriptions.len();
        group.subscriptions.retain(|topic, _| data.subscriptions.iter().any(|new| *new.topic == **topic));
        let mut topics_changed = group.subscriptions.len() != before;
        for new in &data.subscriptions {
            let known = group.subscriptions.get(&*new.topic);
            if known.is_some_and(|known| known.stated.version >= new.version) {
                continue;
            }
            topics_changed |= known.is_none();
            group.subscriptions.insert((*new.topic).into(), Arc::new(Subscription::new(new)));
        }
        is_new || topics_changed
    }

    fn leave_producers(&mut self, group: &str, connection: ConnectionId) {
        if let Some(members) = self.producers.get_mut(group) {
            members.remove(&connection);
            if members.is_empty() {
                self.producers.remove(group);
            }
        }
    }

    /// Whether somebody left whose share others must take over.
    fn leave_consumers(&mut self, group: &str, connection: ConnectionId) -> bool {
        let Some(known) = self.consumers.get_mut(group) else { return false };
        let left = known.members.remove(&connection).is_some() && known.model == MessageModel::Clustering;
        if known.members.is_empty() {
            self.consumers.remove(group);
            return false;
        }
        left
    }

    /// Whom a change of a group concerns.
    fn notice(&self, group: &str) -> Option<Notice> {
        let (name, group) = self.consumers.get_key_value(group)?;
        let mailboxes = group.members.values().map(|member| Arc::clone(&member.mailbox)).collect();
        Some(Notice { group: Arc::clone(name), mailboxes })
    }
}

/// The members of a group that has changed.
struct Notice {
    group: Arc<str>,
    mailboxes: Vec<Arc<Mailbox<Mail>>>,
}

fn entry<'a, V: Default>(map: &'a mut BTreeMap<Arc<str>, V>, key: &str) -> &'a mut V {
    entry_with(map, key, V::default)
}

fn entry_with<'a, V>(map: &'a mut BTreeMap<Arc<str>, V>, key: &str, make: impl FnOnce() -> V) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.into(), make());
    }
    map.get_mut(key).expect("the key was inserted above")
}

fn groups_of<V>(groups: &BTreeMap<Arc<str>, V>, belongs: impl Fn(&V) -> bool) -> Vec<Arc<str>> {
    groups.iter().filter(|(_, members)| belongs(members)).map(|(name, _)| Arc::clone(name)).collect()
}

/// Tells members of changes. Outside the lock: `notifies` takes others, and mail wakes foreign tasks.
fn tell(changed: Vec<Notice>, notifies: impl Fn(&str) -> bool) {
    for Notice { group, mailboxes } in changed {
        if notifies(&group) {
            for mailbox in mailboxes {
                // A member that cannot be told is closing, or will share out anew within 20 seconds by itself.
                mailbox.post(Mail::GroupChanged(Arc::clone(&group))).ok();
            }
        }
    }
}
/// Whether a client reads what it is sent. Otherwise what it is asked would only lie in memory, and from a certain amount on
/// its own requests would wait for that.
fn keeps_up(member: &Member) -> bool {
    member.mailbox.unread() <= UNREAD_MAX
}
