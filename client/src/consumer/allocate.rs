//! Who gets which queue.

use crate::route::Queue;

/// The share of the member `me`: consecutive queues, as evenly as they divide, as Java's default strategy
/// shares them. Every member computes its own from the same two sorted lists, so each queue gets one owner.
pub(crate) fn averagely<'a>(queues: &'a [Queue], members: &[String], me: &str) -> &'a [Queue] {
    let Some(index) = members.iter().position(|member| member == me) else { return &[] };
    let (share, more) = (queues.len() / members.len(), queues.len() % members.len());
    // The first `more` members get one queue more than the others.
    let start = index * share + index.min(more);
    let end = start + share + usize::from(index < more);
    &queues[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(queue_count: i32, members: usize, expected: &[&[i32]]) {
        let queue = |id| Queue { topic: "T".into(), broker: "b".into(), id };
        let queues: Vec<_> = (0..queue_count).map(queue).collect();
        let members: Vec<_> = (0..members).map(|number| format!("member{number}")).collect();
        let shares = members.iter().map(|member| averagely(&queues, &members, member));
        let shares: Vec<Vec<i32>> =
            shares.map(|share| share.iter().map(|queue| queue.id).collect()).collect();
        assert_eq!(shares, expected);
    }

    #[test]
    fn queues_are_shared_as_java_shares_them() {
        check(8, 1, &[&[0, 1, 2, 3, 4, 5, 6, 7]]);
        check(8, 3, &[&[0, 1, 2], &[3, 4, 5], &[6, 7]]);
        check(4, 4, &[&[0], &[1], &[2], &[3]]);
        check(2, 3, &[&[0], &[1], &[]]);
        check(0, 2, &[&[], &[]]);
    }

    #[test]
    fn who_is_not_a_member_gets_nothing() {
        let queues = [Queue { topic: "T".into(), broker: "b".into(), id: 0 }];
        assert!(averagely(&queues, &["other".to_owned()], "me").is_empty());
        assert!(averagely(&queues, &[], "me").is_empty());
    }
}
