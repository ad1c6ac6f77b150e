//! Quotas: how much a topic takes and gives, and a group sends and reads, in a second, and how large a message may be.
//!
//! Each is an attribute of the topic or of the group, see [`Attribute`]; a topic or group without one costs a look at its
//! attributes. What is beyond a rate is refused with code 215, and the remark says whose quota it is and when there is
//! room again; what is too large is refused with 13.
//!
//! An account keeps what was taken and is not paid for yet, by which it is paid for at the rate (a leaky bucket). A
//! second's worth may be owed. Whoever is let in takes what it needs, a batch larger than a second's worth too, and those
//! behind it wait for longer; but what a second's worth is sixty times over is refused with 13, so that nobody can hold up
//! others for longer than a minute. So requests that are let in side by side exceed the second's worth by one request each,
//! and never the rate. A rate that is changed holds for what is owed, too.
//!
//! What the broker stores on its own is not counted: retries, dead letters, delayed messages when they are due. Quotas
//! begin anew with each start.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use skylark_protocol::code::ResponseCode;
use smallvec::SmallVec;

use crate::context::Refusal;
use crate::folds::groups::GroupConfig;

/// What an attribute limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Messages sent in a second.
    SendMessages,
    /// Bytes of bodies sent in a second.
    SendBytes,
    /// Messages read in a second.
    ReadMessages,
    /// Bytes of messages read in a second.
    ReadBytes,
    /// Bytes of the body of a message.
    MessageBytes,
}

/// What the names of the broker's own attributes begin with.
const OWN: &str = "skylark.";
/// So much may be taken at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A send of more seconds' worth is refused for good.
const SECONDS_MAX: u64 = 60;
const BILLION: u128 = 1_000_000_000;
/// Accounts that nobody uses are looked for once there are so many.
const SWEPT_FROM: usize = 1024;

impl Attribute {
    /// The attribute of this name.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "skylark.send.messages" => Self::SendMessages,
            "skylark.send.bytes" => Self::SendBytes,
            "skylark.read.messages" => Self::ReadMessages,
            "skylark.read.bytes" => Self::ReadBytes,
            "skylark.message.bytes" => Self::MessageBytes,
            _ => return None,
        })
    }

    /// Whether it may have this value: a whole number from 1 on.
    pub fn may_be(value: &str) -> bool {
        value.parse::<NonZeroU64>().is_ok()
    }
}

/// How much may be taken in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    messages: Option<NonZeroU64>,
    bytes: Option<NonZeroU64>,
}

/// All that the attributes of a topic, or of a group, limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What is sent.
    pub send: Rates,
    /// What is read.
    pub read: Rates,
    /// Bytes of a body.
    pub message_bytes: Option<NonZeroU64>,
}

