//! A client's end of a connection: it says what it is told to, and keeps what it hears.

use std::sync::{Arc, Mutex};
use std::task::Context;

use skylark_protocol::code::RequestCode;
use skylark_protocol::frame::Frame;
use skylark_protocol::outgoing::Value;
use skylark_protocol::transport::{CloseReason, Outbox, Session};

use crate::support::raw::{Answer, request};

/// One client's connections, one after the other.
#[derive(Clone, Default)]
pub struct Line(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_connected: bool,
    to_say: Vec<u8>,
    heard: Vec<Answer>,
    next_opaque: i32,
}

impl Line {
    /// Says something as soon as bytes move; returns the request's number.
    pub fn call(&self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> i32 {
        let mut state = self.0.lock().unwrap();
        let opaque = state.next_opaque;
        state.next_opaque += 1;
        state.to_say.extend(request(code, opaque, fields, body));
        opaque
    }

    /// What was answered since the last look.
    pub fn hear(&self) -> Vec<Answer> {
        std::mem::take(&mut self.0.lock().unwrap().heard)
    }

    pub fn is_connected(&self) -> bool {
        self.0.lock().unwrap().is_connected
    }

    /// The session of another connection.
    pub fn session(&self) -> Box<dyn Session> {
        self.0.lock().unwrap().is_connected = true;
        Box::new(LineSession(Arc::clone(&self.0)))
    }
}

struct LineSession(Arc<Mutex<State>>);

impl Session for LineSession {
    fn receive(&mut self, frame: Frame<'_>, _out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().expect("a broker's header");
        // What a broker asks for needs no answer here.
        if header.is_response() {
            let fields = header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let remark = header.remark.as_deref().unwrap_or_default().to_owned();
            assert!(header.code == 0 || !remark.is_empty(), "an error without a reason");
            let answer = Answer {
                code: header.code,
                opaque: header.opaque,
                remark,
                fields: fields.collect(),
                body: frame.body.to_vec(),
                is_response: true,
            };
            self.0.lock().unwrap().heard.push(answer);
        }
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let to_say = std::mem::take(&mut self.0.lock().unwrap().to_say);
        out.buffer().extend_from_slice(&to_say);
        Ok(())
    }

    fn closed(&mut self, _reason: &CloseReason) {
        let mut state = self.0.lock().unwrap();
        state.is_connected = false;
        state.to_say.clear();
    }
}
