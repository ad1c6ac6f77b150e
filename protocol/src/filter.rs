//! SQL92 filters: which messages an expression over their properties selects.
//!
//! ```text
//!  expression ──lexer──► tokens ──parser──► program ──properties──► true, false, unknown, or an error
//! ```
//!
//! | to change…                                           | open      |
//! |------------------------------------------------------|-----------|
//! | what a token is, comments and all                    | `lexer`   |
//! | the grammar, and which operands go with which operator | `parser` |
//! | what an operator does                                | `program` |
//! | how Java reads and compares numbers                  | `value`   |
//!
//! The language is RocketMQ's, which is not SQL: `NOT` binds tighter than a comparison, `a = 5` reads the property as an
//! integer of 32 bits, and whatever follows a complete expression is ignored. `tests/filter` holds what Apache's own
//! implementation says of some thousand expressions.
//!
//! Bounds: an expression has at most [`EXPRESSION_BYTES_MAX`] bytes, [`NESTING_MAX`] levels and [`STEPS_MAX`] steps.
//! Reading it takes time linear in its bytes, and a message takes every step once at most.

mod lexer;
mod parser;
mod program;
#[cfg(test)]
mod tests;
mod value;

use crate::message::Properties;

pub use value::NotConvertible;

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 64 << 10;
/// Most parentheses, signs and `NOT`s inside each other.
pub const NESTING_MAX: usize = 64;
/// Most steps of a filter: an operand or an operator is one, `IN` with its whole list too.
pub const STEPS_MAX: usize = 2048;

/// An expression, compiled.
///
/// ```
/// use skylark_protocol::filter::Filter;
///
/// let filter = Filter::compile("colour = 'red' AND weight BETWEEN 3 AND 5").unwrap();
/// assert!(filter.matches(|name| match name {
///     "colour" => Some("red"),
///     "weight" => Some("4"),
///     _ => None,
/// }));
/// let error = Filter::compile("weight > 'heavy'").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "character 10: expected a number or a property beside >, found 'heavy'"
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The names of properties, sorted.
    names: Box<[Box<str>]>,
    program: program::Program,
}

/// Why an expression makes no filter. One line, for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {character}: {cause}")]
pub struct FilterError {
    /// Which character of the expression it is about, counted from 1.
    pub character: usize,
    /// What is wrong there.
    pub cause: FilterErrorCause,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterErrorCause {
    /// Something else belongs there.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What belongs there.
        expected: &'static str,
        /// What stands there, cut short.
        found: Box<str>,
    },
    /// The expression exceeds [`EXPRESSION_BYTES_MAX`].
    #[error("the expression has {bytes} bytes, the limit is {EXPRESSION_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The expression exceeds [`NESTING_MAX`].
    #[error("the expression is nested more than {NESTING_MAX} levels deep")]
    TooDeep,
    /// The expression exceeds [`STEPS_MAX`].
    #[error("the expression has more than {STEPS_MAX} operands and operators")]
    TooManySteps,
}

impl Filter {
    /// Compiles an expression. What follows a complete one is ignored, as RocketMQ does.
    ///
    /// # Errors
    /// When RocketMQ would not compile it either, or it exceeds a bound.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        if expression.len() > EXPRESSION_BYTES_MAX {
            let cause = FilterErrorCause::TooLong { bytes: expression.len() };
            return Err(FilterError { character: 1, cause });
        }
        let tokens = lexer::tokens(expression);
        let (names, program) =
            parser::parse(&tokens, expression).map_err(|failure| failure.locate(expression))?;
        Ok(Self { names, program })
    }

    /// Whether a message with these properties is selected: if the expression is true for it. It is not if the expression
    /// is unknown or cannot be evaluated.
    pub fn matches<'p>(&self, property: impl Fn(&str) -> Option<&'p str>) -> bool {
        self.evaluate(property) == Ok(Some(true))
    }

    /// Whether a message is selected. Its properties are read once, however often they are named.
    pub fn matches_message(&self, properties: Properties<'_>) -> bool {
        let mut values: Values<'_> = smallvec::smallvec![None; self.names.len()];
        for (name, value) in properties.iter() {
            if let Ok(slot) = self.names.binary_search_by(|known| (**known).cmp(name)) {
                values[slot] = Some(value);
            }
        }
        self.program.run(&values) == Ok(Some(true))
    }

    /// What the expression is for a message with these properties; none is SQL's unknown.
    ///
    /// # Errors
    /// When a property is not the number that it is compared with.
    pub fn evaluate<'p>(
        &self,
        property: impl Fn(&str) -> Option<&'p str>,
    ) -> Result<Option<bool>, NotConvertible> {
        let values: Values<'_> = self.names.iter().map(|name| property(name)).collect();
        self.program.run(&values)
    }

    /// How many steps a message takes at most.
    pub fn steps(&self) -> usize {
        self.program.steps()
    }

    /// Bytes allocated, but for the allocator's own.
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum();
        size_of::<Self>() + names + self.program.memory_bytes()
    }
}

/// What the named properties are, in the order of the names.
type Values<'p> = smallvec::SmallVec<[Option<&'p str>; 8]>;
