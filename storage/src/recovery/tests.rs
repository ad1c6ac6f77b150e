//! A test per row of the decision table, then crashes everywhere.

use super::*;

mod crash;
mod format;
mod rows;
mod sketch;
mod unreadable;
