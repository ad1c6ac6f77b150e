use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frame::{Encoding, Frame};
use crate::transport::Mailbox;
use crate::{Outgoing, ReplyTo, ResponseCode};

/// Says what it is told to say, answers what it is asked, and keeps what it hears.
#[derive(Default)]
struct Talk {
    heard: Vec<(i32, bool, usize)>,
    closed: Vec<CloseReason>,
}

enum Mail {
    Ask(i32, usize),
    End,
    Ready(bool),
}

struct Talker {
    talk: Arc<Mutex<Talk>>,
    mailbox: Arc<Mailbox<Mail>>,
    ready: bool,
    mail: VecDeque<Mail>,
}

impl Session for Talker {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        assert!(self.ready);
        let header = frame.parse().unwrap();
        self.talk.lock().heard.push((header.opaque, header.is_response(), frame.body.len()));
        if !header.is_response() {
            let body = Bytes::copy_from_slice(frame.body);
            ReplyTo::from((&header, &frame)).respond(out, ResponseCode::SUCCESS, None, &[], body);
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.mailbox.take(cx, &mut self.mail);
        for mail in self.mail.drain(..) {
            match mail {
                Mail::Ask(opaque, bytes) => ask(out, opaque, bytes),
                Mail::Ready(ready) => self.ready = ready,
                Mail::End => return Err(CloseReason::Session("told to".into())),
            }
        }
        Ok(())
    }

    fn ready(&self) -> bool {
        self.ready
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.talk.lock().closed.push(reason.clone());
    }
}

fn ask(out: &mut Outbox, opaque: i32, bytes: usize) {
    let header = Outgoing { encoding: Encoding::Json, code: 1, opaque, flag: 0, remark: None, fields: &[] };
    header.write(bytes, out.buffer());
    out.push(Bytes::from(vec![b'b'; bytes]));
}

struct Handle {
    talk: Arc<Mutex<Talk>>,
    mailbox: Arc<Mailbox<Mail>>,
}

impl Handle {
    fn post(&self, mail: Mail) {
        self.mailbox.post(mail).unwrap();
    }

    fn heard(&self) -> Vec<(i32, bool, usize)> {
        self.talk.lock().heard.clone()
    }

    fn closed(&self) -> Vec<CloseReason> {
        self.talk.lock().closed.clone()
    }
}

fn talker() -> (Box<Talker>, Handle) {
    let (talk, mailbox) = (Arc::<Mutex<Talk>>::default(), Arc::new(Mailbox::new(1000)));
    let handle = Handle { talk: Arc::clone(&talk), mailbox: Arc::clone(&mailbox) };
    (Box::new(Talker { talk, mailbox, ready: true, mail: VecDeque::new() }), handle)
}

fn link() -> (Link, Handle, Handle) {
    let (server, server_handle) = talker();
    let (client, client_handle) = talker();
    (Link::new(server, client), server_handle, client_handle)
}

fn settle(link: &mut Link, bytes_max: usize) {
    let mut cx = Context::from_waker(Waker::noop());
    while link.step(Side::Server, bytes_max, &mut cx) | link.step(Side::Client, bytes_max, &mut cx) {}
}

proptest! {
    #[test]
    fn everything_arrives_in_order_in_pieces_of_any_size(
        asks in prop::collection::vec(0_usize..3000, 1..20),
        pieces in prop::collection::vec((any::<bool>(), 1_usize..700), 0..200),
    ) {
        let (mut link, server, client) = link();
        for (opaque, bytes) in (0..).zip(&asks) {
            client.post(Mail::Ask(opaque, *bytes));
        }
        let mut cx = Context::from_waker(Waker::noop());
        for (to_server, bytes) in pieces {
            link.step(if to_server { Side::Server } else { Side::Client }, bytes, &mut cx);
        }
        settle(&mut link, 64 << 10);
        let expected = |response| (0..).zip(&asks).map(|(n, bytes)| (n, response, *bytes)).collect::<Vec<_>>();
        prop_assert_eq!(server.heard(), expected(false));
        prop_assert_eq!(client.heard(), expected(true));
    }
}

