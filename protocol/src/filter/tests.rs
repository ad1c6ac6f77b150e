use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::message::properties;

mod naive;

fn check_error(expression: &str, expected: &str) {
    let error = Filter::compile(expression).expect_err(expression).to_string();
    assert_eq!(error, expected, "{expression}");
}

#[test]
fn errors_say_where_and_what_was_expected() {
    check_error("", "character 1: expected a property, a literal or (, found the end");
    check_error("a = 1 AND", "character 10: expected a property, a literal or (, found the end");
    check_error("a = 1;", "character 6: expected an operator or the end, found ;");
    check_error("a == 1", "character 4: expected a property, a literal or (, found =");
    check_error("a != 1", "character 3: expected an operator or the end, found !=");
    check_error("(a = 1", "character 7: expected ), found the end");
    check_error(
        "a NOT 'x'",
        "character 7: expected CONTAINS, STARTSWITH, ENDSWITH, BETWEEN or IN behind NOT, found 'x'",
    );
    check_error("a IS 5", "character 6: expected NULL or NOT NULL behind IS, found 5");
    check_error("a IS NOT 5", "character 10: expected NULL behind IS NOT, found 5");
    check_error("a CONTAINS b", "character 12: expected a text in quotes, found b");
    check_error("a IN ('x', 5)", "character 12: expected a text in quotes, found 5)");
    check_error("a IN ('x'", "character 10: expected , or ) in the list of IN, found the end");
    check_error("5 IN ('x')", "character 1: expected a property in front of IN, found 5");
    check_error(
        "a = NULL",
        "character 5: expected a value beside = or <>; IS NULL asks for none, found NULL",
    );
    check_error(
        "TRUE = 5",
        "character 8: expected TRUE, FALSE or a property to compare TRUE or FALSE with, found 5",
    );
    check_error("日本 = 'x'", "character 1: expected a property, a literal or (, found 日本");
    check_error(
        "a = '日本' AND b > TRUE",
        "character 18: expected a number or a property beside >, found TRUE",
    );
    check_error("NOT a > 5", "character 1: expected a number or a property beside >, found NOT");
    check_error("a BETWEEN 5 OR 7", "character 13: expected AND between the bounds of BETWEEN, found OR");
    check_error(
        "a BETWEEN 7 AND 5",
        "character 17: expected an upper bound that is not below the lower one, found 5",
    );
    check_error("a > 0.0", "character 5: expected a number from 4.9e-324 to 1.8e308, or 0, found 0.0");
    check_error(
        "a = 9223372036854775808",
        "character 5: expected a number up to 9223372036854775807, found 9223372036854775808",
    );
    check_error("a = 1 AND 5", "character 11: expected a condition or a property, found 5");
    check_error("-a", "character 1: expected a condition or a property, found -a");
    check_error("a = 'x", "character 5: expected a property, a literal or (, found 'x");
    check_error(
        "a = 1\u{0}",
        "character 6: expected an operator or the end, found a character that belongs nowhere",
    );
    let long = format!("a = {}", "9".repeat(100));
    let shown = format!("character 5: expected a number up to 9223372036854775807, found {}", "9".repeat(24));
    check_error(&long, &shown);
}

