//! What operators ask for.

use skylark_protocol::RequestCode;
use skylark_protocol::command::route::ClusterInfo;
use skylark_protocol::command::topics::{UpdateTopic, perm};

use crate::client::{Client, TEMPLATE_TOPIC};
use crate::remote::{InvokeError, Request};

/// Asks brokers and nameservers on behalf of an operator.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// A topic as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Queues to read from.
    pub read_queues: i32,
    /// Queues to write to.
    pub write_queues: i32,
    /// See [`perm`].
    pub perm: i32,
}

impl TopicSettings {
    /// So many queues, to read and to write.
    pub const fn with_queues(queues: i32) -> Self {
        Self { read_queues: queues, write_queues: queues, perm: perm::READ | perm::WRITE }
    }
}

impl Admin {
    /// Asks through this client's connections.
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    /// Creates a topic on the broker at `address`, or changes it to these settings.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn create_topic(
        &self,
        address: &str,
        topic: &str,
        settings: TopicSettings,
    ) -> Result<(), InvokeError> {
        let wanted = UpdateTopic {
            topic,
            default_topic: Some(TEMPLATE_TOPIC),
            read_queue_nums: settings.read_queues,
            write_queue_nums: settings.write_queues,
            perm: settings.perm,
            topic_filter_type: Some("SINGLE_TAG"),
            topic_sys_flag: Some(0),
            order: false,
            attributes: None,
            force: false,
        };
        let fields = wanted.fields();
        let request = Request::new(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields);
        self.client.ask(address, request).await?.success()?;
        self.client.doubt_route(topic);
        Ok(())
    }

    /// All brokers that the nameservers know.
    ///
    /// # Errors
    /// When no nameserver answers.
    pub async fn cluster(&self) -> Result<ClusterInfo, InvokeError> {
        let request = Request::new(RequestCode::GET_BROKER_CLUSTER_INFO, &[]);
        let response = self.client.ask_name_server(request).await?.success()?;
        Ok(ClusterInfo::decode(&response.body)?)
    }
}
