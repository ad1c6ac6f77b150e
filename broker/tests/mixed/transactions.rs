//! Transactions: what was committed is there once, what was rolled back never, and who does not say is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skylark_protocol::code::RequestCode;
use skylark_protocol::message::OffsetMessageId;
use skylark_protocol::outgoing::Value;

use super::client::{Client, Scene, body, property};
use super::logs::{Logs, TRANSACTED};
use crate::support::raw::{Answer, send_fields};

pub const PRODUCER: u32 = 20;
const GROUP: &str = "transacting";
/// When a producer is first asked, and how often then.
pub const TIMEOUT_MS: u64 = 300;
pub const INTERVAL_MS: u64 = 400;
const WINDOW: usize = 4;
const COMMIT: i64 = 8;
const ROLLBACK: i64 = 12;
/// The sysFlag of a client that sends a half message.
const PREPARED: i64 = 4;
/// The code by which a broker asks.
const ASKED: i32 = 39;

/// How its producer ends a transaction: it does not change its mind.
pub fn commits(number: u64) -> bool {
    !number.is_multiple_of(3)
}

/// Whether the producer says nothing unless it is asked, and whether it hears only the second question.
fn is_silent(number: u64) -> bool {
    number % 4 == 3
}

fn is_deaf(number: u64) -> bool {
    number % 16 == 3
}

/// Where a half message lies.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    physical_offset: u64,
    queue_offset: u64,
}

#[derive(Debug, Default)]
pub struct Transaction {
    pub half: Option<Half>,
    /// The half message was acknowledged.
    pub is_acknowledged: bool,
    /// How often it was ended.
    pub ends: u32,
    /// One of them was answered with success.
    pub is_settled: bool,
    pub questions: u32,
    pub is_there: bool,
}

enum Under {
    Heartbeat,
    Half(u64),
    End(u64),
}

#[derive(Default)]
pub struct Transactor {
    pub transactions: BTreeMap<u64, Transaction>,
    open: BTreeMap<i32, Under>,
    to_end: VecDeque<(u64, bool)>,
    /// Settled since the last check.
    pub settled: BTreeSet<u64>,
    promises: usize,
}

impl Transactor {
    fn prepare(&mut self, scene: &mut Scene<'_>) {
        let number = self.transactions.len() as u64;
        self.transactions.insert(number, Transaction::default());
        let properties = property("TRAN_MSG", "true")
            + &property("PGROUP", GROUP)
            + &property("UNIQ_KEY", &number.to_string());
        let mut fields = send_fields(TRANSACTED, 0, &properties);
        fields.retain(|(name, _)| *name != "f" && *name != "a");
        fields.extend([("f", Value::Number(PREPARED)), ("a", Value::Text(GROUP))]);
        let opaque = scene.wire.ask(RequestCode::SEND_MESSAGE_V2, &fields, &body((PRODUCER, number)));
        self.open.insert(opaque, Under::Half(number));
    }

    fn end(&mut self, number: u64, from_check: bool, scene: &mut Scene<'_>) {
        let transaction = self.transactions.get_mut(&number).expect("it was begun");
        let Some(half) = transaction.half else { return };
        transaction.ends += 1;
        let key = number.to_string();
        let fields = [
            ("producerGroup", Value::Text(GROUP)),
            ("tranStateTableOffset", half.queue_offset.into()),
            ("commitLogOffset", half.physical_offset.into()),
            ("commitOrRollback", Value::Number(if commits(number) { COMMIT } else { ROLLBACK })),
            ("fromTransactionCheck", Value::Flag(from_check)),
            ("msgId", Value::Text(&key)),
            ("transactionId", Value::Text(&key)),
        ];
        let opaque = scene.wire.ask(RequestCode::END_TRANSACTION, &fields, &[]);
        self.open.insert(opaque, Under::End(number));
    }

