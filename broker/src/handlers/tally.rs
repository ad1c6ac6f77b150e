//! Where what a consumer gets is counted: for the tools, and against quotas.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::context::Refusal;
use crate::quotas::{Allowance, Limits, Owner, Rates, Use};
use crate::statistics::Reads;

/// What a topic gives, and a group reads, in a second.
pub(super) fn rates<'a>(catalog: &Catalog, topic: &'a str, group: &'a str) -> [(Owner<'a>, Rates); 2] {
    let of_topic = catalog.derived(topic).map(|derived| derived.limits).unwrap_or_default();
    let of_group = Limits::of_group(catalog.groups.get(group));
    [(Owner::Topic(topic), of_topic.read), (Owner::Group(group), of_group.read)]
}

/// Where a reader's messages are counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By topic and group; none beyond the bound of pairs.
    pub reads: Option<Arc<Reads>>,
    allowance: Option<Arc<Allowance>>,
}

impl Tally {
    /// Leave to read now.
    ///
    /// # Errors
    /// With code 215 while topic or group is over its quota.
    pub(super) fn ask(
        broker: &Broker,
        reads: Option<Arc<Reads>>,
        rates: &[(Owner<'_>, Rates)],
    ) -> Result<Self, Refusal> {
        let allowance = broker.quotas.ask(Use::Read, rates, broker.clock.monotonic())?;
        Ok(Self { reads, allowance: allowance.map(Arc::new) })
    }

    /// Leave to read now for what has waited: others may have taken all there was.
    ///
    /// # Errors
    /// With code 215 while topic or group is over its quota.
    pub(super) fn ask_again(&self, broker: &Broker) -> Result<(), Refusal> {
        match &self.allowance {
            Some(allowance) => broker.quotas.ask_again(Use::Read, allowance, broker.clock.monotonic()),
            None => Ok(()),
        }
    }

    /// So many messages went, for which the reader waited so long.
    pub(super) fn got(&self, broker: &Broker, messages: u64, bytes: u64, waited: Duration) {
        broker.statistics.got(self.reads.as_deref(), messages, bytes, waited);
        if let Some(allowance) = &self.allowance {
            allowance.take(broker.clock.monotonic(), messages, bytes);
        }
    }
}
