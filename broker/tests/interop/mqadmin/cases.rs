//! What is run on both brokers, in this order. `{broker}` stands for the broker's address, the other names in
//! braces for what the program that made the state said: ids of one message, a client's id, a moment.

use std::collections::BTreeMap;

/// How an output is read.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// Columns under a heading that begins with `#`, and fields beside it; the order of rows says nothing.
    Table,
    /// Lines of which the order says nothing.
    Rows,
    /// Text in which everything counts.
    Text,
    /// `name: value`, a line each.
    Fields,
    /// Fields of which a broker shows those that it has.
    Settings,
    /// `name=value` within lines.
    Items,
}

/// One command.
pub(super) struct Case {
    pub(super) command: &'static str,
    pub(super) form: Form,
    /// Changes nothing, so it may be asked again until what runs in the background has happened on both.
    pub(super) settles: bool,
    /// Fails on both, and tells the same.
    pub(super) fails: bool,
}

const fn table(command: &'static str) -> Case {
    Case { command, form: Form::Table, settles: true, fails: false }
}

const fn list(command: &'static str) -> Case {
    Case { command, form: Form::Rows, settles: true, fails: false }
}

const fn fields(command: &'static str) -> Case {
    Case { command, form: Form::Fields, settles: true, fails: false }
}

const fn items(command: &'static str) -> Case {
    Case { command, form: Form::Items, settles: true, fails: false }
}

/// Text that only looks.
const fn text(command: &'static str) -> Case {
    Case { command, form: Form::Text, settles: true, fails: false }
}

/// Changes something.
const fn once(command: &'static str, form: Form) -> Case {
    Case { command, form, settles: false, fails: false }
}

/// Without load: counts and offsets have to agree.
pub(super) const UNLOADED: &[Case] = &[
    // First: until a broker of Apache is ten minutes old, its totals of 24 hours are those of the latest minute.
    table("statsAll"),
    table("statsAll -a"),
    table("statsAll -t AdminOrders"),
    table("clusterList"),
    table("clusterList -m"),
    list("topicList"),
    table("topicList -c"),
    table("topicRoute -t TBW102 -l"),
    text("topicRoute -t SCHEDULE_TOPIC_XXXX"),
    once("updateTopic -c DefaultCluster -t ByCluster", Form::Text),
    once("updateTopic -b {broker} -t ByBroker -r 3 -w 5 -p 4", Form::Text),
    text("topicRoute -t ByCluster"),
    text("topicRoute -t ByBroker"),
    table("topicRoute -t ByBroker -l"),
    // An existing topic gets another shape.
    once("updateTopic -c DefaultCluster -t ByBroker -r 6 -w 2 -p 6", Form::Text),
    text("topicRoute -t ByBroker"),
    table("topicStatus -t AdminOrders"),
    table("topicStatus -t AdminOrders -c DefaultCluster"),
    table("topicStatus -t AdminEmpty"),
    text("topicClusterList -t AdminOrders"),
    table("consumerProgress"),
    table("consumerProgress -g admin-consumers"),
    table("consumerProgress -g admin-away"),
    table("consumerProgress -g admin-consumers -t AdminOrders"),
    table("consumerProgress -g admin-consumers -s true"),
    table("consumerConnection -g admin-consumers"),
    table("consumerStatus -g admin-consumers"),
    fields("consumerStatus -g admin-consumers -i {client}"),
    list("producerConnection -g admin-producers -t AdminOrders"),
    Case { command: "getBrokerConfig -b {broker}", form: Form::Settings, settles: true, fails: false },
    table("brokerConsumeStats -b {broker}"),
    once("updateSubGroup -b {broker} -g admin-made -r 3 -q 2 -o true", Form::Items),
    once("updateSubGroup -c DefaultCluster -g admin-made-too -s false", Form::Items),
    fields("getConsumerConfig -g admin-made"),
    once("deleteSubGroup -b {broker} -g admin-made", Form::Text),
    once("deleteSubGroup -c DefaultCluster -g admin-made-too -r true", Form::Text),
    once("sendMessage -t AdminSent -p hello -k key-sent -c TagA -b broker-a -i 0", Form::Table),
    once("sendMessage -t AdminSent -p again -b broker-a -i 1", Form::Table),
    items("printMsg -t AdminOrders"),
    items("printMsg -t AdminOrders -s TagB -d false"),
    items("printMsgByQueue -t AdminOrders -a broker-a -i 1 -p true -d true"),
    text("printMsgByQueue -t AdminOrders -a broker-a -i 1 -f true"),
    items("consumeMessage -t AdminOrders -b broker-a -i 1 -o 1 -c 2"),
    items("consumeMessage -t AdminOrders"),
    fields("queryMsgById -t AdminOrders -i {offset}"),
    fields("queryMsgById -t AdminOrders -i {unique} -f UTF-8"),
    once("queryMsgById -t AdminOrders -i {unique} -g admin-consumers -d {client}", Form::Items),
    table("queryMsgByKey -t AdminOrders -k key-5"),
    table("queryMsgByKey -t AdminOrders -k shared"),
    fields("queryMsgByUniqueKey -t AdminOrders -i {unique}"),
    once("queryMsgByUniqueKey -t AdminOrders -i {unique} -g admin-consumers -d {client}", Form::Items),
    fields("queryMsgByOffset -t AdminOrders -b broker-a -i 1 -o 1"),
    once("updateSubGroup -b {broker} -g admin-cloned", Form::Items),
    once("cloneGroupOffset -s admin-away -d admin-cloned -t AdminOrders -o false", Form::Text),
    table("consumerProgress -g admin-cloned -t AdminOrders"),
    // The group's member waits ten seconds before it goes on where it was told: its progress is looked at last.
    once("resetOffsetByTime -g admin-consumers -t AdminOrders -s {between}", Form::Table),
    once("resetOffsetByTime -g admin-away -t AdminOrders -s 0", Form::Table),
    table("consumerProgress -g admin-away"),
    once("resetOffsetByTime -g admin-away -t AdminOrders -s {between} -b {broker} -q 1 -o 2", Form::Text),
    table("consumerProgress -g admin-away"),
    once("skipAccumulatedMessage -g admin-away -t AdminOrders", Form::Table),
    table("consumerProgress -g admin-away"),
    once("updateTopicPerm -b {broker} -t AdminEmpty -p 4", Form::Text),
    text("topicRoute -t AdminEmpty"),
    once("updateTopicPerm -c DefaultCluster -t AdminEmpty -p 6", Form::Text),
    once("updateOrderConf -t AdminOrders -m put -v broker-a:4", Form::Text),
    text("updateOrderConf -t AdminOrders -m get"),
    text("topicRoute -t AdminOrders"),
    once("updateOrderConf -t AdminOrders -m delete", Form::Text),
    Case { command: "updateOrderConf -t AdminOrders -m get", form: Form::Text, settles: false, fails: true },
    once("updateKvConfig -s AdminNamespace -k key -v value", Form::Text),
    once("deleteKvConfig -s AdminNamespace -k key", Form::Text),
    once("wipeWritePerm -b broker-a", Form::Text),
    text("topicRoute -t AdminOrders"),
    once("addWritePerm -b broker-a", Form::Text),
    text("topicRoute -t AdminOrders"),
    once("clusterRT -a 5 -s 64 -i 1", Form::Table),
    once("sendMsgStatus -b broker-a -c 3 -s 64", Form::Items),
    once("deleteTopic -c DefaultCluster -t AdminEmpty", Form::Text),
    list("topicList"),
    table("topicList -c"),
    table("clusterList"),
    table("consumerProgress -g admin-consumers"),
    // Last: Apache's broker knows how long sends took once it is a minute old.
    fields("brokerStatus -b {broker}"),
    fields("brokerStatus -c DefaultCluster"),
];

