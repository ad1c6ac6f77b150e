//! Who takes part in a world.

use super::clients::follower::Habit;
use super::clients::{
    Client, FLEETING, Follower, Operator, Orderly, Producer, RETRY_TOPIC, RETURNING_GROUP, Returner, STEADY,
};

/// Who there is.
pub struct Cast {
    pub producer: Producer,
    pub followers: Vec<Follower>,
    pub returner: Returner,
    pub operator: Operator,
    pub orderly: [Orderly; 2],
}

impl Cast {
    pub fn new() -> Self {
        let followers = vec![
            Follower::new("CG", STEADY.0, STEADY.1, Habit::Commits),
            Follower::new("MG", STEADY.0, STEADY.1, Habit::IsMoved),
            Follower::new("FG", FLEETING.0, FLEETING.1, Habit::Reads),
            Follower::new(RETURNING_GROUP, STEADY.0, STEADY.1, Habit::Reads),
            Follower::new(RETURNING_GROUP, RETRY_TOPIC, 1, Habit::Reads),
        ];
        Self {
            producer: Producer::default(),
            followers,
            returner: Returner::default(),
            operator: Operator::default(),
            orderly: [Orderly::new("first"), Orderly::new("second")],
        }
    }

    pub fn clients(&mut self) -> Vec<&mut dyn Client> {
        let followers = self.followers.iter_mut().map(|follower| follower as &mut dyn Client);
        let [first, second] = &mut self.orderly;
        let others: [&mut dyn Client; 5] =
            [&mut self.producer, &mut self.returner, &mut self.operator, first, second];
        others.into_iter().chain(followers).collect()
    }
}
