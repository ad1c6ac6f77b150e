//! A nameserver and a broker in one, simple enough to be believed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_protocol::command::heartbeat::Heartbeat;
use skylark_protocol::command::membership::{ConsumerGroup, ConsumerList, UnregisterClient};
use skylark_protocol::command::offsets::{QueryConsumerOffset, QueueRequest, UpdateConsumerOffset};
use skylark_protocol::command::pull::PullRequest;
use skylark_protocol::command::route::{BrokerData, QueueData, RouteRequest, TopicRouteData};
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::frame::{Encoding, Frame};
use skylark_protocol::memory::MemoryNetwork;
use skylark_protocol::message::batch::inner_messages;
use skylark_protocol::message::{NewMessage, OffsetMessageId, StoredMessage};
use skylark_protocol::transport::{CloseReason, Listener, Mailbox, Outbox, Peer, Service, Session};
use skylark_protocol::{Header, Outgoing, ReplyTo, RequestCode, ResponseCode, Value};
use tokio::task::JoinSet;

use crate::{Client, ClientOptions};

/// The cluster's address, for everything.
pub(super) const ADDRESS: &str = "cluster:1";

/// A topic and a queue's number.
type QueueOf = (String, i32);

#[derive(Default)]
pub(super) struct State {
    /// Queues by topic; every message as it is stored.
    pub(super) topics: BTreeMap<String, Vec<Vec<Vec<u8>>>>,
    /// Committed offsets by group and queue.
    pub(super) offsets: HashMap<(String, QueueOf), u64>,
    /// Members by group.
    pub(super) members: BTreeMap<String, BTreeSet<String>>,
    /// What the next sends are refused with.
    pub(super) refuse_sends: VecDeque<ResponseCode>,
    /// The queue that each send asked for, refused ones too.
    pub(super) asked_queues: Vec<i32>,
    /// Physical offsets of messages sent back.
    pub(super) sent_back: Vec<u64>,
    pub(super) refuses_send_back: bool,
    stored: u64,
}

/// The cluster, shared by the sessions of all its clients.
pub(super) struct Cluster {
    pub(super) state: Mutex<State>,
    mailboxes: Mutex<Vec<Arc<Mailbox<Mail>>>>,
    links: Mutex<JoinSet<()>>,
}

enum Mail {
    /// Messages were stored.
    Stored,
    /// A group's members have changed.
    Members(String),
}

impl Cluster {
    pub(super) fn new(topics: &[(&str, usize)]) -> Arc<Self> {
        let topics = topics.iter().map(|(topic, queues)| ((*topic).to_owned(), vec![Vec::new(); *queues]));
        Arc::new(Self {
            state: Mutex::new(State { topics: topics.collect(), ..State::default() }),
            mailboxes: Mutex::default(),
            links: Mutex::default(),
        })
    }

    pub(super) fn client(self: &Arc<Self>) -> Client {
        let cluster = Arc::clone(self);
        let network = MemoryNetwork::new(move |_, link| {
            cluster.links.lock().spawn(link.drive());
        });
        network.bind(ADDRESS, Listener::Broker, Arc::new(Accepting(Arc::clone(self))));
        Client::new(Arc::new(network), ClientOptions::new(ADDRESS))
    }

    /// Cuts every connection.
    pub(super) fn cut(&self) {
        self.links.lock().abort_all();
    }

    pub(super) fn store(
        &self,
        topic: &str,
        queue: i32,
        body: &[u8],
        properties: &[u8],
        sys_flag: i32,
    ) -> u64 {
        let mut state = self.state.lock();
        let physical_offset = state.stored;
        let queues = state.topics.entry(topic.to_owned()).or_insert_with(|| vec![Vec::new(); 4]);
        let messages = &mut queues[usize::try_from(queue).unwrap()];
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let message = NewMessage {
            topic,
            queue_id: queue.try_into().unwrap(),
            flag: 0,
            sys_flag,
            born_timestamp: 0,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            properties,
            added_properties: b"",
        };
        let queue_offset = messages.len() as u64;
        let bytes = message.parts(usize::MAX).unwrap().to_vec(queue_offset, physical_offset, 0);
        state.stored += bytes.len() as u64;
        state.topics.get_mut(topic).unwrap()[usize::try_from(queue).unwrap()].push(bytes);
        drop(state);
        self.post(|| Mail::Stored);
        queue_offset
    }

    pub(super) fn committed(&self, group: &str, topic: &str) -> Vec<u64> {
        let state = self.state.lock();
        let queues = 0..i32::try_from(state.topics[topic].len()).unwrap();
        let key = |queue| (group.to_owned(), (topic.to_owned(), queue));
        queues.map(|queue| state.offsets.get(&key(queue)).copied().unwrap_or(0)).collect()
    }

    fn post(&self, mail: impl Fn() -> Mail) {
        self.mailboxes.lock().retain(|mailbox| mailbox.post(mail()).is_ok());
    }

