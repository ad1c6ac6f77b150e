use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};

use skylark_protocol::memory::{Link, Side};

use super::*;

/// Answers in the opposite order, as soon as `after` requests are there.
struct Backwards {
    after: usize,
    asked: Vec<ReplyTo>,
}

impl Session for Backwards {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().unwrap();
        if header.is_oneway() {
            return Ok(());
        }
        self.asked.push(ReplyTo::from((&header, &frame)));
        if self.asked.len() == self.after {
            while let Some(reply) = self.asked.pop() {
                let opaque = i64::from(reply.opaque);
                reply.respond(
                    out,
                    ResponseCode::SUCCESS,
                    Some("done"),
                    &[("opaque", opaque.into())],
                    Bytes::new(),
                );
            }
        }
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Context<'_>, _out: &mut Outbox) -> Result<(), CloseReason> {
        Ok(())
    }

    fn closed(&mut self, _reason: &CloseReason) {}
}

fn connect(after: usize) -> (Remote, Link) {
    let (remote, session) = Remote::new(Box::new(refuse));
    (remote, Link::new(Box::new(Backwards { after, asked: Vec::new() }), Box::new(session)))
}

fn settle(link: &mut Link) {
    let mut cx = Context::from_waker(Waker::noop());
    while link.step(Side::Server, 1000, &mut cx) | link.step(Side::Client, 1000, &mut cx) {}
}

type Invoking<'a> = Pin<Box<dyn Future<Output = Result<Response, InvokeError>> + 'a>>;

fn ask(remote: &Remote) -> Invoking<'_> {
    let request = Request::new(RequestCode(1), &[]);
    let mut asking: Invoking<'_> = Box::pin(remote.invoke(request, Duration::from_secs(3)));
    assert!(poll(&mut asking).is_pending());
    asking
}

fn poll(asking: &mut Invoking<'_>) -> Poll<Result<Response, InvokeError>> {
    // Without tokio's budget, which would interrupt a test that polls thousands of requests in one go.
    pin!(tokio::task::unconstrained(asking)).poll(&mut Context::from_waker(Waker::noop()))
}

fn answer(mut asking: Invoking<'_>) -> Result<Response, InvokeError> {
    match poll(&mut asking) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("not answered"),
    }
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (remote, mut link) = connect(3);
    let asked: Vec<_> = (0..3).map(|_| ask(&remote)).collect();
    settle(&mut link);
    for (opaque, asking) in (1..).zip(asked) {
        let response = answer(asking).unwrap();
        assert_eq!(response.header.fields.number::<i32>("opaque"), Ok(opaque));
        assert_eq!(response.header.remark.as_deref(), Some("done"));
    }
}

#[tokio::test]
async fn a_lost_connection_fails_what_is_unanswered_and_what_is_asked_later() {
    let (remote, mut link) = connect(2);
    let asking = ask(&remote);
    settle(&mut link);
    link.cut();
    assert!(matches!(answer(asking), Err(InvokeError::Closed(CloseReason::Transport(_)))));
    let request = Request::new(RequestCode(1), &[]);
    let refused = remote.invoke(request, Duration::from_secs(3)).await;
    assert!(matches!(refused, Err(InvokeError::Closed(CloseReason::Transport(_)))));
}

#[tokio::test]
async fn closing_ends_the_connection() {
    let (remote, mut link) = connect(2);
    let asking = ask(&remote);
    remote.close();
    settle(&mut link);
    assert!(link.is_closed());
    assert!(matches!(answer(asking), Err(InvokeError::Closed(CloseReason::Shutdown))));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_passes() {
    let (remote, mut link) = connect(2);
    let mut asking = ask(&remote);
    settle(&mut link);
    let result = pin!(&mut asking).await;
    assert!(matches!(result, Err(InvokeError::Timeout(after)) if after == Duration::from_secs(3)));
    // Its number is forgotten as soon as the next request is there, and the late answer bothers nobody.
    drop(asking);
    let second = ask(&remote);
    settle(&mut link);
    assert!(answer(second).is_ok());
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_for_their_turn() {
    let (remote, mut link) = connect(Remote::IN_FLIGHT_MAX);
    let mut asked: Vec<_> = (0..=Remote::IN_FLIGHT_MAX).map(|_| ask(&remote)).collect();
    settle(&mut link);
    let mut last = asked.pop().unwrap();
    assert!(poll(&mut last).is_pending());
    for asking in asked {
        answer(asking).unwrap();
    }
    assert!(poll(&mut last).is_pending(), "asked, and the server answers in batches");
    assert_eq!(link.under_way(Side::Server), 0);
    settle(&mut link);
    drop(link);
    assert!(matches!(answer(last), Err(InvokeError::Closed(_))));
}

#[tokio::test]
async fn one_way_requests_give_their_place_back_when_they_are_sent() {
    let (remote, mut link) = connect(1);
    for _ in 0..3 {
        for _ in 0..Remote::IN_FLIGHT_MAX {
            remote.oneway(Request::new(RequestCode(1), &[])).await.unwrap();
        }
        settle(&mut link);
    }
    assert!(remote.closed().is_none());
}

#[tokio::test]
async fn what_the_server_asks_goes_to_the_handler() {
    let (asked, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |header: &Header<'_>, _frame: &Frame<'_>, _out: &mut Outbox| {
        asked.send(header.code).unwrap();
    };
    let (_remote, mut session) = Remote::new(Box::new(handler));
    let mut bytes = BytesMut::new();
    let header =
        Outgoing { encoding: Encoding::Json, code: 40, opaque: 9, flag: 2, remark: None, fields: &[] };
    header.write(0, &mut bytes);
    let (frame, _) = skylark_protocol::frame::decode(&bytes, 1000).unwrap().unwrap();
    session.receive(frame, &mut Outbox::default()).unwrap();
    assert_eq!(heard.try_recv(), Ok(40));
}
