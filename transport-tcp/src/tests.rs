//! The transport over real sockets on loopback.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Context;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use skylark_protocol::frame::{self, Encoding, Frame};
use skylark_protocol::transport::{Mailbox, Outbox, Peer};
use skylark_protocol::{Outgoing, ReplyTo, ResponseCode, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;

mod memory;

/// Request codes of the session under test.
const ECHO: i32 = 1;
/// Answered when mail comes.
const HELD: i32 = 2;
/// Answered with as many bytes as the body is long, a thousandfold.
const LONG: i32 = 3;
const PANIC: i32 = 4;
/// Makes the session not ready until mail comes.
const NOT_READY: i32 = 5;
/// Ends the connection.
const END: i32 = 6;

/// What all sessions of a test's server share.
struct Server {
    closed: mpsc::UnboundedSender<CloseReason>,
    /// One for each connection, in the order they were accepted.
    mailboxes: Mutex<Vec<Arc<Mailbox<Mail>>>>,
    received: AtomicUsize,
    outbox_bytes_max: AtomicUsize,
    received_by: mpsc::UnboundedSender<i32>,
}

enum Mail {
    /// Ask the client something.
    Ask(i32),
    /// Answer what is held, the newest first, and be ready.
    Release,
}

struct TestSession {
    server: Arc<Server>,
    mailbox: Arc<Mailbox<Mail>>,
    held: Vec<ReplyTo>,
    ready: bool,
    mail: VecDeque<Mail>,
}

struct Accepting(Arc<Server>);

impl Service for Accepting {
    fn accept(&self, peer: Peer) -> Box<dyn Session> {
        assert!(peer.address.is_ipv4(), "{peer:?}");
        let mailbox = Arc::new(Mailbox::new(100));
        self.0.mailboxes.lock().push(Arc::clone(&mailbox));
        Box::new(TestSession {
            server: Arc::clone(&self.0),
            mailbox,
            held: Vec::new(),
            ready: true,
            mail: VecDeque::new(),
        })
    }
}

impl Session for TestSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        assert!(self.ready, "no frame while not ready");
        let header = frame.parse().unwrap();
        let reply = ReplyTo::from((&header, &frame));
        self.server.received.fetch_add(1, Ordering::SeqCst);
        match header.code {
            HELD => self.held.push(reply),
            LONG => answer(out, &reply, Bytes::from(vec![b'l'; frame.body.len() * 1000])),
            PANIC => panic!("asked to"),
            NOT_READY => self.ready = false,
            END => {
                answer(out, &reply, Bytes::new());
                return Err(CloseReason::Session("asked to".into()));
            }
            _ => answer(out, &reply, Bytes::copy_from_slice(frame.body)),
        }
        self.server.outbox_bytes_max.fetch_max(out.len(), Ordering::SeqCst);
        self.server.received_by.send(header.opaque).unwrap();
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.mailbox.take(cx, &mut self.mail);
        for mail in self.mail.drain(..) {
            match mail {
                Mail::Ask(opaque) => out.buffer().extend_from_slice(&request(ECHO, opaque, b"")),
                Mail::Release => {
                    self.ready = true;
                    while let Some(reply) = self.held.pop() {
                        answer(out, &reply, Bytes::from_static(b"released"));
                    }
                }
            }
        }
        Ok(())
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.server.closed.send(reason.clone()).unwrap();
    }
}

fn answer(out: &mut Outbox, reply: &ReplyTo, body: Bytes) {
    reply.respond(out, ResponseCode::SUCCESS, None, &[("field", Value::Text("value"))], body);
}

fn request(code: i32, opaque: i32, body: &[u8]) -> Vec<u8> {
    request_with_flag(code, opaque, 0, body)
}

