//! For `filter`: every expression that Apache's own filter was asked about, with properties that the first rules look at.

use std::error::Error;

use crate::Corpus;

const VERDICTS: &str = include_str!("../../protocol/tests/filter/verdicts.jsonl");
const PROPERTIES: &str = "a\u{1}5\u{2}b\u{1}abc\u{2}c\u{1}0x1.8p1\u{2}TAGS\u{1}TagA\u{2}";

pub fn write(corpus: &Corpus) -> Result<(), Box<dyn Error>> {
    for (number, line) in VERDICTS.lines().skip(1).enumerate() {
        let expression =
            line.split_once("\"expression\":\"").and_then(|(_, rest)| rest.split_once("\",\"verdicts\""));
        let Some((expression, _)) = expression else { continue };
        // With what JSON escapes as it stands there: the fuzzer finds the rest.
        corpus.add("filter", &format!("asked-{number}"), format!("{expression}\0{PROPERTIES}").as_bytes())?;
    }
    Ok(())
}
