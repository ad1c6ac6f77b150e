//! Java's oddities taken out.

use std::borrow::Cow;

/// The text with its bare keys quoted, and its object keys turned into strings that hold their JSON. Borrowed
/// when there was nothing to do; `None` when brackets or quotes do not match.
///
/// What is between keys is passed on unseen: whether the result is JSON is for its reader to say.
pub fn standard(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut walk = Walk { text, at: 0, copied: 0, out: Vec::new() };
    // What is open, the innermost last.
    let mut open = Vec::new();
    while let Some(&byte) = text.get(walk.at) {
        match byte {
            b'"' => walk.at = string_end(text, walk.at)?,
            b'{' => {
                open.push(b'}');
                walk.at += 1;
                walk.key()?;
            }
            b'[' => {
                open.push(b']');
                walk.at += 1;
            }
            b'}' | b']' => {
                if open.pop() != Some(byte) {
                    return None;
                }
                walk.at += 1;
            }
            b',' => {
                walk.at += 1;
                if open.last() == Some(&b'}') {
                    walk.key()?;
                }
            }
            _ => walk.at += 1,
        }
    }
    if !open.is_empty() {
        return None;
    }
    if walk.out.is_empty() {
        return Some(Cow::Borrowed(text));
    }
    walk.out.extend_from_slice(&text[walk.copied..]);
    Some(Cow::Owned(walk.out))
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    /// Up to here the text is in `out`.
    copied: usize,
    out: Vec<u8>,
}

impl Walk<'_> {
    /// Takes the key at `at`, if one begins there.
    fn key(&mut self) -> Option<()> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let start = self.at;
        match self.text.get(start)? {
            b'{' => {
                self.at = object_end(self.text, start)?;
                self.quote(start);
            }
            b'0'..=b'9' | b'-' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => {
                let key = self.text[start..].iter();
                self.at += key
                    .take_while(|byte| {
                        matches!(byte, b'-' | b'_' | b'$' | b'.') || byte.is_ascii_alphanumeric()
                    })
                    .count();
                self.quote(start);
            }
            // A quoted key, or an end.
            _ => {}
        }
        Some(())
    }

    /// Writes what lies between `start` and `at` as a string.
    fn quote(&mut self, start: usize) {
        self.out.extend_from_slice(&self.text[self.copied..start]);
        self.out.push(b'"');
        for &byte in &self.text[start..self.at] {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(byte);
        }
        self.out.push(b'"');
        self.copied = self.at;
    }
}

/// Behind the closing quote of the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Behind the closing brace of the object that begins at `start`.
fn object_end(text: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}
