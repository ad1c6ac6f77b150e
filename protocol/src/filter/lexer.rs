//! Tokens of an expression.
//!
//! | token   | looks like                                                                     |
//! |---------|--------------------------------------------------------------------------------|
//! | name    | `[A-Za-z_$][A-Za-z0-9_$]*`; a keyword in any case is none                      |
//! | text    | `'it''s'`                                                                      |
//! | integer | `0`, or `[1-9][0-9]*` with an optional `L`                                     |
//! | decimal | `1.5` `.5` `1.` `1e3`                                                          |
//! | symbol  | `= <> > >= < <= ( ) , + -`                                                     |
//!
//! Between them stand spaces, tabs, `\n`, `\r`, `\f`, `-- …` up to the end of a line, which must be there, and `/* … */`.

use winnow::ascii::digit1;
use winnow::combinator::{alt, delimited, dispatch, opt, peek, repeat, terminated};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location};
use winnow::token::{any, one_of, take_till, take_until, take_while};

/// A token and where it begins, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed<'a> {
    pub(super) at: usize,
    pub(super) token: Token<'a>,
}

/// A piece of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Keyword(Keyword),
    /// Of a property.
    Name(&'a str),
    /// What stands between the outer quotes.
    Text(&'a str),
    /// Its digits.
    Integer(&'a str),
    Decimal(&'a str),
    Symbol(Symbol),
    /// What begins no token. Nothing follows: the parser cannot get past it.
    Unknown,
}

/// The words that are no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Between,
    Contains,
    EndsWith,
    False,
    In,
    Is,
    Not,
    Null,
    Or,
    StartsWith,
    True,
}

const KEYWORDS: [(&str, Keyword); 12] = [
    ("AND", Keyword::And),
    ("BETWEEN", Keyword::Between),
    ("CONTAINS", Keyword::Contains),
    ("ENDSWITH", Keyword::EndsWith),
    ("FALSE", Keyword::False),
    ("IN", Keyword::In),
    ("IS", Keyword::Is),
    ("NOT", Keyword::Not),
    ("NULL", Keyword::Null),
    ("OR", Keyword::Or),
    ("STARTSWITH", Keyword::StartsWith),
    ("TRUE", Keyword::True),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
}

type Source<'a> = LocatingSlice<&'a str>;
/// Where nothing fits, the position alone says what there is to say.
type Lexed<T> = Result<T, EmptyError>;

/// The tokens of an expression, up to and with the first that is none.
pub(super) fn tokens(expression: &str) -> Vec<Placed<'_>> {
    let lines_end = expression.rfind(LINE_ENDS).unwrap_or(0);
    let mut source = LocatingSlice::new(expression);
    let mut tokens = Vec::new();
    loop {
        skip_space(&mut source, lines_end);
        if source.is_empty() {
            return tokens;
        }
        let at = source.current_token_start();
        let token = token(&mut source).unwrap_or(Token::Unknown);
        tokens.push(Placed { at, token });
        match token {
            Token::Unknown => return tokens,
            // Digits behind a zero are numbers of their own. They are one here: two numbers in a row belong nowhere,
            // however many follow, and to try each of them would cost all that follow it.
            Token::Integer("0") => {
                let (at, rest): (_, Lexed<&str>) = (source.current_token_start(), digit1(&mut source));
                tokens.extend(rest.map(|rest| Placed { at, token: Token::Integer(rest) }));
            }
            _ => {}
        }
    }
}

const LINE_ENDS: [char; 2] = ['\n', '\r'];
const SPACE: [char; 5] = [' ', '\t', '\n', '\r', '\u{C}'];

/// Skips what may stand between tokens. Behind `lines_end` no line ends, so that `--` begins no comment there: to look
/// for its end would cost the rest of the expression each time.
fn skip_space(source: &mut Source<'_>, lines_end: usize) {
    let space = |source: &mut Source<'_>| -> Lexed<()> { take_while(1.., SPACE).void().parse_next(source) };
    let line = |source: &mut Source<'_>| -> Lexed<()> {
        if source.current_token_start() >= lines_end {
            return Err(EmptyError);
        }
        ("--", take_till(0.., LINE_ENDS), one_of(LINE_ENDS)).void().parse_next(source)
    };
    let block = |source: &mut Source<'_>| -> Lexed<()> {
        ("/*", take_until(0.., "*/"), "*/").void().parse_next(source)
    };
    let skipped: Lexed<()> = repeat(0.., alt((space, line, block))).parse_next(source);
    // Nothing to skip is no failure.
    skipped.ok();
}

fn token<'a>(source: &mut Source<'a>) -> Lexed<Token<'a>> {
    dispatch! { peek(any);
        'A'..='Z' | 'a'..='z' | '_' | '$' => word,
        '\'' => text.map(Token::Text),
        '0'..='9' | '.' => number,
        _ => symbol.map(Token::Symbol),
    }
    .parse_next(source)
}

fn word<'a>(source: &mut Source<'a>) -> Lexed<Token<'a>> {
    let letters = take_while(1.., ('A'..='Z', 'a'..='z', '0'..='9', '_', '$'));
    letters
        .map(|word: &str| {
            let keyword = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
            keyword.map_or(Token::Name(word), |(_, keyword)| Token::Keyword(*keyword))
        })
        .parse_next(source)
}

fn text<'a>(source: &mut Source<'a>) -> Lexed<&'a str> {
    let inside = repeat::<_, _, (), _, _>(0.., alt((take_till(1.., '\''), "''")));
    delimited('\'', inside.take(), '\'').parse_next(source)
}

fn number<'a>(source: &mut Source<'a>) -> Lexed<Token<'a>> {
    alt((decimal.map(Token::Decimal), integer.map(Token::Integer))).parse_next(source)
}

fn decimal<'a>(source: &mut Source<'a>) -> Lexed<&'a str> {
    let exponent = |source: &mut Source<'a>| -> Lexed<()> {
        (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1).void().parse_next(source)
    };
    alt((
        (digit1, '.', opt(digit1), opt(exponent)).void(),
        ('.', digit1, opt(exponent)).void(),
        (digit1, exponent).void(),
    ))
    .take()
    .parse_next(source)
}

fn integer<'a>(source: &mut Source<'a>) -> Lexed<&'a str> {
    dispatch! { peek(any);
        '0' => "0",
        _ => terminated(digit1, opt(one_of(['l', 'L']))),
    }
    .parse_next(source)
}

fn symbol(source: &mut Source<'_>) -> Lexed<Symbol> {
    dispatch! { any;
        '=' => |_: &mut Source<'_>| Ok(Symbol::Equal),
        '(' => |_: &mut Source<'_>| Ok(Symbol::Open),
        ')' => |_: &mut Source<'_>| Ok(Symbol::Close),
        ',' => |_: &mut Source<'_>| Ok(Symbol::Comma),
        '+' => |_: &mut Source<'_>| Ok(Symbol::Plus),
        '-' => |_: &mut Source<'_>| Ok(Symbol::Minus),
        '<' => alt(('>'.value(Symbol::NotEqual), opt('=').map(|equal| match equal {
            Some(_) => Symbol::LessOrEqual,
            None => Symbol::Less,
        }))),
        '>' => opt('=').map(|equal| match equal {
            Some(_) => Symbol::GreaterOrEqual,
            None => Symbol::Greater,
        }),
        _ => winnow::combinator::fail,
    }
    .parse_next(source)
}
