//! SQL92 expressions, and properties behind a zero byte: no text panics, the stated bounds hold, a filter takes no more than
//! its steps, and both ways to ask it say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skylark_protocol::filter::{EXPRESSION_BYTES_MAX, Filter, STEPS_MAX};
use skylark_protocol::message::Properties;

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (expression, properties) = bytes.split_at(split);
    let properties = Properties::new(properties.get(1..).unwrap_or_default());
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    match Filter::compile(expression) {
        Ok(filter) => {
            assert!(expression.len() <= EXPRESSION_BYTES_MAX && filter.steps() <= STEPS_MAX);
            // What a step, a name or a text takes beside its own bytes.
            assert!(filter.memory_bytes() <= 1024 + 64 * expression.len());
            assert_eq!(filter.matches_message(properties), filter.matches(|name| properties.get(name)));
        }
        Err(error) => {
            assert!((1..=expression.chars().count() + 1).contains(&error.character));
            assert!(!error.to_string().contains('\n'));
        }
    }
});
