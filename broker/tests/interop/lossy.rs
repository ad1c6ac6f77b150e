//! A proxy between clients and a broker that breaks connections instead of handing out answers.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode;
use skylark_protocol::frame::{self, FRAME_BYTES_MAX};

/// How long a broker that is being started again is waited for.
const UPSTREAM_WITHIN: Duration = Duration::from_secs(30);

/// A hang, not a slow machine, is what this bounds.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A proxy in front of a broker, which lets every so many-th answer to a send go no further: it closes the connection
/// instead, so that the client cannot know whether its message was stored, and sends it again.
///
/// Its threads end with their connections; the one that accepts ends with the process.
pub(crate) struct Lossy {
    counts: Arc<Counts>,
}

/// What has gone through.
#[derive(Default)]
pub(crate) struct Counts {
    /// Sends, of messages and of batches.
    pub(crate) sends: AtomicU64,
    /// Those of a body that was sent to the same topic before.
    pub(crate) retries: AtomicU64,
    /// Answers to sends.
    answers: AtomicU64,
    /// Those that were kept back.
    pub(crate) swallowed: AtomicU64,
    /// Sends that the broker left without an answer for longer than [`ANSWER_WITHIN`], on a connection that was open.
    pub(crate) late: AtomicU64,
    bodies: Mutex<HashSet<(String, Vec<u8>)>>,
}

impl Lossy {
    /// Listens at `front` and passes everything on to `broker`, but for every `nth` answer to a send.
    pub(crate) fn start(front: SocketAddr, broker: SocketAddr, nth: u64) -> Self {
        let listener = TcpListener::bind(front).expect("the proxy's port is free");
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counts = Arc::clone(&shared);
                thread::spawn(move || serve(&client, broker, nth, &counts));
            }
        });
        Self { counts }
    }

    /// What has gone through so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// One connection of a client's, until either end closes it or an answer is kept back.
fn serve(client: &TcpStream, broker: SocketAddr, nth: u64, counts: &Counts) {
    let begun = Instant::now();
    let upstream = loop {
        match TcpStream::connect(broker) {
            Ok(upstream) => break upstream,
            Err(_) if begun.elapsed() < UPSTREAM_WITHIN => thread::sleep(Duration::from_millis(20)),
            Err(_) => return,
        }
    };
    for stream in [client, &upstream] {
        // Without it every answer would wait for the acknowledgement of the one before.
        stream.set_nodelay(true).expect("an open socket takes options");
    }
    // When each send went on that was not answered yet.
    let sent = Mutex::new(HashMap::new());
    let waiting = || sent.lock().unwrap_or_else(PoisonError::into_inner);
    let count_late = || {
        let mut waiting = waiting();
        let before = waiting.len();
        waiting.retain(|_, since: &mut Instant| since.elapsed() < ANSWER_WITHIN);
        counts.late.fetch_add((before - waiting.len()) as u64, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            pass(client, &upstream, |frame| {
                count_late();
                let Ok(header) = frame.parse() else { return true };
                if !header.is_response() && is_send(header.code) {
                    // Relaxed, here and below: figures that are read when all is over.
                    counts.sends.fetch_add(1, Ordering::Relaxed);
                    let mut bodies = counts.bodies.lock().unwrap_or_else(PoisonError::into_inner);
                    let topic =
                        header.fields.get("b").or_else(|| header.fields.get("topic")).unwrap_or_default();
                    if !bodies.insert((topic.to_owned(), frame.body.to_vec())) {
                        counts.retries.fetch_add(1, Ordering::Relaxed);
                    }
                    waiting().insert(header.opaque, Instant::now());
                }
                true
            });
            close(client, &upstream);
        });
        pass(&upstream, client, |frame| {
            let Ok(header) = frame.parse() else { return true };
            if !header.is_response() || waiting().remove(&header.opaque).is_none() {
                return true;
            }
            let is_kept_back = (counts.answers.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(nth);
            if is_kept_back {
                counts.swallowed.fetch_add(1, Ordering::Relaxed);
            }
            !is_kept_back
        });
        close(client, &upstream);
    });
}

fn is_send(code: i32) -> bool {
    [RequestCode::SEND_MESSAGE, RequestCode::SEND_MESSAGE_V2, RequestCode::SEND_BATCH_MESSAGE]
        .iter()
        .any(|send| send.0 == code)
}

/// Passes frames on until one is not to be, or the connection ends.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut may_pass: impl FnMut(&frame::Frame<'_>) -> bool) {
    let mut read = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let mut passed = 0;
        while let Ok(Some((frame, bytes))) = frame::decode(&read[passed..], FRAME_BYTES_MAX) {
            if !may_pass(&frame) {
                return;
            }
            if to.write_all(&read[passed..passed + bytes]).is_err() {
                return;
            }
            passed += bytes;
        }
        read.drain(..passed);
        match from.read(&mut piece) {
            Ok(count) if count > 0 => read.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}

fn close(client: &TcpStream, upstream: &TcpStream) {
    for stream in [client, upstream] {
        // Whoever was faster has closed it already.
        let _closed = stream.shutdown(Shutdown::Both);
    }
}
