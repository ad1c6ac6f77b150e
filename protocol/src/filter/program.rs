//! What a filter does with a message: steps over a stack of values, each taken once at most.
//!
//! `a > 5 OR b = 'x'` is
//!
//! ```text
//!  0  property a           3  greater                6  text 'x'
//!  1  if null, go on at 4  4  if true, go on at 9    7  equal
//!  2  int 5                5  property b             8  or
//! ```
//!
//! Operands that do not matter are skipped, as RocketMQ does: an operand that cannot be converted is an error only where it
//! is looked at.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::value::{NotConvertible, Value};

/// The steps of a filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Program {
    steps: Vec<Step>,
}

/// Takes values from the stack and leaves one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Leaves a property, by the place of its name.
    Property(usize),
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Box<str>),
    Negate,
    Not,
    /// Makes a condition of a property, which is true for none.
    Condition,
    Equal,
    IsNull,
    Compare(Comparison),
    /// Whether a text holds another.
    Search {
        search: Search,
        wanted: Box<str>,
        is_negated: bool,
    },
    /// Whether a text is one of these, which are sorted.
    In {
        texts: Box<[Box<str>]>,
        is_negated: bool,
    },
    And,
    Or,
    /// Compares the value below with the lower bound on top. If that decides, leaves the result alone and goes on at `end`;
    /// else puts the result in place of the bound.
    LowerBound {
        is_negated: bool,
        end: usize,
    },
    /// Compares the value with the upper bound on top; between them is what the lower bound gave.
    UpperBound {
        is_negated: bool,
    },
    /// Goes on at a later step if the value on top is this one, which stays.
    SkipIf {
        found: Skipping,
        end: usize,
    },
}

/// What makes the operand that follows irrelevant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipping {
    Null,
    Boolean(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }

    /// Whether it holds; unknown if one side is.
    fn of(self, left: Value<'_>, right: Value<'_>) -> Result<Option<bool>, NotConvertible> {
        if left == Value::Null || right == Value::Null {
            return Ok(None);
        }
        Ok(Some(self.holds(left.order(right)?)))
    }
}

impl Search {
    fn finds(self, text: &str, wanted: &str) -> bool {
        match self {
            Self::Contains => text.contains(wanted),
            Self::StartsWith => text.starts_with(wanted),
            Self::EndsWith => text.ends_with(wanted),
        }
    }
}

impl Program {
    /// Adds a step, and gives its place.
    pub(super) fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Makes the step at this place, which may go on elsewhere, do so behind the newest one.
    pub(super) fn land(&mut self, place: usize) {
        let here = self.steps.len();
        match &mut self.steps[place] {
            Step::SkipIf { end, .. } | Step::LowerBound { end, .. } => *end = here,
            step => unreachable!("{step:?} goes nowhere else"),
        }
    }

    /// Takes back the steps from this place on.
    pub(super) fn cut(&mut self, place: usize) {
        self.steps.truncate(place);
    }

    /// Makes it ready to be kept: the names of properties are numbered anew, and nothing is reserved for more.
    pub(super) fn finish(&mut self, places: &[usize]) {
        self.steps.shrink_to_fit();
        for step in &mut self.steps {
            if let Step::Property(place) = step {
                *place = places[*place];
            }
        }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let text = |text: &str| text.len();
        let beyond = self.steps.iter().map(|step| match step {
            Step::Text(own) | Step::Search { wanted: own, .. } => text(own),
            Step::In { texts, .. } => texts.iter().map(|own| text(own) + size_of::<Box<str>>()).sum(),
            _ => 0,
        });
        self.steps.capacity() * size_of::<Step>() + beyond.sum::<usize>()
    }

    /// What the condition is for a message with these properties.
    pub(super) fn run(&self, properties: &[Option<&str>]) -> Result<Option<bool>, NotConvertible> {
        let mut stack = Stack(SmallVec::new());
        let mut at = 0;
        while let Some(step) = self.steps.get(at) {
            at = stack.take(step, properties)?.unwrap_or(at + 1);
        }
        Ok(stack.pop_condition())
    }
}