    fn change_members(&self, group: &str, change: impl FnOnce(&mut BTreeSet<String>) -> bool) {
        if change(self.state.lock().members.entry(group.to_owned()).or_default()) {
            self.post(|| Mail::Members(group.to_owned()));
        }
    }
}

struct Accepting(Arc<Cluster>);

impl Service for Accepting {
    fn accept(&self, _peer: Peer) -> Box<dyn Session> {
        let mailbox = Arc::new(Mailbox::new(100_000));
        self.0.mailboxes.lock().push(Arc::clone(&mailbox));
        Box::new(Connection {
            cluster: Arc::clone(&self.0),
            mailbox,
            mail: VecDeque::new(),
            parked: Vec::new(),
            joined: BTreeSet::new(),
        })
    }
}

struct Connection {
    cluster: Arc<Cluster>,
    mailbox: Arc<Mailbox<Mail>>,
    mail: VecDeque<Mail>,
    parked: Vec<(ReplyTo, QueueOf, u64)>,
    /// Groups and client ids that came over this connection.
    joined: BTreeSet<(String, String)>,
}

impl Connection {
    /// Answers a pull if there is something.
    fn pull(&self, reply: ReplyTo, (topic, queue): &QueueOf, offset: u64, out: &mut Outbox) -> bool {
        let state = self.cluster.state.lock();
        let messages = &state.topics[topic][usize::try_from(*queue).unwrap()];
        let max = messages.len() as u64;
        let found: Vec<_> = messages.iter().skip(usize::try_from(offset).unwrap()).take(32).collect();
        let (code, next) = match found.len() as u64 {
            0 if offset == max => return false,
            0 => (ResponseCode::PULL_OFFSET_MOVED, max),
            count => (ResponseCode::SUCCESS, offset + count),
        };
        let fields = [
            ("suggestWhichBrokerId", Value::from(0)),
            ("nextBeginOffset", next.into()),
            ("minOffset", 0.into()),
            ("maxOffset", max.into()),
        ];
        let body: Vec<u8> = found.into_iter().flatten().copied().collect();
        reply.respond(out, code, None, &fields, Bytes::from(body));
        true
    }

    fn send(&self, request: &SendRequest<'_>) -> Result<(u64, u64), ResponseCode> {
        let mut state = self.cluster.state.lock();
        state.asked_queues.push(request.queue_id);
        if let Some(code) = state.refuse_sends.pop_front() {
            return Err(code);
        }
        let physical_offset = state.stored;
        drop(state);
        let store = |body: &[u8], properties: &[u8]| {
            self.cluster.store(request.topic, request.queue_id, body, properties, request.sys_flag)
        };
        let queue_offset = if request.batch {
            let stored = inner_messages(request.body).map(|inner| {
                let inner = inner.unwrap();
                store(inner.body, inner.properties)
            });
            stored.collect::<Vec<_>>()[0]
        } else {
            store(request.body, request.properties.as_bytes())
        };
        Ok((queue_offset, physical_offset))
    }

    fn route(&self, topic: &str) -> Option<Vec<u8>> {
        let state = self.cluster.state.lock();
        let queues = i32::try_from(state.topics.get(topic)?.len()).unwrap();
        let broker_name = "broker".to_owned();
        let broker = BrokerData {
            broker_addrs: [(0, ADDRESS.to_owned())].into(),
            broker_name: broker_name.clone(),
            ..BrokerData::default()
        };
        let counts = QueueData {
            broker_name,
            perm: 6,
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..QueueData::default()
        };
        let route = TopicRouteData {
            broker_datas: vec![broker],
            queue_datas: vec![counts],
            ..TopicRouteData::default()
        };
        Some(route.encode())
    }