impl Limits {
    /// What these attributes say.
    pub fn of(attributes: &BTreeMap<String, String>) -> Self {
        let mut limits = Self::default();
        if attributes.is_empty() {
            return limits;
        }
        let own = attributes
            .range::<str, _>((Bound::Included(OWN), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(OWN));
        for (name, value) in own {
            let value = value.parse().ok();
            match Attribute::of(name) {
                Some(Attribute::SendMessages) => limits.send.messages = value,
                Some(Attribute::SendBytes) => limits.send.bytes = value,
                Some(Attribute::ReadMessages) => limits.read.messages = value,
                Some(Attribute::ReadBytes) => limits.read.bytes = value,
                Some(Attribute::MessageBytes) => limits.message_bytes = value,
                None => {}
            }
        }
        limits
    }

    /// What the attributes of a group say, if there is such a group: producers need none.
    pub fn of_group(group: Option<&GroupConfig>) -> Self {
        group.map(|group| Self::of(&group.attributes)).unwrap_or_default()
    }
}

/// What a rate belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A topic of this name.
    Topic(&'a str),
    /// A group of this name.
    Group(&'a str),
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Topic(name) => write!(out, "topic {name}"),
            Owner::Group(name) => write!(out, "group {name}"),
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Messages come.
    Send,
    /// Messages go.
    Read,
}

/// The accounts of all that have rates.
///
/// Memory: about 150 bytes for each topic or group with a rate that was used lately. The lock is innermost.
#[derive(Default)]
pub struct Quotas {
    topics: [RwLock<Accounts>; 2],
    groups: [RwLock<Accounts>; 2],
    refused: [AtomicU64; 2],
}

#[derive(Default)]
struct Accounts {
    of: HashMap<Box<str>, Arc<Account>, RandomState>,
    swept_at: usize,
}

/// What was taken and is not paid for yet.
#[derive(Debug, Default)]
struct Account {
    debts: Mutex<[Debt; 2]>,
}

/// In messages, or in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    /// In billionths, so that a nanosecond pays for as many of them as a second for whole ones.
    billionths: u128,
    /// As of this time.
    at: Duration,
}

/// Leave to take something, to be told how much that was.
#[derive(Debug)]
pub struct Allowance {
    accounts: SmallVec<[(Arc<Account>, Rates); 2]>,
}

impl Quotas {
    /// Leave to send or read now; none is needed where no owner has rates.
    ///
    /// # Errors
    /// With code 215 while an owner has taken more than its rate and a second's worth.
    pub fn ask(
        &self,
        what: Use,
        owners: &[(Owner<'_>, Rates)],
        now: Duration,
    ) -> Result<Option<Allowance>, Refusal> {
        let mut accounts = SmallVec::new();
        for (owner, rates) in owners.iter().filter(|(_, rates)| *rates != Rates::default()) {
            let account = self.account(what, *owner, now);
            if let Some((limit, unit, wait)) = account.exceeded(*rates, now) {
                self.count(what);
                return Err(refusal(what, *owner, limit, unit, wait));
            }
            accounts.push((account, *rates));
        }
        Ok((!accounts.is_empty()).then_some(Allowance { accounts }))
    }

    /// Leave once more for what has waited since it was given.
    ///
    /// # Errors
    /// With code 215 as for [`ask`](Self::ask).
    pub fn ask_again(&self, what: Use, allowance: &Allowance, now: Duration) -> Result<(), Refusal> {
        if !allowance.is_used_up(now) {
            return Ok(());
        }
        self.count(what);
        Err(Refusal::new(
            ResponseCode::FLOW_CONTROL,
            "others took what the quota allows meanwhile; ask again",
        ))
    }

    fn count(&self, what: Use) {
        // Relaxed: a figure for people.
        self.refused[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were refused since the start.
    pub fn refused(&self, what: Use) -> u64 {
        // Relaxed: a figure for people.
        self.refused[what as usize].load(Ordering::Relaxed)
    }

    fn account(&self, what: Use, owner: Owner<'_>, now: Duration) -> Arc<Account> {
        let (accounts, name) = match owner {
            Owner::Topic(name) => (&self.topics, name),
            Owner::Group(name) => (&self.groups, name),
        };
        let accounts = &accounts[what as usize];
        if let Some(account) = accounts.read().of.get(name) {
            return Arc::clone(account);
        }
        let mut accounts = accounts.write();
        accounts.sweep(now);
        Arc::clone(accounts.of.entry(name.into()).or_default())
    }
}

impl Accounts {
    /// Forgets accounts that are as new ones: topics and groups come and go.
    fn sweep(&mut self, now: Duration) {
        if self.of.len() >= self.swept_at.max(SWEPT_FROM) {
            self.of.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_at_rest(now));
            self.swept_at = self.of.len() * 2;
        }
    }
}

impl Account {
    /// The limit that is exceeded, in which unit, and for how long it is.
    fn exceeded(&self, rates: Rates, now: Duration) -> Option<(NonZeroU64, &'static str, Duration)> {
        let mut debts = self.debts.lock();
        let all = debts.iter_mut().zip([(rates.messages, "messages"), (rates.bytes, "bytes")]);
        all.filter_map(|(debt, (rate, unit))| Some((debt, rate?, unit))).find_map(|(debt, rate, unit)| {
            let wait = debt.wait(rate, now);
            (!wait.is_zero()).then_some((rate, unit, wait))
        })
    }

    fn take(&self, rates: Rates, now: Duration, messages: u64, bytes: u64) {
        let mut debts = self.debts.lock();
        for (debt, (rate, amount)) in debts.iter_mut().zip([(rates.messages, messages), (rates.bytes, bytes)])
        {
            let Some(rate) = rate else { continue };
            debt.pay(rate, now);
            debt.billionths += u128::from(amount) * BILLION;
        }
    }

    fn is_at_rest(&self, now: Duration) -> bool {
        // By the lowest rate there is.
        let mut debts = *self.debts.lock();
        debts.iter_mut().all(|debt| {
            debt.pay(NonZeroU64::MIN, now);
            debt.billionths == 0
        })
    }
}

impl Debt {
    fn pay(&mut self, rate: NonZeroU64, now: Duration) {
        let paid = u128::from(rate.get()) * now.saturating_sub(self.at).as_nanos();
        self.billionths = self.billionths.saturating_sub(paid);
        self.at = self.at.max(now);
    }

    /// For how long more is owed than may be taken at once.
    fn wait(&mut self, rate: NonZeroU64, now: Duration) -> Duration {
        self.pay(rate, now);
        let rate = u128::from(rate.get());
        let beyond = self.billionths.saturating_sub(rate * AT_ONCE.as_nanos());
        Duration::from_nanos(u64::try_from(beyond.div_ceil(rate)).unwrap_or(u64::MAX))
    }
}

impl Rates {
    /// The rate of which these are more than a minute's worth, and its unit.
    pub fn too_small_for(self, messages: u64, bytes: u64) -> Option<(NonZeroU64, &'static str)> {
        let all = [(self.messages, messages, "messages"), (self.bytes, bytes, "bytes")];
        all.into_iter().find_map(|(rate, amount, unit)| {
            let rate = rate?;
            (amount > rate.get().saturating_mul(SECONDS_MAX)).then_some((rate, unit))
        })
    }
}

impl Allowance {
    /// Whether nothing may be taken any more: others were faster.
    fn is_used_up(&self, now: Duration) -> bool {
        self.accounts.iter().any(|(account, rates)| account.exceeded(*rates, now).is_some())
    }

    /// So much was taken.
    pub fn take(&self, now: Duration, messages: u64, bytes: u64) {
        self.accounts.iter().for_each(|(account, rates)| account.take(*rates, now, messages, bytes));
    }
}

fn refusal(what: Use, owner: Owner<'_>, limit: NonZeroU64, unit: &str, wait: Duration) -> Refusal {
    let name = match what {
        Use::Send => "send",
        Use::Read => "read",
    };
    let wait_ms = wait.as_nanos().div_ceil(1_000_000);
    let remark = format!(
        "{owner} is over its quota of {limit} {unit} a second (skylark.{name}.{unit}); there is room again in {wait_ms} ms"
    );
    Refusal::new(ResponseCode::FLOW_CONTROL, remark)
}

#[cfg(test)]
mod tests;