#[test]
fn nothing_is_delivered_to_an_end_that_is_not_ready() {
    let (mut link, server, client) = link();
    server.post(Mail::Ready(false));
    client.post(Mail::Ask(1, 10));
    settle(&mut link, 1000);
    assert_eq!(server.heard(), []);
    assert!(link.under_way(Side::Server) > 0);
    server.post(Mail::Ready(true));
    settle(&mut link, 1000);
    assert_eq!(client.heard(), [(1, true, 10)]);
}

#[test]
fn who_is_not_heard_gets_no_further_frames() {
    let (link, server, client) = link();
    let mut link = link.outbox_bytes_max(5000);
    client.post(Mail::Ready(false));
    for opaque in 0..10 {
        client.post(Mail::Ask(opaque, 2000));
    }
    settle(&mut link, 1 << 20);
    assert_eq!(server.heard().len(), 3, "2, 4 and 6 thousand bytes unread");
    client.post(Mail::Ready(true));
    settle(&mut link, 1 << 20);
    assert_eq!(client.heard().len(), 10);
}

#[test]
fn an_end_that_closes_is_heard_out() {
    let (mut link, server, client) = link();
    client.post(Mail::Ask(1, 5));
    client.post(Mail::End);
    settle(&mut link, 10);
    assert!(link.is_closed());
    assert_eq!(server.heard(), [(1, false, 5)]);
    assert_eq!(server.closed(), [CloseReason::ByPeer]);
    assert_eq!(client.closed(), [CloseReason::Session("told to".into())]);
}

#[test]
fn a_cut_is_heard_once_by_both() {
    let (mut link, server, client) = link();
    client.post(Mail::Ask(1, 5));
    let mut cx = Context::from_waker(Waker::noop());
    link.step(Side::Server, 10, &mut cx);
    link.cut();
    assert!(!link.step(Side::Server, 1000, &mut cx));
    drop(link);
    for end in [server, client] {
        assert_eq!(end.heard(), []);
        assert!(matches!(end.closed()[..], [CloseReason::Transport(_)]), "{:?}", end.closed());
    }
}

#[test]
fn a_dropped_link_is_closed() {
    let (link, server, client) = link();
    drop(link);
    assert_eq!(
        (server.closed(), client.closed()),
        (vec![CloseReason::Shutdown], vec![CloseReason::Shutdown])
    );
}

/// Counts how often it is woken.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_driven_link_sleeps_until_a_session_has_something_to_say() {
    let (link, server, client) = link();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut driven = pin!(link.drive());
    assert!(driven.as_mut().poll(&mut cx).is_pending());
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    client.post(Mail::Ask(7, 100));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert!(driven.as_mut().poll(&mut cx).is_pending());
    assert_eq!(client.heard(), [(7, true, 100)]);
    server.post(Mail::End);
    assert!(driven.as_mut().poll(&mut cx).is_ready());
    assert_eq!(client.closed(), [CloseReason::ByPeer]);
}

#[test]
fn a_network_finds_services_by_address() {
    struct Greeter(Mutex<Vec<Peer>>);
    impl Service for Greeter {
        fn accept(&self, peer: Peer) -> Box<dyn Session> {
            self.0.lock().push(peer);
            talker().0
        }
    }
    let links = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&links);
    let network = MemoryNetwork::new(move |address, link| kept.lock().push((address.to_owned(), link)));
    let service = Arc::new(Greeter(Mutex::default()));
    network.bind("broker:10911", Listener::Broker, Arc::clone(&service) as Arc<dyn Service>);

    let (session, lost) = talker();
    network.connect("elsewhere:1", session);
    assert!(matches!(lost.closed()[..], [CloseReason::Transport(_)]));

    let (session, client) = talker();
    network.connect("broker:10911", session);
    let (address, mut link) = links.lock().pop().unwrap();
    assert_eq!((address.as_str(), service.0.lock()[0].listener), ("broker:10911", Listener::Broker));
    client.post(Mail::Ask(1, 1));
    settle(&mut link, 1000);
    assert_eq!(client.heard(), [(1, true, 1)]);
    network.unbind("broker:10911");
    let (session, refused) = talker();
    network.connect("broker:10911", session);
    assert_eq!(refused.closed().len(), 1);
}