    fn answer(&mut self, header: &Header<'_>, frame: &Frame<'_>, out: &mut Outbox) {
        let reply = ReplyTo::from((header, frame));
        let mut succeed = |fields: &[(&str, Value<'_>)], body: Vec<u8>| {
            reply.respond(out, ResponseCode::SUCCESS, None, fields, Bytes::from(body));
        };
        match header.request_code() {
            RequestCode::GET_ROUTEINFO_BY_TOPIC => {
                match self.route(RouteRequest::decode(header).unwrap().topic) {
                    Some(route) => succeed(&[], route),
                    None => reply.failure(out.buffer(), ResponseCode::TOPIC_NOT_EXIST, "no such topic"),
                }
            }
            RequestCode::HEART_BEAT => {
                succeed(&[], Vec::new());
                let heartbeat = Heartbeat::decode(frame.body).unwrap();
                for consumer in heartbeat.consumers {
                    let joined = (consumer.group_name.clone(), heartbeat.client_id.clone());
                    if self.joined.insert(joined) {
                        self.cluster.change_members(&consumer.group_name, |members| {
                            members.insert(heartbeat.client_id.clone())
                        });
                    }
                }
            }
            RequestCode::UNREGISTER_CLIENT => {
                succeed(&[], Vec::new());
                let leaving = UnregisterClient::decode(header).unwrap();
                if let Some(group) = leaving.consumer_group {
                    self.joined.remove(&(group.to_owned(), leaving.client_id.to_owned()));
                    self.cluster.change_members(group, |members| members.remove(leaving.client_id));
                }
            }
            RequestCode::GET_CONSUMER_LIST_BY_GROUP => {
                let group = ConsumerGroup::decode(header).unwrap().consumer_group;
                let members = self.cluster.state.lock().members.get(group).cloned().unwrap_or_default();
                let list = ConsumerList { consumer_id_list: members.into_iter().collect() };
                succeed(&[], list.encode());
            }
            RequestCode::QUERY_CONSUMER_OFFSET => {
                let query = QueryConsumerOffset::decode(header).unwrap();
                let key = (query.consumer_group.to_owned(), (query.topic.to_owned(), query.queue_id));
                match self.cluster.state.lock().offsets.get(&key) {
                    Some(offset) => succeed(&[("offset", (*offset).into())], Vec::new()),
                    None => reply.failure(out.buffer(), ResponseCode::QUERY_NOT_FOUND, "none"),
                }
            }
            RequestCode::UPDATE_CONSUMER_OFFSET => {
                let update = UpdateConsumerOffset::decode(header).unwrap();
                let key = (update.consumer_group.to_owned(), (update.topic.to_owned(), update.queue_id));
                let offset = update.commit_offset.try_into().unwrap();
                self.cluster.state.lock().offsets.insert(key, offset);
                succeed(&[], Vec::new());
            }
            code @ (RequestCode::GET_MAX_OFFSET | RequestCode::GET_MIN_OFFSET) => {
                let request = QueueRequest::decode(header).unwrap();
                let state = self.cluster.state.lock();
                let max =
                    state.topics[request.topic][usize::try_from(request.queue_id).unwrap()].len() as u64;
                let offset = if code == RequestCode::GET_MAX_OFFSET { max } else { 0 };
                succeed(&[("offset", offset.into())], Vec::new());
            }
            RequestCode::PULL_MESSAGE => {
                let request = PullRequest::decode(header).unwrap();
                let queue = (request.topic.to_owned(), request.queue_id);
                let offset = request.queue_offset.try_into().unwrap();
                if !self.pull(reply, &queue, offset, out) {
                    self.parked.push((reply, queue, offset));
                }
            }
            RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => {
                let request = SendRequest::decode(header, frame.body).unwrap();
                match self.send(&request) {
                    Ok((queue_offset, physical_offset)) => {
                        let host = SocketAddr::from(([127, 0, 0, 1], 1));
                        let id = OffsetMessageId { store_host: host, physical_offset }.to_string();
                        let fields = [
                            ("msgId", Value::from(&id)),
                            ("queueId", request.queue_id.into()),
                            ("queueOffset", queue_offset.into()),
                        ];
                        succeed(&fields, Vec::new());
                    }
                    Err(code) => reply.failure(out.buffer(), code, "as the test wants"),
                }
            }
            RequestCode::CONSUMER_SEND_MSG_BACK => {
                let mut state = self.cluster.state.lock();
                if state.refuses_send_back {
                    reply.failure(out.buffer(), ResponseCode::SYSTEM_ERROR, "as the test wants");
                } else {
                    state.sent_back.push(header.fields.number("offset").unwrap());
                    succeed(&[], Vec::new());
                }
            }
            code => panic!("{code} is not expected"),
        }
    }
}

impl Session for Connection {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().unwrap();
        if !header.is_response() {
            self.answer(&header, &frame, out);
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.mailbox.take(cx, &mut self.mail);
        while let Some(mail) = self.mail.pop_front() {
            match mail {
                Mail::Stored => {
                    let parked = std::mem::take(&mut self.parked);
                    let still = parked
                        .into_iter()
                        .filter(|(reply, queue, offset)| !self.pull(*reply, queue, *offset, out));
                    let still: Vec<_> = still.collect();
                    self.parked = still;
                }
                Mail::Members(group) if self.joined.iter().any(|(joined, _)| *joined == group) => {
                    let fields = [("consumerGroup", Value::from(&group))];
                    let notice = Outgoing {
                        encoding: Encoding::Json,
                        code: RequestCode::NOTIFY_CONSUMER_IDS_CHANGED.0,
                        opaque: 0,
                        flag: 2,
                        remark: None,
                        fields: &fields,
                    };
                    notice.write(0, out.buffer());
                }
                Mail::Members(_) => {}
            }
        }
        Ok(())
    }

    fn closed(&mut self, _reason: &CloseReason) {
        self.mailbox.close();
        for (group, client_id) in &self.joined {
            self.cluster.change_members(group, |members| members.remove(client_id));
        }
    }
}

/// What is stored in all queues of a topic.
pub(super) fn bodies(state: &State, topic: &str) -> Vec<Vec<u8>> {
    let messages = state.topics[topic].iter().flatten();
    messages.map(|bytes| StoredMessage::parse(bytes).unwrap().0.body.to_vec()).collect()
}