/// Under load.
pub(super) const LOADED: &[Case] = &[
    table("consumerConnection -g admin-load"),
    table("topicStatus -t AdminLoad"),
    list("producerConnection -g admin-producers -t AdminLoad"),
];

/// What is above zero under load: a command, the row that holds this text, and its columns.
pub(super) const NONZERO: &[(Case, &str, &[&str])] = &[
    (table("statsAll -t AdminLoad"), "AdminLoad", &["InTPS", "OutTPS", "InMsg24Hour", "OutMsg24Hour"]),
    (table("clusterList"), "broker-a", &["InTPS(LOAD)", "OutTPS(LOAD)"]),
    (table("consumerProgress -g admin-load"), "", &[]),
    (
        fields("brokerStatus -b {broker}"),
        "",
        &[
            "putTps",
            "getTotalTps",
            "getTransferredTps",
            "getFoundTps",
            "msgPutTotalTodayNow",
            "msgGetTotalTodayNow",
            "putMessageTimesTotal",
            "putMessageSizeTotal",
            "putMessageAverageSize",
        ],
    ),
];

/// Settings that tools and dashboards read.
pub(super) const SETTINGS: &[&str] = &[
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerClusterName",
    "brokerId",
    "brokerIP1",
    "brokerName",
    "brokerPermission",
    "brokerRole",
    "defaultTopicQueueNums",
    "fileReservedTime",
    "flushDiskType",
    "listenPort",
    "maxMessageSize",
    "messageDelayLevel",
];

/// What the program that made the state said of each side.
#[derive(Default)]
pub(super) struct Sides([BTreeMap<String, String>; 2]);

impl Sides {
    pub(super) fn read(lines: &[String]) -> Self {
        let mut sides: [BTreeMap<String, String>; 2] = Default::default();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [name, side, value] => {
                    let side: usize = side.parse().expect("0 or 1");
                    sides[side].insert(format!("{{{name}}}"), (*value).to_owned());
                }
                [name, value] => {
                    for side in &mut sides {
                        side.insert(format!("{{{name}}}"), (*value).to_owned());
                    }
                }
                _ => panic!("{line}"),
            }
        }
        Self(sides)
    }

    /// A word of a command with the side's values.
    pub(super) fn fill(&self, side: usize, word: &str) -> String {
        self.0[side].iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value))
    }

    /// A line of output without them.
    pub(super) fn blank(&self, side: usize, line: &str) -> String {
        let line = line.replace(&format!("live{}-", side + 1), "live-");
        self.0[side].iter().fold(line, |line, (name, value)| line.replace(value, name))
    }
}