fn request_with_flag(code: i32, opaque: i32, flag: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let header = Outgoing { encoding: Encoding::Json, code, opaque, flag, remark: None, fields: &[] };
    header.write(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes.to_vec()
}

struct Setup {
    transport: TcpTransport,
    listening: Listening,
    server: Arc<Server>,
    closed: mpsc::UnboundedReceiver<CloseReason>,
    received: mpsc::UnboundedReceiver<i32>,
}

impl Setup {
    fn new(limits: Limits) -> Self {
        let (closed_tx, closed) = mpsc::unbounded_channel();
        let (received_by, received) = mpsc::unbounded_channel();
        let server = Arc::new(Server {
            closed: closed_tx,
            mailboxes: Mutex::default(),
            received: AtomicUsize::new(0),
            outbox_bytes_max: AtomicUsize::new(0),
            received_by,
        });
        let transport = TcpTransport::new(limits, Handle::current());
        let service = Arc::new(Accepting(Arc::clone(&server)));
        let listening = transport.listen(([127, 0, 0, 1], 0).into(), Listener::Broker, service).unwrap();
        Self { transport, listening, server, closed, received }
    }

    async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.listening.local_addr()).await.unwrap();
        Client { stream, buffer: Vec::new() }
    }

    /// Leaves mail for the first connection's session.
    fn post(&self, mail: Mail) {
        self.server.mailboxes.lock()[0].post(mail).unwrap();
    }

    async fn next_closed(&mut self) -> CloseReason {
        self.closed.recv().await.expect("the server is there")
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame's code, opaque and body; None at the end of the stream.
    async fn next(&mut self) -> Option<(i32, i32, Vec<u8>)> {
        loop {
            if let Some((frame, bytes)) = frame::decode(&self.buffer, usize::MAX).unwrap() {
                let header = frame.parse().unwrap();
                let next = (header.code, header.opaque, frame.body.to_vec());
                drop(header);
                self.buffer.drain(..bytes);
                return Some(next);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn next_opaque(&mut self) -> Option<i32> {
        self.next().await.map(|(_, opaque, _)| opaque)
    }

    /// Asks and is answered: the connection, and so the server, goes on as if nothing had happened.
    async fn assert_served(&mut self) {
        self.send(&request(ECHO, 4711, b"innocent")).await;
        assert_eq!(self.next().await, Some((0, 4711, b"innocent".to_vec())));
    }
}

fn malformed(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Malformed(_))
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    let bodies: Vec<_> = (0..200).map(|n| vec![b'x'; n * 37]).collect();
    let bytes: Vec<u8> = (0..).zip(&bodies).flat_map(|(n, body)| request(ECHO, n, body)).collect();
    let (mut read, mut write) = client.stream.split();
    let writing = async {
        for piece in bytes.chunks(1009) {
            write.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut buffer = Vec::new();
        for (opaque, body) in (0..).zip(&bodies) {
            let bytes = loop {
                if let Some((frame, bytes)) = frame::decode(&buffer, usize::MAX).unwrap() {
                    assert_eq!((frame.parse().unwrap().opaque, frame.body), (opaque, &body[..]));
                    break bytes;
                }
                read.read_buf(&mut buffer).await.unwrap();
            };
            buffer.drain(..bytes);
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn answers_overtake_each_other() {
    let setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.send(&[request(HELD, 1, b""), request(HELD, 2, b""), request(ECHO, 3, b"")].concat()).await;
    assert_eq!(client.next_opaque().await, Some(3));
    setup.post(Mail::Release);
    assert_eq!(client.next_opaque().await, Some(2));
    assert_eq!(client.next_opaque().await, Some(1));
}

#[tokio::test]
async fn one_way_requests_are_not_answered() {
    let setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.send(&[request_with_flag(ECHO, 1, 2, b"quiet"), request(ECHO, 2, b"")].concat()).await;
    assert_eq!(client.next_opaque().await, Some(2));
    assert_eq!(setup.server.received.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_server_asks_the_client() {
    let setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.assert_served().await;
    setup.post(Mail::Ask(77));
    assert_eq!(client.next().await, Some((ECHO, 77, Vec::new())));
}

#[tokio::test]
async fn frames_wait_while_the_session_is_not_ready() {
    let mut setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.send(&[request(NOT_READY, 1, b""), request(ECHO, 2, b"")].concat()).await;
    assert_eq!(setup.received.recv().await, Some(1));
    // Another connection's round trip: the first one's task has had its turn.
    setup.client().await.assert_served().await;
    assert_eq!(setup.received.recv().await, Some(4711));
    assert!(setup.received.try_recv().is_err());
    setup.post(Mail::Release);
    assert_eq!(client.next_opaque().await, Some(2));
}

#[tokio::test]
async fn a_slow_reader_is_throttled_and_gets_everything_once_it_reads() {
    let limits = Limits { connection_bytes_max: 1 << 20, ..Limits::default() };
    let setup = Setup::new(limits);
    let mut client = setup.client().await;
    const ANSWERS: i32 = 200;
    let (mut read, mut write) = client.stream.split();
    let requests: Vec<u8> = (0..ANSWERS).flat_map(|n| request(LONG, n, &[b'b'; 500])).collect();
    write.write_all(&requests).await.unwrap();
    let received = || setup.server.received.load(Ordering::SeqCst);
    // The server has taken what it may once it answers others and takes nothing more in the meantime.
    let mut before = usize::MAX;
    while before != received() {
        before = received();
        for _ in 0..20 {
            setup.client().await.assert_served().await;
        }
        before += 20;
    }
    let mut buffer = Vec::with_capacity(1 << 20);
    for opaque in 0..ANSWERS {
        let bytes = loop {
            if let Some((frame, bytes)) = frame::decode(&buffer, usize::MAX).unwrap() {
                assert_eq!((frame.parse().unwrap().opaque, frame.body.len()), (opaque, 500_000));
                break bytes;
            }
            read.read_buf(&mut buffer).await.unwrap();
        };
        buffer.drain(..bytes);
    }
    let outbox_bytes_max = setup.server.outbox_bytes_max.load(Ordering::SeqCst);
    assert!(outbox_bytes_max < (1 << 20) + 600_000, "{outbox_bytes_max}");
}

#[tokio::test(start_paused = true)]
async fn who_never_reads_loses_the_connection() {
    let mut setup = Setup::new(Limits { connection_bytes_max: 1 << 20, ..Limits::default() });
    let mut client = setup.client().await;
    let requests: Vec<u8> = (0..100).flat_map(|n| request(LONG, n, &[b'b'; 1000])).collect();
    client.send(&requests).await;
    assert_eq!(setup.next_closed().await, CloseReason::SlowReader);
    assert_eq!(setup.transport.bytes_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_a_frame_loses_the_connection() {
    let mut setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.assert_served().await;
    let begun = tokio::time::Instant::now();
    client.send(&request(ECHO, 1, b"body")[..20]).await;
    assert_eq!(setup.next_closed().await, CloseReason::SlowFrame);
    let took = begun.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(40)).contains(&took), "{took:?}");
    assert_eq!(client.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let mut setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.assert_served().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(setup.next_closed().await, CloseReason::Idle);
    let took = begun.elapsed();
    assert!((Duration::from_secs(119)..Duration::from_secs(125)).contains(&took), "{took:?}");
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn malformed_bytes_end_their_own_connection_and_no_other() {
    let mut setup = Setup::new(Limits { frame_bytes_max: 1000, ..Limits::default() });
    let mut innocent = setup.client().await;
    innocent.assert_served().await;
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0, 0, 0, 3],
        &[0xFF; 64],
        &[0, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3, 4],
        &request(ECHO, 1, &[b'x'; 1000]),
    ];
    for case in cases {
        let mut client = setup.client().await;
        client.send(&[&request(ECHO, 1, b"sound"), case].concat()).await;
        assert_eq!(client.next().await, Some((0, 1, b"sound".to_vec())), "{case:?}");
        assert_eq!(client.next().await, None, "{case:?}");
        drop(client);
        let reason = setup.next_closed().await;
        assert!(malformed(&reason), "{case:?}: {reason:?}");
        innocent.assert_served().await;
    }
}

#[tokio::test]
async fn a_session_that_ends_is_heard_out() {
    let mut setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.send(&[request(END, 1, b""), vec![0; 100_000]].concat()).await;
    assert_eq!(client.next_opaque().await, Some(1));
    assert_eq!(client.next_opaque().await, None);
    drop(client);
    assert_eq!(setup.next_closed().await, CloseReason::Session("asked to".into()));
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_and_no_other() {
    let mut setup = Setup::new(Limits::default());
    let mut innocent = setup.client().await;
    innocent.assert_served().await;
    let mut client = setup.client().await;
    client.send(&request(PANIC, 1, b"")).await;
    assert_eq!(client.next().await, None);
    assert_eq!(setup.next_closed().await, CloseReason::Session("the session panicked".into()));
    innocent.assert_served().await;
}

#[tokio::test]
async fn the_peer_closes() {
    let mut setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    client.assert_served().await;
    drop(client);
    assert_eq!(setup.next_closed().await, CloseReason::ByPeer);
}

#[tokio::test]
async fn shutdown_writes_what_is_ready_and_waits_for_every_connection() {
    let mut setup = Setup::new(Limits::default());
    let address = setup.listening.local_addr();
    let mut client = setup.client().await;
    client.send(&request(HELD, 1, b"")).await;
    assert_eq!(setup.received.recv().await, Some(1));
    setup.post(Mail::Release);
    let shutdown = tokio::spawn(setup.listening.shutdown(Duration::from_secs(10)));
    assert_eq!(client.next().await, Some((0, 1, b"released".to_vec())));
    assert_eq!(client.next().await, None);
    drop(client);
    shutdown.await.unwrap();
    assert_eq!(setup.closed.try_recv(), Ok(CloseReason::Shutdown));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_ever_for_who_does_not_read() {
    let mut setup = Setup::new(Limits::default());
    let mut client = setup.client().await;
    let requests: Vec<u8> = (0..50).flat_map(|n| request(LONG, n, &[b'b'; 1000])).collect();
    client.send(&requests).await;
    assert_eq!(setup.received.recv().await, Some(0));
    let begun = tokio::time::Instant::now();
    setup.listening.shutdown(Duration::from_secs(3)).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(setup.closed.try_recv(), Ok(CloseReason::Shutdown));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let setup = Setup::new(Limits { connections_max: 1, ..Limits::default() });
    let mut first = setup.client().await;
    first.assert_served().await;
    assert_eq!(setup.client().await.next().await, None);
    first.assert_served().await;
}

/// Asks once and reports what comes.
struct Asker {
    asked: bool,
    answered: Arc<AtomicBool>,
    closed: Arc<Mutex<Option<CloseReason>>>,
    done: mpsc::UnboundedSender<()>,
}

impl Session for Asker {
    fn receive(&mut self, frame: Frame<'_>, _out: &mut Outbox) -> Result<(), CloseReason> {
        assert_eq!(frame.body, b"ping");
        self.answered.store(true, Ordering::SeqCst);
        Err(CloseReason::Session("done".into()))
    }

    fn poll(&mut self, _cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        if !std::mem::replace(&mut self.asked, true) {
            out.buffer().extend_from_slice(&request(ECHO, 1, b"ping"));
        }
        Ok(())
    }

    fn closed(&mut self, reason: &CloseReason) {
        assert!(self.closed.lock().replace(reason.clone()).is_none(), "closed twice");
        self.done.send(()).unwrap();
    }
}

#[tokio::test]
async fn a_connector_drives_the_client_end_and_tells_when_it_cannot() {
    let setup = Setup::new(Limits::default());
    let address = setup.listening.local_addr().to_string();
    for reachable in [true, false] {
        let (done, mut finished) = mpsc::unbounded_channel();
        let (answered, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let session =
            Asker { asked: false, answered: Arc::clone(&answered), closed: Arc::clone(&closed), done };
        let address = if reachable { &address } else { "127.0.0.1:1" };
        setup.transport.connect(address, Box::new(session));
        finished.recv().await.unwrap();
        assert_eq!(answered.load(Ordering::SeqCst), reachable);
        let reason = closed.lock().take();
        assert_eq!(matches!(reason, Some(CloseReason::Session(_))), reachable, "{reason:?}");
    }
}
