//! Connections by address, routes by topic, and heartbeats.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skylark_protocol::command::membership::{ConsumerGroup, UnregisterClient};
use skylark_protocol::command::route::{RouteRequest, TopicRouteData};
use skylark_protocol::frame::Frame;
use skylark_protocol::transport::{Connector, Outbox};
use skylark_protocol::{Header, RequestCode, ResponseCode};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::clock;
use crate::groups::{Groups, Membership};
use crate::remote::{InvokeError, Remote, Request, Response, refuse};
use crate::route::Route;

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `host:port` of each nameserver; the next is asked when one does not answer.
    pub name_servers: Vec<String>,
    /// The address this client calls itself by in its id and in the keys of its messages.
    ///
    /// Default 127.0.0.1. It should differ between hosts.
    pub address: IpAddr,
    /// How long to wait for answers that take no longer than the network. Default 3 s.
    pub deadline: Duration,
}

impl ClientOptions {
    /// Options for these nameservers, written as `host:port`, separated by semicolons or commas.
    pub fn new(name_servers: &str) -> Self {
        let name_servers = name_servers.split([';', ',']).map(str::trim).filter(|text| !text.is_empty());
        Self {
            name_servers: name_servers.map(str::to_owned).collect(),
            address: Ipv4Addr::LOCALHOST.into(),
            deadline: Duration::from_secs(3),
        }
    }
}

/// One member of the messaging system: it has an id, and all its producers and consumers share connections.
/// Cheap to clone; needs a tokio runtime.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Arc<dyn Connector>,
    options: ClientOptions,
    id: String,
    groups: Arc<Groups>,
    connections: Mutex<HashMap<String, Connection>>,
    routes: Mutex<HashMap<String, Known>>,
    /// Held while a route is asked for: whoever else wants one meanwhile finds it afterwards.
    asking: tokio::sync::Mutex<()>,
    /// Which nameserver answered last.
    name_server: AtomicUsize,
    heartbeats: Mutex<Option<AbortHandle>>,
}

