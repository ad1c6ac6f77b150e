//! A connection that speaks the protocol frame by frame, and nothing else: what clients would hide shows here.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use skylark_protocol::code::RequestCode;
use skylark_protocol::frame::{self, Encoding, FRAME_BYTES_MAX};
use skylark_protocol::outgoing::{Outgoing, Value};

/// Nothing here takes as long; a hang is reported instead of waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A blocking connection.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
    next_opaque: i32,
}

/// An answer, or a request of the server's.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Response code, or request code.
    pub code: i32,
    /// Which request it answers.
    pub opaque: i32,
    /// Text for people.
    pub remark: String,
    /// Named fields.
    pub fields: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
    /// Whether it is an answer.
    pub is_response: bool,
}

impl Answer {
    /// A field that is a number.
    ///
    /// # Panics
    /// When it is not there.
    pub fn number(&self, field: &str) -> u64 {
        let text = self.fields.get(field).unwrap_or_else(|| panic!("no field {field} in {self:?}"));
        text.parse().unwrap_or_else(|_| panic!("{field} is {text}"))
    }
}

impl Raw {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream, read: Vec::new(), next_opaque: 1 })
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes a request and returns its number.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> io::Result<i32> {
        let opaque = self.next_opaque;
        self.next_opaque += 1;
        let frame = request(code, opaque, fields, body);
        self.write(&frame)?;
        Ok(opaque)
    }

    /// The next frame; `None` at the end of the connection.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes.
    pub fn receive(&mut self) -> io::Result<Option<Answer>> {
        loop {
            let decoded = frame::decode(&self.read, FRAME_BYTES_MAX).map_err(io::Error::other)?;
            if let Some((frame, bytes)) = decoded {
                let header = frame.parse().map_err(io::Error::other)?;
                let answer = Answer {
                    code: header.code,
                    opaque: header.opaque,
                    remark: header.remark.as_deref().unwrap_or_default().to_owned(),
                    fields: header
                        .fields
                        .iter()
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                    body: frame.body.to_vec(),
                    is_response: header.is_response(),
                };
                drop(header);
                self.read.drain(..bytes);
                return Ok(Some(answer));
            }
            let mut piece = [0; 64 << 10];
            match self.stream.read(&mut piece)? {
                0 => return Ok(None),
                count => self.read.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Writes a request and waits for its answer; requests of the server's are passed over.
    ///
    /// # Errors
    /// When the connection ends first.
    pub fn call(
        &mut self,
        code: RequestCode,
        fields: &[(&str, Value<'_>)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let opaque = self.send(code, fields, body)?;
        loop {
            match self.receive()? {
                Some(answer) if answer.is_response && answer.opaque == opaque => return Ok(answer),
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Half of the connection to write from another thread, or to break off.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn stream(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }
}

/// A request's frame.
pub fn request(code: RequestCode, opaque: i32, fields: &[(&str, Value<'_>)], body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    let request = Outgoing { encoding: Encoding::Json, code: code.0, opaque, flag: 0, remark: None, fields };
    request.write(body.len(), &mut frame);
    frame.extend_from_slice(body);
    frame.to_vec()
}

/// The fields of a plain send to a queue, as Java's client writes them.
pub fn send_fields<'a>(topic: &'a str, queue: u32, properties: &'a str) -> Vec<(&'static str, Value<'a>)> {
    vec![
        ("a", Value::Text("PG")),
        ("b", Value::Text(topic)),
        ("c", Value::Text("TBW102")),
        ("d", Value::Number(4)),
        ("e", queue.into()),
        ("f", Value::Number(0)),
        ("g", Value::Number(1_700_000_000_000)),
        ("h", Value::Number(0)),
        ("i", Value::Text(properties)),
        ("j", Value::Number(0)),
        ("k", Value::Flag(false)),
        ("m", Value::Flag(false)),
    ]
}

/// The fields of a request to make or change a topic.
pub fn topic_fields<'a>(topic: &'a str, queues: u32, attributes: &'a str) -> Vec<(&'static str, Value<'a>)> {
    vec![
        ("topic", Value::Text(topic)),
        ("defaultTopic", Value::Text("TBW102")),
        ("readQueueNums", queues.into()),
        ("writeQueueNums", queues.into()),
        ("perm", Value::Number(6)),
        ("topicFilterType", Value::Text("SINGLE_TAG")),
        ("order", Value::Flag(false)),
        ("attributes", Value::Text(attributes)),
    ]
}

/// The fields of a pull that brings its own subscription and does not wait.
pub fn pull_fields<'a>(
    group: &'a str,
    topic: &'a str,
    queue: u32,
    offset: u64,
) -> Vec<(&'static str, Value<'a>)> {
    vec![
        ("consumerGroup", Value::Text(group)),
        ("topic", Value::Text(topic)),
        ("queueId", queue.into()),
        ("queueOffset", offset.into()),
        ("maxMsgNums", Value::Number(1024)),
        ("sysFlag", Value::Number(4)),
        ("commitOffset", Value::Number(0)),
        ("suspendTimeoutMillis", Value::Number(0)),
        ("subscription", Value::Text("*")),
        ("subVersion", Value::Number(0)),
    ]
}
