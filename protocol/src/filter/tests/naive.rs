//! The language written a second time, over a tree and without a thought to cost, to compare with.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use proptest::prelude::*;

pub(super) type Properties = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(super) enum Tree {
    Property(&'static str),
    Text(&'static str),
    Whole(i64),
    Real(&'static str),
    Boolean(bool),
    Null,
    Minus(Box<Tree>),
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    Equal(Box<Tree>, Box<Tree>, bool),
    Order(&'static str, Box<Tree>, Box<Tree>),
    Between(Box<Tree>, Box<Tree>, Box<Tree>, bool),
    IsNull(Box<Tree>, bool),
    In(&'static str, Vec<&'static str>, bool),
    Search(&'static str, Box<Tree>, &'static str, bool),
}

/// A value as it is compared: what it is, and its number or text.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Null,
    Boolean(bool),
    /// And whether its literal fits 32 bits.
    Whole(i64, bool),
    Real(f64),
    Text(String),
}

impl Display for Tree {
    /// Everything in parentheses, so that it says nothing of what binds tighter.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not = |is_negated: bool| if is_negated { "NOT " } else { "" };
        match self {
            Self::Property(name) => f.write_str(name),
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Real(number) => f.write_str(number),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Null => f.write_str("null"),
            Self::Minus(operand) => write!(f, "(-{operand})"),
            Self::Not(operand) => write!(f, "(NOT {operand})"),
            Self::And(left, right) => write!(f, "({left} AND {right})"),
            Self::Or(left, right) => write!(f, "({left} OR {right})"),
            Self::Equal(left, right, true) => write!(f, "({left} = {right})"),
            Self::Equal(left, right, false) => write!(f, "({left} <> {right})"),
            Self::Order(operator, left, right) => write!(f, "({left} {operator} {right})"),
            Self::Between(value, low, high, is_negated) => {
                write!(f, "({value} {}BETWEEN {low} AND {high})", not(*is_negated))
            }
            Self::IsNull(operand, is_null) => write!(f, "({operand} IS {}NULL)", not(!is_null)),
            Self::In(name, texts, is_negated) => {
                let texts: Vec<_> =
                    texts.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
                write!(f, "({name} {}IN ({}))", not(*is_negated), texts.join(", "))
            }
            Self::Search(operator, operand, text, is_negated) => {
                write!(f, "({operand} {}{operator} '{}')", not(*is_negated), text.replace('\'', "''"))
            }
        }
    }
}

impl Tree {
    /// What the tree is as a whole: a property alone is a condition that never holds.
    pub(super) fn condition(&self, properties: &Properties) -> Result<Option<bool>, ()> {
        Ok(match self.found(properties)? {
            Found::Null => None,
            Found::Boolean(value) => Some(value),
            _ => Some(false),
        })
    }

    fn found(&self, properties: &Properties) -> Result<Found, ()> {
        let truth = |value: Option<bool>| value.map_or(Found::Null, Found::Boolean);
        Ok(match self {
            Self::Property(name) => properties.get(*name).cloned().map_or(Found::Null, Found::Text),
            Self::Text(text) => Found::Text((*text).to_owned()),
            Self::Whole(number) => Found::Whole(*number, i32::try_from(*number).is_ok()),
            Self::Real(number) => Found::Real(number.parse().unwrap()),
            Self::Boolean(value) => Found::Boolean(*value),
            Self::Null => Found::Null,
            Self::Minus(operand) => match operand.found(properties)? {
                Found::Whole(number, is_small) => Found::Whole(-number, is_small),
                Found::Real(number) => Found::Real(-number),
                _ => Found::Null,
            },
            Self::Not(operand) => truth(operand.condition(properties)?.map(|value| !value)),
            Self::And(left, right) => match left.condition(properties)? {
                Some(false) => Found::Boolean(false),
                left => match (left, right.condition(properties)?) {
                    (_, Some(false)) => Found::Boolean(false),
                    (Some(true), Some(true)) => Found::Boolean(true),
                    _ => Found::Null,
                },
            },
            Self::Or(left, right) => match left.condition(properties)? {
                Some(true) => Found::Boolean(true),
                left => match (left, right.condition(properties)?) {
                    (_, Some(true)) => Found::Boolean(true),
                    (Some(false), Some(false)) => Found::Boolean(false),
                    _ => Found::Null,
                },
            },
            Self::Equal(left, right, is_equal) => {
                let (left, right) = (left.found(properties)?, right.found(properties)?);
                let equal = match (&left, &right) {
                    (Found::Null, Found::Null) => Some(true),
                    (Found::Null, _) => None,
                    (_, Found::Null) => Some(false),
                    (Found::Text(left), Found::Text(right)) => Some(left == right),
                    (Found::Boolean(_), Found::Text(_)) => return Err(()),
                    (Found::Text(text), Found::Boolean(value)) => {
                        Some((text.to_lowercase() == "true") == *value)
                    }
                    (Found::Boolean(left), Found::Boolean(right)) => Some(left == right),
                    (Found::Boolean(_), _) | (_, Found::Boolean(_)) => Some(false),
                    _ => Some(compare(&left, &right)? == 0),
                };
                truth(equal.map(|equal| equal == *is_equal))
            }
            Self::Order(operator, left, right) => {
                let left = left.found(properties)?;
                if left == Found::Null {
                    return Ok(Found::Null);
                }
                let right = right.found(properties)?;
                if right == Found::Null {
                    return Ok(Found::Null);
                }
                let order = compare(&left, &right)?;
                Found::Boolean(match *operator {
                    ">" => order > 0,
                    ">=" => order >= 0,
                    "<" => order < 0,
                    _ => order <= 0,
                })
            }
            Self::Between(value, low, high, is_negated) => {
                let order = |operator, bound: &Tree| {
                    Box::new(Tree::Order(operator, value.clone(), Box::new(bound.clone())))
                };
                let both = if *is_negated {
                    Self::Or(order("<", low), order(">", high))
                } else {
                    Self::And(order(">=", low), order("<=", high))
                };
                both.found(properties)?
            }
            Self::IsNull(operand, is_null) => {
                Found::Boolean((operand.found(properties)? == Found::Null) == *is_null)
            }
            Self::In(name, texts, is_negated) => match properties.get(*name) {
                None => Found::Null,
                Some(text) => Found::Boolean(texts.contains(&&**text) != *is_negated),
            },
            Self::Search(operator, operand, wanted, is_negated) => {
                if wanted.is_empty() {
                    return Ok(Found::Boolean(false));
                }
                let Found::Text(text) = operand.found(properties)? else { return Ok(Found::Boolean(false)) };
                let is_there = match *operator {
                    "CONTAINS" => {
                        (0..=text.len()).any(|at| text.as_bytes()[at..].starts_with(wanted.as_bytes()))
                    }
                    "STARTSWITH" => text.as_bytes().starts_with(wanted.as_bytes()),
                    _ => text.as_bytes().ends_with(wanted.as_bytes()),
                };
                Found::Boolean(is_there != *is_negated)
            }
        })
    }
}

/// Two values of which one is a number, or two texts that have to be: below zero, zero or above.
fn compare(left: &Found, right: &Found) -> Result<i32, ()> {
    let real = |value: &Found| match value {
        Found::Whole(number, _) => Ok(*number as f64),
        Found::Real(number) => Ok(*number),
        Found::Text(text) => text.trim().parse::<f64>().map_err(drop),
        _ => Err(()),
    };
    // A whole number beside a text reads the text as one like itself.
    let whole = |value: &Found, other: &Found| match value {
        Found::Whole(number, _) => Ok(*number),
        Found::Text(text) => {
            let number: i64 = text.parse().map_err(drop)?;
            let Found::Whole(_, is_small) = other else { return Err(()) };
            if *is_small && i32::try_from(number).is_err() { Err(()) } else { Ok(number) }
        }
        _ => Err(()),
    };
    let sign = |ordering: std::cmp::Ordering| ordering as i32;
    match (left, right) {
        (Found::Whole(..), Found::Whole(..) | Found::Text(_)) | (Found::Text(_), Found::Whole(..)) => {
            Ok(sign(whole(left, right)?.cmp(&whole(right, left)?)))
        }
        _ => Ok(sign(real(left)?.total_cmp(&real(right)?))),
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "missing"];
const TEXTS: [&str; 8] = ["", "x", "abc", "bc", "5", "5.0", "it's", "日本"];

fn number() -> impl Strategy<Value = Tree> {
    prop_oneof![
        prop_oneof![0..10_i64, Just(2_147_483_647), Just(2_147_483_648), Just(i64::MAX)]
            .prop_map(Tree::Whole),
        proptest::sample::select(vec!["5.0", "5.5", ".5", "1e3", "9.", "2147483648.0"]).prop_map(Tree::Real),
    ]
}

fn property() -> impl Strategy<Value = Tree> {
    proptest::sample::select(NAMES.to_vec()).prop_map(Tree::Property)
}

/// What `<` takes, with conditions inside, which it takes behind a sign.
fn ordered(inside: impl Strategy<Value = Tree> + 'static) -> BoxedStrategy<Tree> {
    let minus = prop_oneof![number(), property(), inside].prop_map(|operand| Tree::Minus(Box::new(operand)));
    prop_oneof![4 => property(), 4 => number(), 1 => minus].boxed()
}

/// What `=` takes but for `NULL`.
fn operand(inside: BoxedStrategy<Tree>) -> BoxedStrategy<Tree> {
    prop_oneof![
        4 => ordered(inside.clone()),
        2 => proptest::sample::select(TEXTS.to_vec()).prop_map(Tree::Text),
        1 => any::<bool>().prop_map(Tree::Boolean),
        1 => inside,
    ]
    .boxed()
}

/// Any expression that compiles as a whole.
pub(super) fn condition() -> BoxedStrategy<Tree> {
    let leaf = prop_oneof![property(), any::<bool>().prop_map(Tree::Boolean), Just(Tree::Null)];
    leaf.prop_recursive(4, 40, 3, |inside| {
        let inside = inside.boxed();
        // A literal or a property in parentheses is still one, with rules of its own; a negation is a condition for sure.
        let condition = inside.clone().prop_map(|tree| Tree::Not(Box::new(tree))).boxed();
        let orders = proptest::sample::select(vec![">", ">=", "<", "<="]);
        let searches = proptest::sample::select(vec!["CONTAINS", "STARTSWITH", "ENDSWITH"]);
        let text = proptest::sample::select(TEXTS.to_vec());
        let ordered = ordered(condition.clone());
        let operand = operand(condition);
        let boxed = |left: Tree, right: Tree| (Box::new(left), Box::new(right));
        prop_oneof![
            (inside.clone(), inside.clone()).prop_map(move |(left, right)| {
                let (left, right) = boxed(left, right);
                Tree::And(left, right)
            }),
            (inside.clone(), inside.clone()).prop_map(move |(left, right)| {
                let (left, right) = boxed(left, right);
                Tree::Or(left, right)
            }),
            inside.prop_map(|tree| Tree::Not(Box::new(tree))),
            (operand.clone(), operand.clone(), any::<bool>())
                .prop_filter("TRUE = 5 does not compile", |(left, right, _)| {
                    !matches!(
                        (left, right),
                        (Tree::Boolean(_), Tree::Text(_) | Tree::Whole(_) | Tree::Real(_))
                    )
                })
                .prop_map(move |(left, right, is_equal)| {
                    let (left, right) = boxed(left, right);
                    Tree::Equal(left, right, is_equal)
                }),
            (orders, ordered.clone(), ordered.clone()).prop_map(move |(operator, left, right)| {
                let (left, right) = boxed(left, right);
                Tree::Order(operator, left, right)
            }),
            (ordered.clone(), ordered.clone(), ordered, any::<bool>())
                .prop_filter("bounds in the wrong order do not compile", |(_, low, high, is_negated)| {
                    let value = |tree: &Tree| match tree {
                        Tree::Whole(number) => Some(*number as f64),
                        Tree::Real(number) => number.parse().ok(),
                        _ => None,
                    };
                    *is_negated || value(low).zip(value(high)).is_none_or(|(low, high)| low <= high)
                })
                .prop_map(move |(value, low, high, is_negated)| {
                    let (low, high) = boxed(low, high);
                    Tree::Between(Box::new(value), low, high, is_negated)
                }),
            (operand.clone(), any::<bool>())
                .prop_map(|(operand, is_null)| Tree::IsNull(Box::new(operand), is_null)),
            (
                proptest::sample::select(NAMES.to_vec()),
                proptest::collection::vec(text.clone(), 1..6),
                any::<bool>()
            )
                .prop_map(|(name, texts, is_negated)| Tree::In(name, texts, is_negated)),
            (searches, operand, text, any::<bool>()).prop_map(|(operator, operand, wanted, is_negated)| {
                Tree::Search(operator, Box::new(operand), wanted, is_negated)
            }),
        ]
    })
    .boxed()
}

pub(super) fn properties() -> impl Strategy<Value = Properties> {
    // Numbers that Rust and Java read alike; the forms that only Java knows are in the file of Apache's verdicts.
    let value = proptest::sample::select(vec![
        "",
        "x",
        "abc",
        "5",
        "5.0",
        "5.5",
        "-5",
        "0",
        "9",
        "true",
        "TRUE",
        "false",
        "it's",
        "日本語",
        "2147483648",
        "1e3",
        "9223372036854775807",
    ]);
    let value = value.prop_map(str::to_owned);
    let name = proptest::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned);
    proptest::collection::btree_map(name, value, 0..4)
}
