//! The registrar: tells the nameservers which topics this broker has.
//!
//! One connection per nameserver, kept open: a nameserver drops a broker's routes when its connection closes. A
//! registration goes out when the connection opens, when a topic has changed, and every 30 seconds. Built-in and
//! remote nameservers are told the same way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::command::register::{BrokerIdentity, RegisterBroker, RegisterBrokerBody};
use skylark_protocol::frame::{Encoding, Frame};
use skylark_protocol::message::body_crc;
use skylark_protocol::outgoing::{Outgoing, Value};
use skylark_protocol::transport::{CloseReason, Connector, Mailbox, Outbox, Session};
use skylark_storage::{PhysicalOffset, Registration};
use tracing::{debug, warn};

use crate::broker::Broker;
use crate::handlers::topics::table;

/// A registration is repeated after this long, so that a nameserver notices what it has missed.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// A nameserver that has not answered for this long is connected to anew.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long to wait before connecting again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps nameservers informed, until it is dropped.
pub struct Registrar {
    broker: Arc<Broker>,
    connector: Arc<dyn Connector>,
    servers: Vec<Arc<Server>>,
    publishing: Mutex<()>,
}

/// A nameserver, as the registrar knows it.
struct Server {
    address: String,
    mailbox: Mutex<Arc<Mailbox<Order>>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No connection; the next attempt is due at this time.
    Away { retry_at: Duration },
    /// Connected, or about to be; nothing answered yet.
    Asked { since: Duration },
    /// It knows all topics put before this position; `asked` is when it was told more and has not answered yet.
    Knows { until: PhysicalOffset, since: Duration, asked: Option<Duration> },
    /// The broker is leaving.
    Left,
}

/// What a session is told to do.
enum Order {
    Register,
    Unregister,
    Close,
}

impl Registrar {
    /// A registrar for nameservers at these addresses; the first [`Registrar::tick`] connects to them.
    pub fn new(broker: Arc<Broker>, connector: Arc<dyn Connector>, addresses: Vec<String>) -> Arc<Self> {
        let servers = addresses.into_iter().map(|address| {
            Arc::new(Server {
                address,
                mailbox: Mutex::new(Arc::new(Mailbox::new(16))),
                state: Mutex::new(State::Away { retry_at: Duration::ZERO }),
            })
        });
        Arc::new(Self { broker, connector, servers: servers.collect(), publishing: Mutex::new(()) })
    }

    /// Connects where there is no connection, repeats what is due, and publishes how much the nameservers know.
    pub fn tick(self: &Arc<Self>) {
        let now = self.broker.clock.monotonic();
        for server in &self.servers {
            let state = *server.state.lock();
            match state {
                State::Away { retry_at } if retry_at <= now => self.connect(server, now),
                State::Asked { since } if now.saturating_sub(since) > ANSWER_MAX => {
                    server.order(Order::Close)
                }
                State::Knows { since, .. } if now.saturating_sub(since) > INTERVAL => {
                    server.order(Order::Register)
                }
                _ => {}
            }
        }
        self.publish();
    }

