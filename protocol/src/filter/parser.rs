//! The grammar, and what each operator asks of its operands.
//!
//! ```text
//! or         := and ( OR and )*
//! and        := equality ( AND equality )*
//! equality   := comparison ( "=" comparison | "<>" comparison | IS NULL | IS NOT NULL )*
//! comparison := unary ( (">" | ">=" | "<" | "<=") unary
//!                     | [NOT] CONTAINS text | [NOT] STARTSWITH text | [NOT] ENDSWITH text
//!                     | [NOT] BETWEEN unary AND unary
//!                     | [NOT] IN "(" text ( "," text )* ")" )*
//! unary      := "+" unary | "-" unary | NOT unary | primary
//! primary    := literal | name | "(" or ")"
//! ```
//!
//! One token decides which way to go; behind `NOT` and `IS`, once an operand is there, the next must fit. The program is
//! written on the way, operands in front of their operators.

use winnow::combinator::opt;
use winnow::error::ParserError;
use winnow::prelude::*;
use winnow::stream::{Stateful, Stream, TokenSlice};
use winnow::token::any;

use super::lexer::{Keyword, Placed, Symbol, Token};
use super::program::{Comparison, Program, Search, Skipping, Step};
use super::value::{double, long};
use super::{FilterError, FilterErrorCause, NESTING_MAX, STEPS_MAX};

/// What follows of an expression, and what was made of it so far.
type Tokens<'t, 'a> = Stateful<TokenSlice<'t, Placed<'a>>, Draft<'a>>;
type Parsed<T> = Result<T, Failure>;

/// A filter in the making.
#[derive(Debug)]
struct Draft<'a> {
    program: Program,
    /// In the order in which they come up.
    names: Vec<&'a str>,
    nesting: usize,
    /// Length of the expression.
    end: usize,
}

/// What there is to know of an operand without a message.
#[derive(Clone, Copy, Debug)]
struct Operand {
    /// Where it begins.
    at: usize,
    /// Its first step.
    from: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Property,
    Text,
    Null,
    Boolean,
    Whole(i64),
    Real(f64),
    /// With a `-` in front: a number, or null.
    Negated,
    Condition,
}

impl Kind {
    fn is_literal(self) -> bool {
        !matches!(self, Self::Property | Self::Negated | Self::Condition)
    }

    fn is_condition(self) -> bool {
        matches!(self, Self::Condition | Self::Boolean | Self::Null)
    }

    /// Whether `<` and its like take it.
    fn is_ordered(self) -> bool {
        matches!(self, Self::Property | Self::Negated | Self::Whole(_) | Self::Real(_))
    }
}

/// Why parsing ended, and at which byte.
#[derive(Debug)]
pub(super) struct Failure {
    at: usize,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Expected(&'static str),
    TooDeep,
    TooManySteps,
}

impl Failure {
    fn expected(at: usize, expected: &'static str) -> Self {
        Self { at, cause: Cause::Expected(expected) }
    }

    /// The error with the character it is about, and what stands there.
    pub(super) fn locate(self, expression: &str) -> FilterError {
        let (before, found) = expression.split_at(self.at);
        let cause = match self.cause {
            Cause::Expected(expected) => FilterErrorCause::Unexpected { expected, found: shown(found) },
            Cause::TooDeep => FilterErrorCause::TooDeep,
            Cause::TooManySteps => FilterErrorCause::TooManySteps,
        };
        FilterError { character: before.chars().count() + 1, cause }
    }
}

/// What an error shows of the rest of an expression: its first word, on one line.
fn shown(rest: &str) -> Box<str> {
    const CHARACTERS_MAX: usize = 24;
    let is_part = |character: char| !character.is_whitespace() && !character.is_control();
    let mut characters = rest.chars();
    let shown: String =
        characters.by_ref().take_while(|character| is_part(*character)).take(CHARACTERS_MAX).collect();
    match shown.len() {
        0 if rest.is_empty() => "the end".into(),
        0 => "a character that belongs nowhere".into(),
        _ => shown.into(),
    }
}

impl<'t, 'a> ParserError<Tokens<'t, 'a>> for Failure {
    type Inner = Self;