    fn asked(&mut self, question: &Answer) {
        let number = question.number("transactionId");
        let Some(transaction) = self.transactions.get_mut(&number) else {
            panic!("{number} was never begun")
        };
        let (physical_offset, queue_offset) =
            (question.number("commitLogOffset"), question.number("tranStateTableOffset"));
        transaction.half = Some(Half { physical_offset, queue_offset });
        transaction.questions += 1;
        // The question may have been on its way when the transaction ended.
        if !transaction.is_settled && (!is_deaf(number) || transaction.questions > 1) {
            self.to_end.push_back((number, true));
        }
    }
}

impl Client for Transactor {
    fn connected(&mut self, scene: &mut Scene<'_>) {
        let heartbeat = format!(r#"{{"clientID":"c","producerDataSet":[{{"groupName":"{GROUP}"}}]}}"#);
        let opaque = scene.wire.ask(RequestCode::HEART_BEAT, &[], heartbeat.as_bytes());
        self.open.insert(opaque, Under::Heartbeat);
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.open.len() >= WINDOW {
            return;
        }
        if let Some((number, from_check)) = self.to_end.pop_front() {
            self.end(number, from_check, scene);
        } else if !scene.is_resting {
            self.prepare(scene);
        }
    }

    fn hear(&mut self, answer: &Answer, _scene: &mut Scene<'_>) {
        if !answer.is_response {
            if answer.code == ASKED {
                self.asked(answer);
            }
            return;
        }
        match self.open.remove(&answer.opaque) {
            None => {}
            Some(Under::Heartbeat) => assert_eq!(answer.code, 0, "{}", answer.remark),
            Some(Under::Half(number)) => {
                assert_eq!(answer.code, 0, "a healthy broker refuses nothing: {}", answer.remark);
                let id: OffsetMessageId = answer.fields["msgId"].parse().unwrap();
                let transaction = self.transactions.get_mut(&number).expect("it was begun");
                let (physical_offset, queue_offset) = (id.physical_offset, answer.number("queueOffset"));
                transaction.half = Some(Half { physical_offset, queue_offset });
                transaction.is_acknowledged = true;
                self.promises += 1;
                if !is_silent(number) {
                    self.to_end.push_back((number, false));
                }
            }
            Some(Under::End(number)) => {
                let transaction = self.transactions.get_mut(&number).expect("it was begun");
                match answer.code {
                    0 => {
                        transaction.is_settled = true;
                        self.settled.insert(number);
                    }
                    // One before has ended it, and may not be durable yet: its own answer says when it is.
                    1 => assert!(transaction.ends > 1, "{number} was never ended: {}", answer.remark),
                    code => panic!("the end of {number} was answered with {code}: {}", answer.remark),
                }
                self.promises += 1;
            }
        }
    }

    fn lost(&mut self) {
        self.open.clear();
        // Some are left to be asked about.
        self.to_end.retain(|(number, from_check)| !from_check && number.is_multiple_of(2));
    }

    fn check(&mut self, logs: &Logs) {
        for there in logs.fresh((TRANSACTED, 0)) {
            let (producer, number) = there.name;
            assert_eq!(producer, PRODUCER);
            let Some(transaction) = self.transactions.get_mut(&number) else {
                panic!("{number} was never begun")
            };
            assert!(commits(number), "{number} was rolled back, and delivered");
            assert!(transaction.ends > 0, "{number} was delivered, and nobody had committed it");
            assert!(!transaction.is_there, "{number} was delivered twice");
            transaction.is_there = true;
        }
        for number in std::mem::take(&mut self.settled) {
            let is_there = self.transactions[&number].is_there;
            assert!(is_there || !commits(number), "{number} was committed, acknowledged, and not there");
        }
    }

    fn missing(&self, _logs: &Logs) -> Option<String> {
        // One that was ended without an answer is over or will be asked about; of a commit the message tells.
        let is_open = |(number, transaction): &(&u64, &Transaction)| {
            let is_to_come = transaction.ends == 0 || commits(**number) && !transaction.is_there;
            transaction.is_acknowledged && is_to_come
        };
        let open = self.transactions.iter().find(is_open);
        open.map(|(number, transaction)| format!("the end of transaction {number}: {transaction:?}"))
    }

    fn promises(&self) -> usize {
        self.promises
    }
}