    /// Waits until a nameserver knows this broker; says whether one does.
    pub async fn first_registration(&self, within: Duration) -> bool {
        let known = async {
            while !self.servers.iter().any(|server| matches!(*server.state.lock(), State::Knows { .. })) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(within, known).await.is_ok()
    }

    /// Tells the nameservers that this broker is leaving.
    pub async fn unregister(&self) {
        for server in &self.servers {
            server.order(Order::Unregister);
        }
        let left = async {
            while self.servers.iter().any(|server| matches!(*server.state.lock(), State::Knows { .. })) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // A nameserver that does not answer notices the closed connection.
        tokio::time::timeout(Duration::from_secs(1), left).await.ok();
    }

    fn connect(self: &Arc<Self>, server: &Arc<Server>, now: Duration) {
        let mailbox = Arc::new(Mailbox::new(16));
        *server.mailbox.lock() = Arc::clone(&mailbox);
        *server.state.lock() = State::Asked { since: now };
        let session = RegistrarSession {
            registrar: Arc::clone(self),
            server: Arc::clone(server),
            mailbox,
            orders: VecDeque::from([Order::Register]),
            changed: Registration::default(),
            opaque: 0,
            asked: None,
            leaving: None,
        };
        self.connector.connect(&server.address, Box::new(session));
    }

    /// What every nameserver knows that can be reached; all of it when none can.
    fn publish(&self) {
        let reached = self.servers.iter().filter_map(|server| match *server.state.lock() {
            State::Away { .. } | State::Left => None,
            State::Asked { .. } => Some(PhysicalOffset::ZERO),
            State::Knows { until, .. } => Some(until),
        });
        let known = reached.min().unwrap_or_else(|| self.broker.applied.get());
        let _one_at_a_time = self.publishing.lock();
        if known > self.broker.registered.get() {
            self.broker.registered.publish(known);
        }
    }
}

impl Server {
    fn order(&self, order: Order) {
        let mailbox = Arc::clone(&self.mailbox.lock());
        // A full mailbox has the same order in it already; a closed one belongs to a connection that is gone.
        mailbox.post(order).ok();
    }
}

/// This broker's end of a connection to a nameserver.
struct RegistrarSession {
    registrar: Arc<Registrar>,
    server: Arc<Server>,
    mailbox: Arc<Mailbox<Order>>,
    orders: VecDeque<Order>,
    changed: Registration,
    opaque: i32,
    /// The registration under way: its number, and what the nameserver will know.
    asked: Option<(i32, PhysicalOffset)>,
    leaving: Option<i32>,
}

impl RegistrarSession {
    fn register(&mut self, out: &mut Outbox) {
        let broker = &self.registrar.broker;
        // What is applied now is in the catalog that is read next.
        let until = broker.applied.get();
        let topics = table(&broker.catalog.read());
        let body = RegisterBrokerBody { filter_server_list: Vec::new(), topics }.encode();
        let identity = &broker.identity;
        let ha_address = identity.ha_address();
        let request = RegisterBroker {
            broker_name: &identity.broker,
            broker_addr: &identity.address,
            cluster_name: &identity.cluster,
            ha_server_addr: &ha_address,
            broker_id: 0,
            heartbeat_timeout_ms: None,
            enable_acting_master: Some(false),
            compressed: false,
            body_crc32: i32::try_from(body_crc(&body)).ok(),
            zone_name: None,
        };
        let opaque = write(RequestCode::REGISTER_BROKER, &mut self.opaque, &request.fields(), body, out);
        self.asked = Some((opaque, until));
        if let State::Knows { asked, .. } = &mut *self.server.state.lock() {
            *asked = Some(self.registrar.broker.clock.monotonic());
        }
    }

    fn unregister(&mut self, out: &mut Outbox) {
        let identity = &self.registrar.broker.identity;
        let request = BrokerIdentity {
            broker_name: &identity.broker,
            broker_addr: &identity.address,
            cluster_name: &identity.cluster,
            broker_id: 0,
        };
        let fields = request.fields();
        self.leaving =
            Some(write(RequestCode::UNREGISTER_BROKER, &mut self.opaque, &fields, Vec::new(), out));
    }
}

/// Writes a request under the next number, which it returns.
fn write(
    code: RequestCode,
    next_opaque: &mut i32,
    fields: &[(&str, Value<'_>)],
    body: Vec<u8>,
    out: &mut Outbox,
) -> i32 {
    let opaque = *next_opaque;
    *next_opaque = opaque.wrapping_add(1);
    let request = Outgoing { encoding: Encoding::Json, code: code.0, opaque, flag: 0, remark: None, fields };
    request.write(body.len(), out.buffer());
    out.push(body.into());
    opaque
}

impl Session for RegistrarSession {
    fn receive(&mut self, frame: Frame<'_>, _out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().map_err(|error| CloseReason::Malformed(error.to_string()))?;
        if !header.is_response() {
            return Ok(());
        }
        if self.leaving == Some(header.opaque) {
            *self.server.state.lock() = State::Left;
            return Err(CloseReason::Shutdown);
        }
        let Some((_, until)) = self.asked.take_if(|(opaque, _)| *opaque == header.opaque) else {
            return Ok(());
        };
        if header.response_code() != ResponseCode::SUCCESS {
            let remark = header.remark.as_deref().unwrap_or_default();
            warn!(nameserver = self.server.address, code = header.code, remark, "registration refused");
            return Err(CloseReason::Session("registration refused".to_owned()));
        }
        debug!(nameserver = self.server.address, until = until.get(), "registered");
        let since = self.registrar.broker.clock.monotonic();
        *self.server.state.lock() = State::Knows { until, since, asked: None };
        self.registrar.publish();
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.mailbox.take(cx, &mut self.orders);
        while let Some(order) = self.orders.pop_front() {
            match order {
                Order::Register if self.asked.is_none() => self.register(out),
                Order::Register => {}
                Order::Unregister => self.unregister(out),
                Order::Close => return Err(CloseReason::Session("no answer in time".to_owned())),
            }
        }
        // One registration at a time: what changes meanwhile is in the next.
        if self.asked.is_none() && self.leaving.is_none() {
            let State::Knows { until, .. } = *self.server.state.lock() else { return Ok(()) };
            let broker = Arc::clone(&self.registrar.broker);
            if let Poll::Ready(Ok(())) =
                broker.topics_changed.wait(&mut self.changed, until.advance(1), cx.waker())
            {
                self.register(out);
            }
        }
        Ok(())
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.mailbox.close();
        let mut state = self.server.state.lock();
        if *state != State::Left {
            debug!(nameserver = self.server.address, %reason, "nameserver lost");
            *state = State::Away { retry_at: self.registrar.broker.clock.monotonic() + RETRY };
        }
        drop(state);
        self.registrar.publish();
    }
}