    fn from_input(input: &Tokens<'t, 'a>) -> Self {
        Self::expected(position(input), "something else")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// The names of its properties, sorted, and the program of an expression.
pub(super) fn parse(tokens: &[Placed<'_>], expression: &str) -> Parsed<(Box<[Box<str>]>, Program)> {
    let state = Draft { program: Program::default(), names: Vec::new(), nesting: 0, end: expression.len() };
    let mut input = Stateful { input: TokenSlice::new(tokens), state };
    let whole = or_expression(&mut input)?;
    condition(&mut input, whole)?;
    // What stands where an operator could must be a token; nothing behind it is looked at.
    if let Some(Placed { at, token: Token::Unknown }) = input.input.first() {
        return Err(Failure::expected(*at, "an operator or the end"));
    }
    let Draft { mut program, names, .. } = input.state;
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let places: Vec<usize> = names.iter().map(|name| sorted.partition_point(|other| other < name)).collect();
    program.finish(&places);
    Ok((sorted.into_iter().map(Box::from).collect(), program))
}

fn or_expression(input: &mut Tokens<'_, '_>) -> Parsed<Operand> {
    let mut left = and_expression(input)?;
    while take_keyword(input, Keyword::Or)? {
        left = joined(input, left, and_expression, Skipping::Boolean(true), Step::Or)?;
    }
    Ok(left)
}

fn and_expression(input: &mut Tokens<'_, '_>) -> Parsed<Operand> {
    let mut left = equality(input)?;
    while take_keyword(input, Keyword::And)? {
        left = joined(input, left, equality, Skipping::Boolean(false), Step::And)?;
    }
    Ok(left)
}

/// The rest of a conjunction or disjunction, of which the left side is there.
fn joined<'t, 'a>(
    input: &mut Tokens<'t, 'a>,
    left: Operand,
    right: impl Fn(&mut Tokens<'t, 'a>) -> Parsed<Operand>,
    decided: Skipping,
    operator: Step,
) -> Parsed<Operand> {
    condition(input, left)?;
    let skip = push(input, Step::SkipIf { found: decided, end: 0 })?;
    let right = right(input)?;
    condition(input, right)?;
    push(input, operator)?;
    input.state.program.land(skip);
    Ok(Operand { kind: Kind::Condition, ..left })
}

fn equality(input: &mut Tokens<'_, '_>) -> Parsed<Operand> {
    enum Operator {
        Equal,
        NotEqual,
        Is,
    }
    let mut left = comparison(input)?;
    while let Some(operator) = take(input, |token| match token {
        Token::Symbol(Symbol::Equal) => Some(Operator::Equal),
        Token::Symbol(Symbol::NotEqual) => Some(Operator::NotEqual),
        Token::Keyword(Keyword::Is) => Some(Operator::Is),
        _ => None,
    })? {
        match operator {
            Operator::Is => is_null(input)?,
            Operator::Equal | Operator::NotEqual => {
                let right = comparison(input)?;
                check_equal(left, right)?;
                push(input, Step::Equal)?;
                if matches!(operator, Operator::NotEqual) {
                    push(input, Step::Not)?;
                }
            }
        }
        left.kind = Kind::Condition;
    }
    Ok(left)
}

fn is_null(input: &mut Tokens<'_, '_>) -> Parsed<()> {
    let is_negated = take_keyword(input, Keyword::Not)?;
    if !take_keyword(input, Keyword::Null)? {
        let expected = if is_negated { "NULL behind IS NOT" } else { "NULL or NOT NULL behind IS" };
        return Err(Failure::expected(position(input), expected));
    }
    push(input, Step::IsNull)?;
    if is_negated {
        push(input, Step::Not)?;
    }
    Ok(())
}

fn check_equal(left: Operand, right: Operand) -> Parsed<()> {
    for side in [left, right] {
        if side.kind == Kind::Null {
            return Err(Failure::expected(side.at, "a value beside = or <>; IS NULL asks for none"));
        }
    }
    if left.kind == Kind::Boolean && right.kind.is_literal() && right.kind != Kind::Boolean {
        return Err(Failure::expected(right.at, "TRUE, FALSE or a property to compare TRUE or FALSE with"));
    }
    Ok(())
}

/// What follows an operand, by its first token, or by the one behind `NOT`.
#[derive(Clone, Copy)]
enum Predicate {
    Compare(Comparison),
    Search(Search),
    Between,
    In,
}

fn predicate(token: Token<'_>) -> Option<Predicate> {
    Some(match token {
        Token::Symbol(Symbol::Greater) => Predicate::Compare(Comparison::Greater),
        Token::Symbol(Symbol::GreaterOrEqual) => Predicate::Compare(Comparison::GreaterOrEqual),
        Token::Symbol(Symbol::Less) => Predicate::Compare(Comparison::Less),
        Token::Symbol(Symbol::LessOrEqual) => Predicate::Compare(Comparison::LessOrEqual),
        _ => return negatable(token),
    })
}

fn negatable(token: Token<'_>) -> Option<Predicate> {
    Some(match token {
        Token::Keyword(Keyword::Contains) => Predicate::Search(Search::Contains),
        Token::Keyword(Keyword::StartsWith) => Predicate::Search(Search::StartsWith),
        Token::Keyword(Keyword::EndsWith) => Predicate::Search(Search::EndsWith),
        Token::Keyword(Keyword::Between) => Predicate::Between,
        Token::Keyword(Keyword::In) => Predicate::In,
        _ => return None,
    })
}

fn comparison(input: &mut Tokens<'_, '_>) -> Parsed<Operand> {
    let mut left = unary(input)?;
    loop {
        let is_negated = take_keyword(input, Keyword::Not)?;
        let found = if is_negated {
            Some(expect(input, "CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN behind NOT", negatable)?)
        } else {
            take(input, predicate)?
        };
        match found {
            None => return Ok(left),
            Some(Predicate::Compare(comparison)) => compare(input, left, comparison)?,
            Some(Predicate::Search(search)) => {
                let wanted = unquoted(expect(input, "a text in quotes", text)?);
                if wanted.is_empty() {
                    // It is in no text, and RocketMQ does not even look at the operand.
                    input.state.program.cut(left.from);
                    push(input, Step::Boolean(false))?;
                } else {
                    push(input, Step::Search { search, wanted, is_negated })?;
                }
            }
            Some(Predicate::Between) => between(input, left, is_negated)?,
            Some(Predicate::In) => is_in(input, left, is_negated)?,
        }
        left.kind = Kind::Condition;
    }
}

fn compare(input: &mut Tokens<'_, '_>, left: Operand, comparison: Comparison) -> Parsed<()> {
    let expected = match comparison {
        Comparison::Greater => "a number or a property beside >",
        Comparison::GreaterOrEqual => "a number or a property beside >=",
        Comparison::Less => "a number or a property beside <",
        Comparison::LessOrEqual => "a number or a property beside <=",
    };
    let skip = push(input, Step::SkipIf { found: Skipping::Null, end: 0 })?;
    let right = unary(input)?;
    check_ordered(left, expected)?;
    check_ordered(right, expected)?;
    push(input, Step::Compare(comparison))?;
    input.state.program.land(skip);
    Ok(())
}

fn check_ordered(operand: Operand, expected: &'static str) -> Parsed<()> {
    if operand.kind.is_ordered() { Ok(()) } else { Err(Failure::expected(operand.at, expected)) }
}

fn between(input: &mut Tokens<'_, '_>, value: Operand, is_negated: bool) -> Parsed<()> {
    let expected = "a number or a property for BETWEEN";
    let skip = push(input, Step::SkipIf { found: Skipping::Null, end: 0 })?;
    let low = unary(input)?;
    let decided = push(input, Step::LowerBound { is_negated, end: 0 })?;
    expect(input, "AND between the bounds of BETWEEN", |token| {
        (token == Token::Keyword(Keyword::And)).then_some(())
    })?;
    let high = unary(input)?;
    for operand in [value, low, high] {
        check_ordered(operand, expected)?;
    }
    let is_reversed = match (low.kind, high.kind) {
        (Kind::Whole(low), Kind::Whole(high)) => low > high,
        (Kind::Whole(low), Kind::Real(high)) => low as f64 > high,
        (Kind::Real(low), Kind::Whole(high)) => low > high as f64,
        (Kind::Real(low), Kind::Real(high)) => low > high,
        _ => false,
    };
    if is_reversed && !is_negated {
        return Err(Failure::expected(high.at, "an upper bound that is not below the lower one"));
    }
    push(input, Step::UpperBound { is_negated })?;
    input.state.program.land(decided);
    input.state.program.land(skip);
    Ok(())
}

fn is_in(input: &mut Tokens<'_, '_>, left: Operand, is_negated: bool) -> Parsed<()> {
    expect(input, "( behind IN", |token| (token == Token::Symbol(Symbol::Open)).then_some(()))?;
    let mut texts = Vec::new();
    loop {
        texts.push(unquoted(expect(input, "a text in quotes", text)?));
        let goes_on = expect(input, ", or ) in the list of IN", |token| match token {
            Token::Symbol(Symbol::Comma) => Some(true),
            Token::Symbol(Symbol::Close) => Some(false),
            _ => None,
        })?;
        if !goes_on {
            break;
        }
    }
    if left.kind != Kind::Property {
        return Err(Failure::expected(left.at, "a property in front of IN"));
    }
    texts.sort_unstable();
    texts.dedup();
    push(input, Step::In { texts: texts.into(), is_negated })?;
    Ok(())
}

fn unary(input: &mut Tokens<'_, '_>) -> Parsed<Operand> {
    enum Sign {
        Plus,
        Minus,
        Not,
    }
    let (at, from) = (position(input), input.state.program.steps());
    let sign = take(input, |token| match token {
        Token::Symbol(Symbol::Plus) => Some(Sign::Plus),
        Token::Symbol(Symbol::Minus) => Some(Sign::Minus),
        Token::Keyword(Keyword::Not) => Some(Sign::Not),
        _ => None,
    })?;
    let Some(sign) = sign else { return primary(input) };
    let operand = nested(input, at, unary)?;
    let kind = match sign {
        Sign::Plus => operand.kind,
        Sign::Minus => {
            push(input, Step::Negate)?;
            Kind::Negated
        }
        Sign::Not => {
            condition(input, operand)?;
            push(input, Step::Not)?;
            Kind::Condition
        }
    };
    Ok(Operand { at, from, kind })
}

fn primary(input: &mut Tokens<'_, '_>) -> Parsed<Operand> {
    let (at, from) = (position(input), input.state.program.steps());
    let token = expect(input, "a property, a literal or (", |token| match token {
        Token::Name(_) | Token::Text(_) | Token::Integer(_) | Token::Decimal(_) => Some(token),
        Token::Symbol(Symbol::Open) => Some(token),
        Token::Keyword(Keyword::True | Keyword::False | Keyword::Null) => Some(token),
        _ => None,
    })?;
    let (step, kind) = match token {
        Token::Name(name) => (Step::Property(place_of(input, name)), Kind::Property),
        Token::Text(quoted) => (Step::Text(unquoted(quoted)), Kind::Text),
        Token::Integer(digits) => whole(digits, at)?,
        Token::Decimal(digits) => real(digits, at)?,
        Token::Keyword(Keyword::Null) => (Step::Null, Kind::Null),
        Token::Keyword(keyword) => (Step::Boolean(keyword == Keyword::True), Kind::Boolean),
        Token::Symbol(_) | Token::Unknown => {
            let inside = nested(input, at, or_expression)?;
            expect(input, ")", |token| (token == Token::Symbol(Symbol::Close)).then_some(()))?;
            return Ok(Operand { at, ..inside });
        }
    };
    push(input, step)?;
    Ok(Operand { at, from, kind })
}

/// A whole number; a property beside one of 32 bits is read with 32 bits as well.
fn whole(digits: &str, at: usize) -> Parsed<(Step, Kind)> {
    let number =
        long(digits).map_err(|_too_large| Failure::expected(at, "a number up to 9223372036854775807"))?;
    Ok((i32::try_from(number).map_or(Step::Long(number), Step::Int), Kind::Whole(number)))
}

/// Zero is none: RocketMQ takes it for a number too small.
fn real(digits: &str, at: usize) -> Parsed<(Step, Kind)> {
    let number = double(digits).ok().filter(|number| number.is_finite() && *number > 0.0);
    let number = number.ok_or(Failure::expected(at, "a number from 4.9e-324 to 1.8e308, or 0"))?;
    Ok((Step::Double(number), Kind::Real(number)))
}

/// Goes one level deeper.
fn nested<'t, 'a>(
    input: &mut Tokens<'t, 'a>,
    at: usize,
    inside: impl Fn(&mut Tokens<'t, 'a>) -> Parsed<Operand>,
) -> Parsed<Operand> {
    if input.state.nesting == NESTING_MAX {
        return Err(Failure { at, cause: Cause::TooDeep });
    }
    input.state.nesting += 1;
    let operand = inside(input)?;
    input.state.nesting -= 1;
    Ok(operand)
}

/// Makes sure that the operand on top is a condition; of a property it makes one.
fn condition(input: &mut Tokens<'_, '_>, operand: Operand) -> Parsed<()> {
    match operand.kind {
        kind if kind.is_condition() => Ok(()),
        Kind::Property => push(input, Step::Condition).map(drop),
        _ => Err(Failure::expected(operand.at, "a condition or a property")),
    }
}

/// Adds a step, and gives its place.
fn push(input: &mut Tokens<'_, '_>, step: Step) -> Parsed<usize> {
    if input.state.program.steps() == STEPS_MAX {
        return Err(Failure { at: position(input), cause: Cause::TooManySteps });
    }
    Ok(input.state.program.push(step))
}

fn place_of<'a>(input: &mut Tokens<'_, 'a>, name: &'a str) -> usize {
    let names = &mut input.state.names;
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// Where the next token begins, or the expression ends.
fn position(input: &Tokens<'_, '_>) -> usize {
    input.peek_token().map_or(input.state.end, |placed| placed.at)
}

/// Takes the next token if it is what `wanted` knows.
fn take<'a, T>(input: &mut Tokens<'_, 'a>, wanted: impl Fn(Token<'a>) -> Option<T>) -> Parsed<Option<T>> {
    opt(any.verify_map(|placed: &Placed<'a>| wanted(placed.token))).parse_next(input)
}

/// Takes the next token, which must be what `wanted` knows.
fn expect<'a, T>(
    input: &mut Tokens<'_, 'a>,
    expected: &'static str,
    wanted: impl Fn(Token<'a>) -> Option<T>,
) -> Parsed<T> {
    let taken = take(input, wanted)?;
    taken.ok_or_else(|| Failure::expected(position(input), expected))
}

fn take_keyword(input: &mut Tokens<'_, '_>, keyword: Keyword) -> Parsed<bool> {
    take(input, |token| (token == Token::Keyword(keyword)).then_some(())).map(|taken| taken.is_some())
}

fn text(token: Token<'_>) -> Option<&str> {
    match token {
        Token::Text(text) => Some(text),
        _ => None,
    }
}

/// What a text says: two quotes inside it are one.
fn unquoted(text: &str) -> Box<str> {
    text.replace("''", "'").into()
}