#[derive(Clone)]
struct Connection {
    remote: Remote,
    /// A heartbeat was sent on this very connection, so that the broker knows who is behind it.
    introduced: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Known {
    route: Arc<Route>,
    at: Instant,
    /// Something has failed that a newer route may explain.
    is_doubted: bool,
}

impl Known {
    fn is_fresh(&self) -> bool {
        !self.is_doubted && self.at.elapsed() < ROUTE_FRESH
    }
}

/// A route is asked for again after this, as by RocketMQ's clients.
const ROUTE_FRESH: Duration = Duration::from_secs(30);
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(30);
/// Its route is the template of topics that do not exist yet.
pub(crate) const TEMPLATE_TOPIC: &str = "TBW102";
/// How many queues a topic gets that is created by sending to it.
pub(crate) const TEMPLATE_QUEUES: i32 = 4;

impl Client {
    /// A client that opens its connections with `connector`. Nothing is opened before it is needed.
    pub fn new(connector: Arc<dyn Connector>, options: ClientOptions) -> Self {
        let nanos = clock::since_1970().as_nanos();
        let id = format!("{}@{}#{nanos}", options.address, std::process::id());
        let inner = Inner {
            connector,
            options,
            id,
            groups: Arc::default(),
            connections: Mutex::default(),
            routes: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            name_server: AtomicUsize::new(0),
            heartbeats: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The client's id: `address@process#nanoseconds`.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What the client was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// The connection to `address`, opened if there is none.
    pub fn remote(&self, address: &str) -> Remote {
        self.connection(address).remote
    }

    /// Asks the server at `address`.
    ///
    /// # Errors
    /// As for [`Remote::invoke`].
    pub async fn ask(&self, address: &str, request: Request<'_>) -> Result<Response, InvokeError> {
        self.remote(address).invoke(request, self.inner.options.deadline).await
    }

    /// Asks a nameserver, and the next if one does not answer.
    ///
    /// # Errors
    /// With the last one's failure when none answers.
    pub async fn ask_name_server(&self, request: Request<'_>) -> Result<Response, InvokeError> {
        let servers = &self.inner.options.name_servers;
        // Relaxed: a hint where to begin.
        let first = self.inner.name_server.load(Ordering::Relaxed);
        let mut failure = InvokeError::NoAddress;
        for turn in 0..servers.len() {
            let index = (first + turn) % servers.len();
            match self.ask(&servers[index], request.clone()).await {
                Ok(response) => {
                    self.inner.name_server.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error) => {
                    debug!(server = %servers[index], %error, "nameserver does not answer");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// The topic's route, at most 30 s old; older when no nameserver answers.
    ///
    /// # Errors
    /// When there is none: refused with [`ResponseCode::TOPIC_NOT_EXIST`] if the topic is unknown.
    pub async fn route(&self, topic: &str) -> Result<Arc<Route>, InvokeError> {
        if let Some(known) = self.known_route(topic).filter(Known::is_fresh) {
            return Ok(known.route);
        }
        let _asking = self.inner.asking.lock().await;
        let known = self.known_route(topic);
        if let Some(known) = known.as_ref().filter(|known| known.is_fresh()) {
            return Ok(Arc::clone(&known.route));
        }
        match (self.ask_route(topic).await, known) {
            (Err(error), Some(known)) if error.code().is_none() => {
                warn!(topic, %error, "no nameserver tells the route, the last one known is used");
                Ok(known.route)
            }
            (asked, _) => asked,
        }
    }

    fn known_route(&self, topic: &str) -> Option<Known> {
        self.inner.routes.lock().get(topic).cloned()
    }

    /// The route to send to the topic by: one of its own, or the template's while it does not exist.
    ///
    /// # Errors
    /// As for [`Client::route`].
    pub(crate) async fn route_to_send(&self, topic: &str) -> Result<Arc<Route>, InvokeError> {
        match self.route(topic).await {
            Err(error) if error.code() == Some(ResponseCode::TOPIC_NOT_EXIST) => {
                let Ok(template) = self.route(TEMPLATE_TOPIC).await else { return Err(error) };
                Ok(Arc::new(template.as_template(TEMPLATE_QUEUES)))
            }
            result => result,
        }
    }

    /// Something has failed that a newer route may explain: the next one asked for comes from a nameserver, if
    /// one answers.
    pub fn doubt_route(&self, topic: &str) {
        if let Some(known) = self.inner.routes.lock().get_mut(topic) {
            known.is_doubted = true;
        }
    }

    async fn ask_route(&self, topic: &str) -> Result<Arc<Route>, InvokeError> {
        let wanted = RouteRequest { topic, accept_standard_json_only: Some(true) };
        let fields = wanted.fields();
        let request = Request::new(RequestCode::GET_ROUTEINFO_BY_TOPIC, &fields);
        let response = self.ask_name_server(request).await?.success()?;
        let route = Arc::new(Route::new(TopicRouteData::decode(&response.body)?));
        let known = Known { route: Arc::clone(&route), at: Instant::now(), is_doubted: false };
        self.inner.routes.lock().insert(topic.to_owned(), known);
        Ok(route)
    }

    fn connection(&self, address: &str) -> Connection {
        let mut connections = self.inner.connections.lock();
        if let Some(connection) = connections.get(address)
            && connection.remote.closed().is_none()
        {
            return connection.clone();
        }
        let groups = Arc::clone(&self.inner.groups);
        let requests = move |header: &Header<'_>, frame: &Frame<'_>, out: &mut Outbox| {
            take_request(&groups, header, frame, out);
        };
        let (remote, session) = Remote::new(Box::new(requests));
        let connection = Connection { remote, introduced: Arc::default() };
        connections.insert(address.to_owned(), connection.clone());
        drop(connections);
        // Outside the lock: a connector may report its failure from within.
        self.inner.connector.connect(address, Box::new(session));
        connection
    }

    /// A connection on which the broker knows this client and its groups.
    ///
    /// # Errors
    /// When the broker does not take the heartbeat.
    pub(crate) async fn introduced(&self, address: &str) -> Result<Remote, InvokeError> {
        let connection = self.connection(address);
        if !connection.introduced.load(Ordering::Acquire) {
            self.introduce(&connection).await?;
        }
        Ok(connection.remote)
    }

    async fn introduce(&self, connection: &Connection) -> Result<(), InvokeError> {
        let body = self.inner.groups.heartbeat(&self.inner.id);
        let request = Request { code: RequestCode::HEART_BEAT, fields: &[], body };
        connection.remote.invoke(request, self.inner.options.deadline).await?.success()?;
        // Release, paired with Acquire: whoever sees the flag comes after the broker's answer.
        connection.introduced.store(true, Ordering::Release);
        Ok(())
    }

    /// Tells every broker in the routes that this client is alive, and which groups it belongs to.
    pub async fn heartbeat(&self) {
        for address in self.broker_addresses() {
            let connection = self.connection(&address);
            if let Err(error) = self.introduce(&connection).await {
                warn!(broker = address, %error, "heartbeat failed");
            }
        }
    }

    fn broker_addresses(&self) -> BTreeSet<String> {
        let routes = self.inner.routes.lock();
        let brokers = routes.values().flat_map(|known| known.route.brokers());
        brokers.flat_map(|broker| broker.broker_addrs.values().cloned()).collect()
    }

    pub(crate) fn join_as_producer(&self, group: &str) {
        self.inner.groups.add_producer(group);
        self.keep_alive();
    }

    pub(crate) fn join_as_consumer(&self, membership: Membership) {
        self.inner.groups.add_consumer(membership);
        self.keep_alive();
        for connection in self.inner.connections.lock().values() {
            // What the brokers were told is no longer all.
            connection.introduced.store(false, Ordering::Release);
        }
    }

    /// Leaves a group, and tells every broker.
    pub(crate) async fn leave(&self, member: Member<'_>) {
        let (producer_group, consumer_group) = match member {
            Member::Producer(group) => {
                self.inner.groups.remove_producer(group);
                (Some(group), None)
            }
            Member::Consumer(group) => {
                self.inner.groups.remove_consumer(group);
                (None, Some(group))
            }
        };
        let leaving = UnregisterClient { client_id: self.id(), producer_group, consumer_group };
        let fields = leaving.fields();
        for address in self.broker_addresses() {
            let connection = self.connection(&address);
            if connection.introduced.load(Ordering::Acquire) {
                let request = Request::new(RequestCode::UNREGISTER_CLIENT, &fields);
                if let Err(error) = connection.remote.invoke(request, self.inner.options.deadline).await {
                    debug!(broker = address, %error, "the broker was not told that this client leaves");
                }
            }
        }
    }

    /// Closes all connections. What is unanswered fails.
    pub fn close(&self) {
        if let Some(heartbeats) = self.inner.heartbeats.lock().take() {
            heartbeats.abort();
        }
        for (_, connection) in self.inner.connections.lock().drain() {
            connection.remote.close();
        }
    }

    /// Begins to send heartbeats, until the last clone of this client is gone.
    fn keep_alive(&self) {
        let mut heartbeats = self.inner.heartbeats.lock();
        if heartbeats.is_none() {
            let client = Arc::downgrade(&self.inner);
            *heartbeats = Some(tokio::spawn(send_heartbeats(client)).abort_handle());
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for connection in self.connections.lock().values() {
            connection.remote.close();
        }
    }
}

/// A membership that ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member<'a> {
    Producer(&'a str),
    Consumer(&'a str),
}

async fn send_heartbeats(client: Weak<Inner>) {
    let mut ticks = interval(HEARTBEAT_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = client.upgrade() else { return };
        if !inner.groups.is_empty() {
            Client { inner }.heartbeat().await;
        }
    }
}

fn take_request(groups: &Groups, header: &Header<'_>, frame: &Frame<'_>, out: &mut Outbox) {
    match header.request_code() {
        RequestCode::NOTIFY_CONSUMER_IDS_CHANGED => {
            if let Ok(changed) = ConsumerGroup::decode(header) {
                groups.members_changed(changed.consumer_group);
            }
        }
        _ => refuse(header, frame, out),
    }
}
