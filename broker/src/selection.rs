//! Which messages of a topic a consumer wants: by tag or by SQL92, each expression compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::filter::Filter;
use skylark_protocol::message::{StoredMessage, TagFilter};

use crate::context::Refusal;
use crate::names;

/// Bytes of compiled expressions, and of their texts, that a broker keeps at most.
pub const FILTERS_BYTES_MAX: usize = 32 << 20;
/// What an entry of the table takes beside text and filter.
const ENTRY_BYTES: usize = 128;

/// Which messages are wanted.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Those with a tag; the index knows, or nearly.
    Tags(TagFilter),
    /// Those whose properties an expression is true of.
    Sql(Arc<Filter>),
}

impl Selection {
    /// Whether every message is wanted.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::Tags(TagFilter::All))
    }

    /// Whether a message has to be read to know whether it is wanted.
    pub fn reads_messages(&self) -> bool {
        matches!(self, Self::Sql(_))
    }

    /// How many steps it takes at most to know that of a message that was read; none if the index is enough.
    pub fn steps(&self) -> Option<usize> {
        match self {
            Self::Tags(_) => None,
            Self::Sql(filter) => Some(filter.steps()),
        }
    }

    /// Whether a message with this tag hash in the index may be wanted.
    pub fn may_match(&self, tag_hash: i32) -> bool {
        match self {
            Self::Tags(tags) => tags.matches_hash(tag_hash),
            Self::Sql(_) => true,
        }
    }

    /// Whether a message whose tag hash matches is wanted, and what it cost to find out: bytes of properties looked at, as
    /// often as the expression may do so.
    pub fn matches(&self, stored: &[u8]) -> (bool, usize) {
        let Self::Sql(filter) = self else { return (true, 0) };
        // What is acknowledged can be parsed; what cannot has no properties to be wanted for.
        let Ok((message, _)) = StoredMessage::parse(stored) else { return (false, 0) };
        (filter.matches_message(message.properties()), message.properties.len() * filter.steps())
    }
}

/// The compiled expressions that are in use, and others while there is room: consumers bring the same ones with every
/// pull, or all members of a group state one.
///
/// Memory: at most [`FILTERS_BYTES_MAX`], together with every subscription and parked pull that holds one. Its lock is
/// innermost.
#[derive(Default)]
pub struct Filters {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_expression: HashMap<Box<str>, Arc<Filter>>,
    bytes: usize,
}

impl Filters {
    /// The filter of an expression of this type over a topic's messages. A retry topic holds what was selected before,
    /// so that all of it is wanted.
    ///
    /// # Errors
    /// When the expression does not compile, or the filters in use leave no room for it.
    pub fn selection(
        &self,
        topic: &str,
        expression_type: &str,
        expression: &str,
    ) -> Result<Selection, Refusal> {
        if !expression_type.eq_ignore_ascii_case("SQL92") {
            let remark = format!("expressions of type {expression_type} are unknown here: TAG or SQL92");
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, remark));
        }
        let filter = self.compile(expression)?;
        let is_retry = topic.starts_with(names::RETRY_PREFIX);
        Ok(if is_retry { Selection::Tags(TagFilter::All) } else { Selection::Sql(filter) })
    }

    fn compile(&self, expression: &str) -> Result<Arc<Filter>, Refusal> {
        if let Some(known) = self.inner.lock().by_expression.get(expression) {
            return Ok(Arc::clone(known));
        }
        let compiled = Filter::compile(expression).map_err(|error| {
            Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, format!("SQL92 expression, {error}"))
        })?;
        let bytes = bytes_of(expression, &compiled);
        let mut inner = self.inner.lock();
        if inner.bytes + bytes > FILTERS_BYTES_MAX {
            inner.drop_unused();
        }
        if inner.bytes + bytes > FILTERS_BYTES_MAX {
            let remark =
                "the SQL92 expressions in use take all the memory there is for them; try again later";
            return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
        }
        // Whoever was faster is right as well, and counted.
        if let Some(known) = inner.by_expression.get(expression) {
            return Ok(Arc::clone(known));
        }
        let filter = Arc::new(compiled);
        inner.by_expression.insert(expression.into(), Arc::clone(&filter));
        inner.bytes += bytes;
        Ok(filter)
    }
}

impl Inner {
    fn drop_unused(&mut self) {
        self.by_expression.retain(|_, filter| Arc::strong_count(filter) > 1);
        self.bytes = self.by_expression.iter().map(|(text, filter)| bytes_of(text, filter)).sum();
    }
}

fn bytes_of(expression: &str, filter: &Filter) -> usize {
    expression.len() + filter.memory_bytes() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(selection: Selection) -> Arc<Filter> {
        match selection {
            Selection::Sql(filter) => filter,
            Selection::Tags(_) => panic!("expected an SQL filter"),
        }
    }

    #[test]
    fn an_expression_is_compiled_once_while_it_is_used() {
        let filters = Filters::default();
        let first = sql(filters.selection("T", "SQL92", "a > 5").unwrap());
        let again = sql(filters.selection("U", "sql92", "a > 5").unwrap());
        assert!(Arc::ptr_eq(&first, &again));
        assert!(filters.selection("%RETRY%g", "SQL92", "a > 5").unwrap().is_everything());
    }

    #[test]
    fn refusals_name_the_place() {
        let filters = Filters::default();
        let refused = filters.selection("T", "SQL92", "a >").unwrap_err();
        assert_eq!(refused.code, ResponseCode::SUBSCRIPTION_PARSE_FAILED);
        assert_eq!(
            refused.remark,
            "SQL92 expression, character 4: expected a property, a literal or (, found the end"
        );
        let refused = filters.selection("T", "JAVA", "a > 5").unwrap_err();
        assert_eq!(refused.code, ResponseCode::SUBSCRIPTION_PARSE_FAILED);
    }

    #[test]
    fn memory_is_bounded_by_what_is_in_use() {
        let filters = Filters::default();
        let expression = |number: usize| format!("a = '{number}{}'", "x".repeat(60_000));
        // Far more than there is room for, but none of it is kept by anyone.
        for number in 0..600 {
            filters.selection("T", "SQL92", &expression(number)).unwrap();
        }
        assert!(filters.inner.lock().bytes <= FILTERS_BYTES_MAX);
        let mut used = Vec::new();
        let refused =
            (0..600).find_map(|number| match filters.selection("T", "SQL92", &expression(number)) {
                Ok(selection) => {
                    used.push(selection);
                    None
                }
                Err(refused) => Some(refused),
            });
        assert_eq!(refused.unwrap().code, ResponseCode::SYSTEM_BUSY);
        used.clear();
        filters.selection("T", "SQL92", "a > 5").unwrap();
    }
}