/// The values that steps have left. The parser sees to it that each step finds what it takes.
struct Stack<'v>(SmallVec<[Value<'v>; 16]>);

impl<'v> Stack<'v> {
    /// Takes a step; says where to go on if that is not the next one.
    fn take(
        &mut self,
        step: &'v Step,
        properties: &[Option<&'v str>],
    ) -> Result<Option<usize>, NotConvertible> {
        let left = match step {
            Step::Property(place) => properties[*place].map_or(Value::Null, Value::Text),
            Step::Null => Value::Null,
            Step::Boolean(value) => Value::Boolean(*value),
            Step::Int(value) => Value::Int(*value),
            Step::Long(value) => Value::Long(*value),
            Step::Double(value) => Value::Double(*value),
            Step::Text(value) => Value::Text(value),
            Step::Negate => self.pop().negated(),
            Step::Not => condition(self.pop_condition().map(|value| !value)),
            Step::Condition => match self.pop() {
                Value::Null => Value::Null,
                value => Value::Boolean(value == Value::Boolean(true)),
            },
            Step::Equal => {
                let right = self.pop();
                condition(self.pop().equals(right)?)
            }
            Step::IsNull => Value::Boolean(self.pop() == Value::Null),
            Step::Compare(comparison) => {
                let right = self.pop();
                condition(comparison.of(self.pop(), right)?)
            }
            Step::Search { search, wanted, is_negated } => Value::Boolean(match self.pop() {
                Value::Text(text) => search.finds(text, wanted) != *is_negated,
                _ => false,
            }),
            Step::In { texts, is_negated } => match self.pop() {
                Value::Text(text) => {
                    let is_in = texts.binary_search_by(|known| (**known).cmp(text)).is_ok();
                    Value::Boolean(is_in != *is_negated)
                }
                _ => Value::Null,
            },
            Step::And => {
                let right = self.pop_condition();
                condition(and(self.pop_condition(), right))
            }
            Step::Or => {
                let right = self.pop_condition();
                condition(or(self.pop_condition(), right))
            }
            Step::LowerBound { is_negated, end } => {
                let low = self.pop();
                let comparison = if *is_negated { Comparison::Less } else { Comparison::GreaterOrEqual };
                let value = self.pop();
                let inside = comparison.of(value, low)?;
                if inside == Some(*is_negated) {
                    self.0.push(condition(inside));
                    return Ok(Some(*end));
                }
                self.0.push(value);
                condition(inside)
            }
            Step::UpperBound { is_negated } => {
                let high = self.pop();
                let lower = self.pop_condition();
                let comparison = if *is_negated { Comparison::Greater } else { Comparison::LessOrEqual };
                let upper = comparison.of(self.pop(), high)?;
                condition(if *is_negated { or(lower, upper) } else { and(lower, upper) })
            }
            Step::SkipIf { found, end } => {
                let wanted = match found {
                    Skipping::Null => Value::Null,
                    Skipping::Boolean(value) => Value::Boolean(*value),
                };
                let top = self.pop();
                self.0.push(top);
                return Ok((top == wanted).then_some(*end));
            }
        };
        self.0.push(left);
        Ok(None)
    }

    fn pop(&mut self) -> Value<'v> {
        self.0.pop().expect("the parser gives every operator its operands")
    }

    fn pop_condition(&mut self) -> Option<bool> {
        match self.pop() {
            Value::Boolean(value) => Some(value),
            _ => None,
        }
    }
}

fn condition(value: Option<bool>) -> Value<'static> {
    value.map_or(Value::Null, Value::Boolean)
}

/// False wins over unknown.
fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    if left == Some(false) || right == Some(false) { Some(false) } else { Some(left? && right?) }
}

/// True wins over unknown.
fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    if left == Some(true) || right == Some(true) { Some(true) } else { Some(left? || right?) }
}
