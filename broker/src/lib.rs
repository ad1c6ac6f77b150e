//! The broker: RocketMQ's semantics over the commit log, and the wiring of every other crate.
//!
//! ```text
//!  frame ──► session ──► handlers ──► log.append ──► held ──► answer, once durable
//!                            │                         ▲
//!        parked pulls ◄── parking ◄── dispatch ◄── durable group
//! ```
//!
//! | to change…                                        | open                          |
//! |---------------------------------------------------|-------------------------------|
//! | how a request is answered                         | `handlers`, a file per family |
//! | what a connection keeps, and when it writes       | `session`, `held`             |
//! | what a record does once it is durable             | `dispatch`, `folds`           |
//! | what is decided under the append lock             | `stamp`, `append`             |
//! | delay levels, and when a message is due           | `delay`                       |
//! | delivery of what is due                           | `timers`                      |
//! | long polls                                        | `parking`                     |
//! | where consumers go on                             | `progress`                    |
//! | what clients are asked                            | `calls`                       |
//! | who is connected, who holds which queue           | `membership`, `locks`         |
//! | what the nameservers are told                     | `registrar`                   |
//! | the nameserver inside                             | `hosted`                      |
//! | what a restart begins with                        | `state`, `snapshots`          |
//! | what becomes of finished segments                 | `archivist`                   |
//! | when sends are refused for the disk's sake        | `refusal`                     |
//! | topics and groups, and how they change            | `catalog`, `changes`          |
//! | how a broker starts, and what its parts share     | `broker`                      |
//! | options and their meaning                         | `config`                      |
//! | what is counted for the tools                     | `statistics`                  |
//! | the command line                                  | `cli`                         |
//!
//! Handlers are free of sockets, threads and clocks: a simulation drives a whole broker in one thread. Start reading
//! at [`session::ClientSession`].

#![forbid(unsafe_code)]

pub mod append;
pub mod archivist;
pub mod broker;
pub mod calls;
pub mod catalog;
pub mod changes;
pub mod cli;
pub mod config;
pub mod context;
pub mod delay;
pub mod dispatch;
pub mod folds;
pub mod handlers;
pub mod held;
pub mod hosted;
pub mod indexing;
pub mod locks;
pub mod membership;
pub mod names;
pub mod parking;
pub mod progress;
pub mod readers;
pub mod refusal;
pub mod registrar;
pub mod session;
pub mod snapshots;
pub mod stamp;
pub mod state;
pub mod statistics;
pub mod system;
pub mod timers;
