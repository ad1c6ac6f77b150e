//! What Apache's own `rocketmq-filter` says of some two thousand expressions, each for every set of properties.
//!
//! `filter/apache` is the program that asked it; its `pom.xml` says how to ask again.

use std::collections::BTreeMap;

use serde::Deserialize;
use skylark_protocol::filter::Filter;

const VERDICTS: &str = include_str!("filter/verdicts.jsonl");

#[derive(Deserialize)]
struct Sets {
    properties: Vec<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Asked {
    expression: String,
    /// A letter per set of properties; none if Apache does not compile the expression.
    verdicts: Option<String>,
}

#[test]
fn every_verdict_is_apache_s() {
    let mut lines = VERDICTS.lines();
    let sets: Sets = serde_json::from_str(lines.next().unwrap()).unwrap();
    let (mut expressions, mut refused, mut verdicts) = (0, 0, 0);
    let mut wrong = Vec::new();
    for line in lines {
        let Asked { expression, verdicts: expected } = serde_json::from_str(line).unwrap();
        expressions += 1;
        let filter = match (Filter::compile(&expression), expected) {
            (Err(_), None) => {
                refused += 1;
                continue;
            }
            (Err(error), Some(_)) => {
                wrong.push(format!("{expression:?} does not compile: {error}"));
                continue;
            }
            (Ok(_), None) => {
                wrong.push(format!("{expression:?} compiles"));
                continue;
            }
            (Ok(filter), Some(expected)) => (filter, expected),
        };
        let (filter, expected) = filter;
        assert_eq!(expected.len(), sets.properties.len(), "{expression:?}");
        for (properties, expected) in sets.properties.iter().zip(expected.chars()) {
            verdicts += 1;
            let found = match filter.evaluate(|name| properties.get(name).map(String::as_str)) {
                Ok(Some(true)) => 't',
                Ok(Some(false)) => 'f',
                Ok(None) => 'n',
                Err(_) => 'e',
            };
            if found != expected {
                wrong.push(format!("{expression:?} with {properties:?} is {found}, not {expected}"));
            }
        }
    }
    println!("{expressions} expressions, {refused} of them refused, {verdicts} verdicts");
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(expressions >= 2000 && refused >= 300 && verdicts >= 100_000);
}
