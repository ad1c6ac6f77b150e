use std::task::Waker;
use std::time::Duration;

use skylark_protocol::command::register::RegisterBrokerBody;
use skylark_protocol::frame::{self, FRAME_BYTES_MAX};
use skylark_protocol::transport::Listener;
use skylark_protocol::{Encoding, Outgoing, RequestCode, ResponseCode};

use super::*;
use crate::{JournalError, KvChange, KvJournal, KvTables, Recorded};

struct Connected {
    session: Box<dyn Session>,
    out: Outbox,
}

fn service() -> (Arc<NameServer>, NameServerService) {
    let server = Arc::new(NameServer::new([]));
    (server.clone(), NameServerService::new(server, Arc::new(|| Duration::ZERO)))
}

fn connect(service: &NameServerService) -> Connected {
    let address = "127.0.0.1:40000".parse().unwrap();
    let peer = Peer { listener: Listener::NameServer, address, identity: None };
    Connected { session: service.accept(peer), out: Outbox::default() }
}

impl Connected {
    fn send(
        &mut self,
        encoding: Encoding,
        code: RequestCode,
        flag: i32,
        fields: &[(&str, Value<'_>)],
        body: &[u8],
    ) {
        let mut wire = bytes::BytesMut::new();
        Outgoing { encoding, code: code.0, opaque: 7, flag, remark: None, fields }
            .write(body.len(), &mut wire);
        wire.extend_from_slice(body);
        let (frame, _) = frame::decode(&wire, FRAME_BYTES_MAX).unwrap().unwrap();
        self.session.receive(frame, &mut self.out).unwrap();
    }

    fn register(&mut self) {
        let fields = [
            ("brokerName", "broker-a".into()),
            ("clusterName", "c".into()),
            ("brokerId", 0.into()),
            ("brokerAddr", "10.0.0.1:10911".into()),
            ("haServerAddr", "10.0.0.1:10912".into()),
        ];
        let mut body = RegisterBrokerBody::default();
        for topic in ["A", "B"] {
            body.topics.topic_config_table.insert(topic.to_owned(), Default::default());
        }
        self.send(Encoding::Json, RequestCode::REGISTER_BROKER, 0, &fields, &body.encode());
        assert_eq!(self.answer(), Some((ResponseCode::SUCCESS, Encoding::Json)));
    }

    /// The oldest answer, which has to be to the request above.
    fn answer(&mut self) -> Option<(ResponseCode, Encoding)> {
        let mut slices = [std::io::IoSlice::new(&[])];
        self.out.slices(&mut slices);
        let wire = slices[0].to_vec();
        let (frame, bytes) = frame::decode(&wire, FRAME_BYTES_MAX).unwrap()?;
        let header = frame.parse().unwrap();
        assert!(header.is_response() && header.opaque == 7);
        let answer = (header.response_code(), frame.encoding);
        self.out.advance(bytes);
        Some(answer)
    }

    fn poll(&mut self) -> Result<(), CloseReason> {
        self.session.poll(&mut Context::from_waker(Waker::noop()), &mut self.out)
    }
}

fn knows_a_route(service: &NameServerService) -> bool {
    let mut client = connect(service);
    client.send(Encoding::Json, RequestCode::GET_ROUTEINFO_BY_TOPIC, 0, &[("topic", "A".into())], b"");
    client.answer().unwrap().0 == ResponseCode::SUCCESS
}

#[test]
fn a_dropped_connection_takes_its_broker_s_routes_along() {
    let (_, service) = service();
    let mut broker = connect(&service);
    broker.register();
    assert!(knows_a_route(&service));
    broker.session.closed(&CloseReason::ByPeer);
    assert!(!knows_a_route(&service));
}

#[test]
fn a_broker_that_came_back_outlives_its_old_connection() {
    let (_, service) = service();
    let (mut old, mut new) = (connect(&service), connect(&service));
    old.register();
    new.register();
    old.session.closed(&CloseReason::Idle);
    assert!(knows_a_route(&service));
    new.session.closed(&CloseReason::Idle);
    assert!(!knows_a_route(&service));
}

#[test]
fn the_connection_of_a_silent_broker_is_ended() {
    let (server, service) = service();
    let mut broker = connect(&service);
    broker.register();
    assert_eq!(broker.poll(), Ok(()));
    assert_eq!(server.tick(Duration::from_secs(121)).len(), 1);
    assert!(!knows_a_route(&service));
    let reason = "broker 10.0.0.1:10911 gave no sign of life".to_owned();
    assert_eq!(broker.poll(), Err(CloseReason::Session(reason)));
}

#[test]
fn answers_are_in_the_encoding_of_the_request() {
    let (_, service) = service();
    let mut client = connect(&service);
    for encoding in [Encoding::Json, Encoding::Binary] {
        client.send(encoding, RequestCode(9999), 0, &[], b"");
        assert_eq!(client.answer(), Some((ResponseCode::REQUEST_CODE_NOT_SUPPORTED, encoding)));
    }
    // One-way requests and responses are not answered.
    for flag in [1, 2, 3] {
        client.send(Encoding::Json, RequestCode(9999), flag, &[], b"");
        assert_eq!(client.answer(), None);
    }
}

#[test]
fn a_header_that_cannot_be_read_ends_the_connection() {
    let (_, service) = service();
    let mut client = connect(&service);
    let frame = Frame { encoding: Encoding::Json, header: b"{", body: b"" };
    let closed = client.session.receive(frame, &mut client.out);
    assert!(matches!(closed, Err(CloseReason::Malformed(_))), "{closed:?}");
}

#[test]
fn a_change_is_answered_when_its_journal_says_so() {
    struct Slow(std::sync::mpsc::Receiver<Pending>);

    impl KvJournal for Slow {
        fn record(&mut self, _: &KvChange) -> Result<Recorded, JournalError> {
            Ok(Recorded::Later(self.0.recv().unwrap()))
        }
    }

    let (server, service) = service();
    let (pending, taken) = std::sync::mpsc::channel::<Pending>();
    server.set_journal(Box::new(Slow(taken)));
    let applied = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut client = connect(&service);
    let put = [("namespace", "n".into()), ("key", "k".into()), ("value", "v".into())];

    let (watched, hosting) = (applied.clone(), server.clone());
    let change = KvChange::Put { namespace: "n".to_owned(), key: "k".to_owned(), value: "v".to_owned() };
    let done = std::future::poll_fn(move |_| {
        if !watched.load(std::sync::atomic::Ordering::Relaxed) {
            return Poll::Pending;
        }
        hosting.apply_kv(&change);
        Poll::Ready(Ok(()))
    });
    pending.send(Box::pin(done)).unwrap();
    client.send(Encoding::Json, RequestCode::PUT_KV_CONFIG, 0, &put, b"");
    assert_eq!(client.poll(), Ok(()));
    assert_eq!((client.answer(), server.kv()), (None, KvTables::default()));
    applied.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(client.poll(), Ok(()));
    assert_eq!(client.answer(), Some((ResponseCode::SUCCESS, Encoding::Json)));
    assert_eq!(server.kv().get("n", "k"), Some("v"));

    let lost = JournalError::Unknown { reason: "the log is closed".to_owned() };
    pending.send(Box::pin(std::future::ready(Err(lost)))).unwrap();
    client.send(Encoding::Json, RequestCode::DELETE_KV_CONFIG, 0, &put, b"");
    assert_eq!(client.poll(), Ok(()));
    assert_eq!(client.answer(), Some((ResponseCode::SYSTEM_ERROR, Encoding::Json)));

    for _ in 0..HELD_MAX {
        assert!(client.session.ready());
        pending.send(Box::pin(std::future::pending())).unwrap();
        client.send(Encoding::Json, RequestCode::PUT_KV_CONFIG, 0, &put, b"");
    }
    assert!(!client.session.ready());
}
