//! For `frame`, `body` and `message`: what real clients and brokers send.

use std::error::Error;

use bytes::BytesMut;
use skylark_protocol::message::{NewMessage, batch::InnerMessage};
use skylark_protocol::{Encoding, Frame, Outgoing, Value};

use crate::Corpus;

/// Headers as Java, C++ and Go write them, with the bodies that belong to them.
const FRAMES: [(&str, &str, &str); 8] = [
    (
        "send-java",
        r#"{"code":310,"extFields":{"a":"PG","b":"T","c":"TBW102","d":"4","e":"1","f":"0","g":"1700000000000","h":"0","i":"k\u0001v\u0002","j":"0","k":"false","m":"false"},"flag":0,"language":"JAVA","opaque":2,"serializeTypeCurrentRPC":"JSON","version":479}"#,
        "hi",
    ),
    (
        "send-cpp",
        "{\"code\":310,\"extFields\":{\"a\":\"PG\",\"b\":\"T\",\"c\":\"TBW102\",\"d\":4,\"e\":1,\"f\":0,\"g\":\"1\",\"h\":0,\"l\":16,\"m\":\"true\"},\"flag\":0,\"language\":\"CPP\",\"opaque\":2,\"version\":333}\n",
        "",
    ),
    (
        "pull-java",
        r#"{"code":11,"extFields":{"queueId":"0","maxMsgBytes":"2147483647","maxMsgNums":"32","sysFlag":"6","suspendTimeoutMillis":"15000","commitOffset":"0","bname":"broker-a","topic":"TopicTest","queueOffset":"0","subscription":"TagA || TagB","expressionType":"TAG","subVersion":"1700000000000","consumerGroup":"CG"},"flag":0,"language":"JAVA","opaque":9,"version":479}"#,
        "",
    ),
    (
        "heartbeat-java",
        r#"{"code":34,"flag":0,"language":"JAVA","opaque":3,"version":479}"#,
        r#"{"clientID":"10.0.0.1@1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"CG","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":1700000000000,"tagsSet":["TagA"],"topic":"TopicTest"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"PG"}],"withoutSub":false}"#,
    ),
    (
        "heartbeat-cpp",
        r#"{"code":34,"extFields":{"AccessKey":""},"flag":0,"language":"CPP","opaque":3,"version":333}"#,
        "{\"clientID\":\"c\",\"consumerDataSet\":[{\"groupName\":\"CG\",\"consumeType\":1,\"messageModel\":\"0\",\"consumeFromWhere\":4,\"subscriptionDataSet\":[{\"topic\":\"T\",\"subString\":\"*\",\"subVersion\":\"1\"}]}]}\n",
    ),
    (
        "register-java",
        r#"{"code":103,"extFields":{"brokerId":"0","clusterName":"C","brokerAddr":"127.0.0.1:10911","enableActingMaster":"false","haServerAddr":"127.0.0.1:10912","compressed":"false","brokerName":"broker-a"},"flag":0,"language":"JAVA","opaque":4,"version":479}"#,
        r#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},"topicConfigTable":{"T":{"attributes":{},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4}}}}"#,
    ),
    (
        "route-java",
        r#"{"code":0,"flag":1,"language":"JAVA","opaque":1,"version":479}"#,
        r#"{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:10911",1:"127.0.0.1:10921"},"brokerName":"broker-a","cluster":"C","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#,
    ),
    (
        "offsets-java",
        r#"{"code":220,"extFields":{"queueId":"-1","topic":"T","isForce":"false","group":"CG","timestamp":"1"},"flag":2,"language":"JAVA","opaque":1,"version":479}"#,
        r#"{"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:13,{"brokerName":"broker-a","queueId":0,"topic":"T"}:12}}"#,
    ),
];

/// How many kinds of body the target tells apart.
const BODIES: u8 = 32;

pub fn write(corpus: &Corpus) -> Result<(), Box<dyn Error>> {
    for (name, header, body) in FRAMES {
        let frame = Frame { encoding: Encoding::Json, header: header.as_bytes(), body: body.as_bytes() };
        corpus.add("frame", name, &frame.to_vec())?;
        for kind in 0..BODIES {
            corpus.add("body", &format!("{name}-{kind}"), &[&[kind], body.as_bytes()].concat())?;
        }
        let header = frame.parse()?;
        let fields: Vec<_> = header.fields.iter().map(|(name, value)| (name, Value::Text(value))).collect();
        let mut wire = BytesMut::new();
        let (code, opaque, flag) = (header.code, header.opaque, header.flag);
        Outgoing { encoding: Encoding::Binary, code, opaque, flag, remark: Some("why"), fields: &fields }
            .write(body.len(), &mut wire);
        wire.extend_from_slice(body.as_bytes());
        corpus.add("frame", &format!("{name}-binary"), &wire)?;
    }

    for (name, born_host) in [("v4", "127.0.0.1:50000"), ("v6", "[2001:db8::1]:50000")] {
        let message = NewMessage {
            topic: "TopicTest",
            queue_id: 3,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            born_host: born_host.parse()?,
            store_host: "127.0.0.1:10911".parse()?,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"hello",
            properties: b"KEYS\x01one two\x02TAGS\x01TagA\x02",
            added_properties: b"",
        };
        corpus.add("message", name, &message.parts(1024)?.to_vec(7, 4096, 1_700_000_000_005))?;
    }
    let mut batch = Vec::new();
    InnerMessage { flag: 0, body: b"hello", properties: b"TAGS\x01A\x02" }.write(&mut batch)?;
    InnerMessage { flag: 1, body: b"wo", properties: b"" }.write(&mut batch)?;
    corpus.add("message", "batch", &batch)?;
    corpus.add("message", "properties", b"a\x011\x02b\x01\x02c\x01x")?;
    corpus.add("message", "id", b"7F00000100002A9F0000000000001000")?;
    corpus.add("message", "tags", b"TagA || TagB")?;
    Ok(())
}
