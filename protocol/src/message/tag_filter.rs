//! Which messages a tag expression selects.

use smallvec::SmallVec;

use crate::java::string_hash;

/// A parsed tag expression: `*`, or tags separated by `||`.
///
/// Hashes are made here, with Java's hash, whatever a client's heartbeat says: Go hashes the wrong bytes and
/// C++ sends none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// Every message, tagged or not.
    All,
    /// Messages with one of these tags, each with its hash.
    Tags(SmallVec<[(i32, Box<str>); 2]>),
}

/// The expression names no tag at all, and so would select nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subscription expression names no tag: separate tags with || or use *")]
pub struct NoTags;

impl TagFilter {
    /// Parses an expression. None, empty text and `*` select everything.
    ///
    /// # Errors
    /// When there are separators but no tags.
    pub fn parse(expression: Option<&str>) -> Result<Self, NoTags> {
        let expression = expression.unwrap_or_default().trim();
        if expression.is_empty() || expression == "*" {
            return Ok(Self::All);
        }
        let mut tags = SmallVec::new();
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            let tag = (string_hash(tag), Box::from(tag));
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if tags.is_empty() { Err(NoTags) } else { Ok(Self::Tags(tags)) }
    }

    /// Selects nothing.
    pub fn none() -> Self {
        Self::Tags(SmallVec::new())
    }

    /// Whether a message with this hash in the consume queue may be selected. Different tags can share a hash.
    pub fn matches_hash(&self, tag_hash: i32) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => tags.iter().any(|(hash, _)| *hash == tag_hash),
        }
    }

    /// Whether a message with these tags is selected.
    pub fn matches(&self, tags: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Tags(wanted) => tags.is_some_and(|tags| wanted.iter().any(|(_, tag)| **tag == *tags)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_select_by_hash_and_by_text() {
        let filter = TagFilter::parse(Some(" Aa || TagB||  || Aa")).unwrap();
        assert!(filter.matches_hash(2112) && filter.matches_hash(2_598_920) && !filter.matches_hash(0));
        assert!(filter.matches(Some("Aa")) && !filter.matches(Some("BB")) && !filter.matches(None));
        for all in [None, Some(""), Some("*"), Some(" * ")] {
            let filter = TagFilter::parse(all).unwrap();
            assert!(filter.matches_hash(0) && filter.matches(None), "{all:?}");
        }
        assert_eq!(TagFilter::parse(Some(" || ")), Err(NoTags));
        assert!(!TagFilter::none().matches_hash(0));
    }
}