#[test]
fn expressions_are_bounded() {
    let nested = |levels: usize| format!("{}a = 5{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Filter::compile(&nested(NESTING_MAX)).is_ok());
    let error = Filter::compile(&nested(NESTING_MAX + 1)).unwrap_err();
    assert_eq!((error.character, error.cause), (NESTING_MAX + 1, FilterErrorCause::TooDeep));
    let error = Filter::compile(&"NOT ".repeat(10_000)).unwrap_err();
    assert_eq!(error.cause, FilterErrorCause::TooDeep);

    let chain = |conditions: usize| vec!["a = 5"; conditions].join(" OR ");
    let most = chain((STEPS_MAX + 2) / 5);
    assert!(Filter::compile(&most).unwrap().matches(|_| Some("5")));
    assert_eq!(Filter::compile(&chain(STEPS_MAX)).unwrap_err().cause, FilterErrorCause::TooManySteps);

    let texts = |count: usize| (0..count).map(|text| format!("'{text}'")).collect::<Vec<_>>().join(",");
    let list = Filter::compile(&format!("a IN ({})", texts(5000))).unwrap();
    assert!(list.matches(|_| Some("4999")) && !list.matches(|_| Some("5000")));

    let long = format!("a = '{}'", "x".repeat(EXPRESSION_BYTES_MAX));
    assert_eq!(Filter::compile(&long).unwrap_err().cause, FilterErrorCause::TooLong { bytes: long.len() });
}

/// What looks further than a token, if it is found at every token, would take the square of the expression's length.
#[test]
fn the_longest_expressions_are_read_in_linear_time() {
    for piece in [
        " ",
        "-",
        "--",
        "0",
        "00",
        "1",
        "1e",
        "'",
        "''",
        "/*",
        "(",
        "a ",
        "a.",
        "NOT ",
        "a OR ",
        "a IN ('x') IN ",
        "\n",
        "1.",
    ] {
        let expression = piece.repeat(EXPRESSION_BYTES_MAX / piece.len());
        for expression in [format!("a = 5 b {expression}"), expression] {
            let began = Instant::now();
            Filter::compile(&expression[..EXPRESSION_BYTES_MAX.min(expression.len())]).ok();
            // Hundreds of times what it takes, and a small part of what a square would.
            assert!(began.elapsed() < Duration::from_secs(1), "{piece:?} took {:?}", began.elapsed());
        }
    }
}

#[test]
fn a_message_is_matched_by_its_properties_as_java_reads_them() {
    let filter = Filter::compile("TAGS = 'B' AND weight > 3 AND missing IS NULL AND a = '1\u{1}2'").unwrap();
    let mut bytes = Vec::new();
    for (name, value) in [("TAGS", "A"), ("weight", "4"), ("TAGS", "B"), ("other", "x"), ("a", "1\u{1}2")] {
        properties::write(name, value, &mut bytes);
    }
    assert!(filter.matches_message(Properties::new(&bytes)));
    properties::write("missing", "x", &mut bytes);
    assert!(!filter.matches_message(Properties::new(&bytes)));
    assert!(!filter.matches_message(Properties::new(b"")));
}

#[test]
fn memory_is_counted() {
    let small = Filter::compile("a").unwrap().memory_bytes();
    let large = Filter::compile(&format!("a = '{}'", "x".repeat(10_000))).unwrap().memory_bytes();
    assert!(small < 1000 && large > 10_000 && large < 12_000, "{small} {large}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn evaluation_agrees_with_a_naive_one(
        expression in naive::condition(),
        properties in naive::properties(),
    ) {
        let text = expression.to_string();
        let property = |name: &str| properties.get(name).map(String::as_str);
        let filter = Filter::compile(&text);
        prop_assert!(filter.is_ok(), "{text}: {filter:?}");
        prop_assert_eq!(filter.unwrap().evaluate(property).map_err(drop), expression.condition(&properties), "{}", text);
    }

    #[test]
    fn no_text_panics(expression: String) {
        Filter::compile(&expression).ok();
    }

    #[test]
    fn no_tokens_panic(tokens in proptest::collection::vec(
        proptest::sample::select(vec![
            "a", "b", "5", "5.5", "'x'", "TRUE", "NULL", "NOT", "AND", "OR", "=", "<>", ">", "<=", "(", ")", ",", "IS", "IN", "BETWEEN",
            "CONTAINS", "+", "-", "/*", "*/", "--", "\n", ";", "'", ".", "''",
        ]),
        0..12,
    )) {
        if let Ok(filter) = Filter::compile(&tokens.join(" ")) {
            filter.evaluate(|name| (name == "a").then_some("5")).ok();
        }
    }
}
