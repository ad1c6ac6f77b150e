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
//! | what becomes of half messages                     | `transactions`                |
//! | long polls                                        | `parking`                     |
//! | popped messages that nobody acknowledged          | `pops`                        |
//! | how these three run, and when they sleep          | `engine`                      |
//! | messages that a producer sends again              | `suppression`                 |
//! | messages that lie in many queues                  | `light`                       |
//! | which messages a topic takes                      | `message_type`                |
//! | how much a topic or a group may in a second       | `quotas`                      |
//! | which messages a consumer wants                   | `selection`                   |
//! | where consumers go on                             | `progress`                    |
//! | who moved which offset                            | `audit`                       |
//! | dead letters, and what operators do with them     | `dead_letters`                |
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
//! | queues that nobody is at                          | `watchdog`                    |
//! | the command line                                  | `cli`                         |
//!
//! Handlers are free of sockets, threads and clocks: a simulation drives a whole broker in one thread. Start reading
//! at [`session::ClientSession`].

#![forbid(unsafe_code)]

pub mod append;
pub mod archivist;
pub mod audit;
pub mod broker;
pub mod calls;
pub mod catalog;
pub mod changes;
pub mod cli;
pub mod config;
pub mod context;
pub mod dead_letters;
pub mod delay;
pub mod dispatch;
pub mod engine;
pub mod folds;
pub mod handlers;
pub mod held;
pub mod hosted;
pub mod indexing;
pub mod light;
pub mod locks;
pub mod membership;
pub mod message_type;
pub mod names;
pub mod parking;
pub mod pops;
pub mod progress;
pub mod quotas;
pub mod readers;
pub mod refusal;
pub mod registrar;
pub mod selection;
pub mod session;
pub mod snapshots;
pub mod stamp;
pub mod state;
pub mod statistics;
pub mod suppression;
pub mod system;
pub mod timers;
pub mod transactions;
pub mod watchdog;
