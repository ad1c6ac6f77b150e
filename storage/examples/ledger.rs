//! An event-sourced ledger: transfers are records, and balances are what comes of folding them.
//!
//! ```text
//! cargo run -p skylark-storage --example ledger [DIRECTORY]
//! ```
//!
//! Two things are worth a look. A transfer is checked against balances as of everything *appended*, though not all of
//! that is durable yet: a restart keeps a prefix of the log, so whatever a transfer relied on survives wherever the
//! transfer itself does. And each transfer's number is given under the append lock, so that numbers and places in the
//! log have one order.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use skylark_storage::device::Directory;
use skylark_storage::{
    AppendError, CommitLog, Files, Kind, NewRecord, Options, PhysicalOffset, ReadError, Record, Running,
    Stopped, SystemClock,
};

/// A transfer: 8 bytes of number as the head, then 4 each of payer, payee and cents, little-endian, and a text.
/// Another layout would get another kind, so that old records stay readable.
const TRANSFER: Kind = Kind::new(16);
/// Money comes from here, and this account alone may be overdrawn: all balances add up to nothing.
pub const BANK: u32 = 0;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Counted from 1, without a gap.
    pub number: u64,
    /// The account that gave.
    pub payer: u32,
    /// The account that got.
    pub payee: u32,
    /// How much.
    pub cents: u32,
    /// What for.
    pub text: String,
}

impl Transfer {
    /// What the record says, if it is a transfer.
    fn of(record: &Record<'_>) -> Option<Self> {
        if record.kind() != TRANSFER {
            return None;
        }
        let (payer, rest) = record.rest().split_first_chunk()?;
        let (payee, rest) = rest.split_first_chunk()?;
        let (cents, text) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_le_bytes(record.head().try_into().ok()?),
            payer: u32::from_le_bytes(*payer),
            payee: u32::from_le_bytes(*payee),
            cents: u32::from_le_bytes(*cents),
            text: str::from_utf8(text).ok()?.to_owned(),
        })
    }
}

/// Why a transfer was not booked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The payer has not got so much. Nothing has changed.
    #[error("account {account} holds {held} cents, {cents} were asked for")]
    Overdrawn {
        /// The payer.
        account: u32,
        /// What is there.
        held: i64,
        /// What was asked for.
        cents: u32,
    },
    /// The log did not take it. Nothing has changed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It may be found booked after a restart, or not.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Accounts, and the log they are folded from.
pub struct Ledger {
    /// What the append lock owns is the next transfer's number.
    log: Running<u64>,
    /// As of everything appended. Locked from the check to the append, so that both have one order.
    accounts: Mutex<Accounts>,
}

#[derive(Default)]
struct Accounts(BTreeMap<u32, i64>);

impl Accounts {
    fn held(&self, account: u32) -> i64 {
        self.0.get(&account).copied().unwrap_or_default()
    }

    fn apply(&mut self, payer: u32, payee: u32, cents: u32) {
        *self.0.entry(payer).or_default() -= i64::from(cents);
        *self.0.entry(payee).or_default() += i64::from(cents);
    }
}

impl Ledger {
    /// Opens the ledger, or begins one, and folds what it holds.
    pub fn open(files: impl Files + 'static) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let clock = Arc::new(SystemClock::new());
        let opened = CommitLog::open(Arc::new(files), clock, Options::default(), 1)?;
        let mut accounts = Accounts::default();
        for transfer in transfers(&opened.log) {
            let Transfer { number, payer, payee, cents, .. } = transfer?;
            accounts.apply(payer, payee, cents);
            opened.log.with_state(|next| *next = number + 1);
        }
        // New transfers are applied where they are booked.
        Ok(Self { log: opened.run(|_| ())?, accounts: Mutex::new(accounts) })
    }

    /// Books a transfer, and returns its number once it is on the disk.
    pub fn transfer(&self, payer: u32, payee: u32, cents: u32, text: &str) -> Result<u64, Refused> {
        let rest: [&[u8]; 4] =
            [&payer.to_le_bytes(), &payee.to_le_bytes(), &cents.to_le_bytes(), text.as_bytes()];
        let record = NewRecord { kind: TRANSFER, head: &[0; 8], rest: &rest };
        let mut number = 0;
        let appended = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            let held = accounts.held(payer);
            if payer != BANK && held < i64::from(cents) {
                return Err(Refused::Overdrawn { account: payer, held, cents });
            }
            let appended = self.log.append(&[record], |next, _, head| {
                number = *next;
                *next += 1;
                head.copy_from_slice(&number.to_le_bytes());
            })?;
            accounts.apply(payer, payee, cents);
            appended
        };
        // The next transfers are appended meanwhile, and share one flush.
        self.log.durable().wait_blocking(appended.end)?;
        Ok(number)
    }

    /// What an account holds, counting transfers that are on their way to the disk.
    pub fn balance(&self, account: u32) -> i64 {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).held(account)
    }

    /// Everything that was ever booked, in order.
    pub fn transfers(&self) -> impl Iterator<Item = Result<Transfer, ReadError>> {
        transfers(&self.log)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.0.iter().try_for_each(|(account, held)| writeln!(f, "  account {account}: {held} cents"))
    }
}

/// The log's beginning is never trimmed, so it holds them all.
fn transfers(log: &CommitLog<u64>) -> impl Iterator<Item = Result<Transfer, ReadError>> {
    log.scan(PhysicalOffset::ZERO).flat_map(|group| match group {
        Ok(group) => group.records().filter_map(|(_, record)| Transfer::of(&record).map(Ok)).collect(),
        Err(error) => vec![Err(error)],
    })
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1).map_or_else(|| temporary.path().to_owned(), Into::into);
    println!("the ledger is in {}", directory.display());

    let ledger = Ledger::open(Directory::open(&directory)?)?;
    print!("{} transfers were found; by them\n{ledger}", ledger.transfers().count());
    let number = ledger.transfer(BANK, 1, 10_000, "salary")?;
    println!("transfer {number}: 10000 cents for account 1");
    let number = ledger.transfer(1, 2, 2_500, "rent")?;
    println!("transfer {number}: 2500 cents from account 1 to account 2");
    if let Err(refused) = ledger.transfer(2, 1, u32::MAX, "a fortune") {
        println!("refused: {refused}");
    }
    drop(ledger);

    let ledger = Ledger::open(Directory::open(&directory)?)?;
    print!("opened again, the same comes of the log:\n{ledger}");
    let total: i64 = (0..3).map(|account| ledger.balance(account)).sum();
    println!("together they hold {total} cents, as ever");
    Ok(())
}
