//! The whole client against a small cluster in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use skylark_protocol::ResponseCode;
use tokio::sync::mpsc;

use crate::*;

mod cluster;

use cluster::{Cluster, bodies};

fn producer(client: &Client) -> Producer {
    Producer::new(client, ProducerOptions::new("PG"))
}

#[tokio::test]
async fn messages_take_turns_over_the_queues() {
    let cluster = Cluster::new(&[("T", 3)]);
    let client = cluster.client();
    let producer = producer(&client);
    let mut queues = BTreeMap::<_, usize>::new();
    for number in 0..9_u8 {
        let sent = producer.send(&Message::new("T", vec![number])).await.unwrap();
        assert_eq!((sent.status, sent.message_id.len()), (SendStatus::Stored, 32));
        *queues.entry(sent.queue.id).or_default() += 1;
    }
    assert_eq!(queues.into_values().collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(bodies(&cluster.state.lock(), "T").len(), 9);
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_sent_to_by_the_template() {
    let cluster = Cluster::new(&[("TBW102", 8)]);
    let client = cluster.client();
    let sent = producer(&client).send(&Message::new("New", "body")).await.unwrap();
    assert!((0..4).contains(&sent.queue.id));
    let none = Cluster::new(&[]).client();
    let error = producer(&none).send(&Message::new("New", "body")).await.unwrap_err();
    assert!(matches!(&error, SendError::Route(cause) if cause.code() == Some(ResponseCode::TOPIC_NOT_EXIST)));
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_tried_on_another_queue_and_one_that_stays_is_not() {
    let cluster = Cluster::new(&[("T", 4)]);
    let client = cluster.client();
    let producer = producer(&client);
    let message = Message::new("T", "body");

    cluster.state.lock().refuse_sends = [ResponseCode::SYSTEM_BUSY, ResponseCode::SYSTEM_ERROR].into();
    producer.send(&message).await.unwrap();
    let asked = std::mem::take(&mut cluster.state.lock().asked_queues);
    assert_eq!(asked.len(), 3);
    assert!(asked[0] != asked[1] && asked[1] != asked[2], "{asked:?}");

    cluster.state.lock().refuse_sends = [ResponseCode::MESSAGE_ILLEGAL].into();
    let error = producer.send(&message).await.unwrap_err();
    assert!(matches!(error, SendError::Attempts { attempts: 1, .. }), "{error}");

    cluster.state.lock().refuse_sends = [ResponseCode::SYSTEM_BUSY; 3].into();
    let error = producer.send(&message).await.unwrap_err();
    assert!(matches!(error, SendError::Attempts { attempts: 3, .. }), "{error}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_sent() {
    let cluster = Cluster::new(&[("T", 1)]);
    let client = cluster.client();
    let producer = producer(&client);
    let empty = Message::new("T", "");
    assert!(matches!(producer.send(&empty).await, Err(SendError::Message(_))));
    let separator = Message::new("T", "body").property("name", "a\u{1}b");
    assert!(matches!(producer.send(&separator).await, Err(SendError::Property(_))));
    let two_topics = [Message::new("T", "a"), Message::new("U", "b")];
    assert!(matches!(producer.send_batch(&two_topics).await, Err(SendError::Batch)));
    assert!(cluster.state.lock().asked_queues.is_empty());
}

#[tokio::test]
async fn pulled_messages_are_as_they_were_sent() {
    let cluster = Cluster::new(&[("T", 1)]);
    let client = cluster.client();
    let producer = producer(&client);
    let long = Bytes::from(vec![b'l'; 10_000]);
    let noise: Bytes =
        (0..5000_u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let sent = [
        Message::new("T", "short").tag("A").keys("k1 k2").property("name", "value"),
        Message::new("T", long.clone()).tag("B"),
        Message::new("T", noise.clone()),
    ];
    for message in &sent {
        producer.send(message).await.unwrap();
    }
    producer.send_batch(&[Message::new("T", "one").tag("A"), Message::new("T", "two")]).await.unwrap();
    let stored = bodies(&cluster.state.lock(), "T");
    assert!(stored[1].len() < 1000, "compressed");

    let consumer = PullConsumer::new(&client, "CG");
    let [queue] = consumer.queues("T").await.unwrap().try_into().unwrap();
    let pulled = consumer.pull(&queue, "*", Duration::ZERO).await.unwrap();
    let received: Vec<_> = pulled.messages.iter().map(|message| message.body.clone()).collect();
    assert_eq!(received, [Bytes::from("short"), long, noise, "one".into(), "two".into()]);
    let first = &pulled.messages[0];
    assert_eq!(
        (first.tag(), first.keys(), first.property("name")),
        (Some("A"), Some("k1 k2"), Some("value"))
    );
    assert!(first.unique_key().is_some() && first.topic == "T" && first.queue_offset == 0);

    consumer.seek(&queue, 0);
    let tagged = consumer.pull(&queue, "A || C", Duration::ZERO).await.unwrap();
    assert_eq!(tagged.messages.len(), 2, "the broker here does not select, the client does");
    assert_eq!(consumer.position(&queue), Some(5));
    consumer.commit(&queue).await.unwrap();
    assert_eq!(consumer.committed(&queue).await.unwrap(), Some(5));
    let moved = consumer.pull_at(&queue, 99, "*", Duration::ZERO).await.unwrap();
    assert_eq!((moved.status, moved.next), (PullStatus::OffsetMoved, 5));
}

/// A consumer that reports what it gets, and what it says of it.
async fn start(
    client: &Client,
    options: PushOptions,
    say: impl Fn(usize) -> Consumed + Send + Sync + 'static,
) -> (PushConsumer, mpsc::UnboundedReceiver<Received>) {
    let (report, received) = mpsc::unbounded_channel();
    let count = AtomicUsize::new(0);
    let consumer = PushConsumer::start(client, options, move |message| {
        let said = say(count.fetch_add(1, Ordering::SeqCst));
        let report = report.clone();
        async move {
            report.send(message).unwrap();
            said
        }
    });
    (consumer.await.unwrap(), received)
}

fn from_first(group: &str) -> PushOptions {
    PushOptions { start_from: StartFrom::First, ..PushOptions::new(group).subscribe("T", "*") }
}

async fn take(received: &mut mpsc::UnboundedReceiver<Received>, count: usize) -> Vec<u8> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        bodies.extend_from_slice(&received.recv().await.unwrap().body);
    }
    bodies.sort_unstable();
    bodies
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_where_it_stopped() {
    let cluster = Cluster::new(&[("T", 2)]);
    for number in 0..10 {
        cluster.store("T", i32::from(number) % 2, &[number], b"", 0);
    }
    let client = cluster.client();
    let (consumer, mut received) = start(&client, from_first("CG"), |_| Consumed::Success).await;
    assert_eq!(take(&mut received, 10).await, (0..10).collect::<Vec<u8>>());
    cluster.store("T", 0, &[10], b"", 0);
    assert_eq!(take(&mut received, 1).await, [10]);
    consumer.shutdown().await;
    assert_eq!(cluster.committed("CG", "T"), [6, 5]);
    assert!(cluster.state.lock().members["CG"].is_empty());

    cluster.store("T", 1, &[11], b"", 0);
    let (consumer, mut received) = start(&client, from_first("CG"), |_| Consumed::Success).await;
    assert_eq!(take(&mut received, 1).await, [11]);
    consumer.shutdown().await;
    assert!(received.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_every_five_seconds() {
    let cluster = Cluster::new(&[("T", 1)]);
    cluster.store("T", 0, &[0], b"", 0);
    let client = cluster.client();
    let (consumer, mut received) = start(&client, from_first("CG"), |_| Consumed::Success).await;
    take(&mut received, 1).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(cluster.committed("CG", "T"), [1]);
    drop(consumer);
}

#[tokio::test(start_paused = true)]
async fn members_share_the_queues_and_take_over_from_each_other() {
    let cluster = Cluster::new(&[("T", 4)]);
    let (one, two) = (cluster.client(), cluster.client());
    let (first, mut first_received) = start(&one, from_first("CG"), |_| Consumed::Success).await;
    let (second, mut second_received) = start(&two, from_first("CG"), |_| Consumed::Success).await;
    // Long enough for both to have heard of each other.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for queue in 0..4 {
        cluster.store("T", queue, &[u8::try_from(queue).unwrap()], b"", 0);
    }
    let mut shares = [take(&mut first_received, 2).await, take(&mut second_received, 2).await];
    shares.sort();
    assert_eq!(shares, [[0, 1], [2, 3]]);

    first.shutdown().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for queue in 0..4 {
        cluster.store("T", queue, &[10], b"", 0);
    }
    assert_eq!(take(&mut second_received, 4).await, [10; 4]);
    second.shutdown().await;
    assert_eq!(cluster.committed("CG", "T"), [2; 4]);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_sent_back_and_what_is_released_holds_the_offset() {
    let cluster = Cluster::new(&[("T", 1)]);
    for number in 0..4 {
        cluster.store("T", 0, &[number], b"", 0);
    }
    let client = cluster.client();
    let options = PushOptions { concurrency: 1, ..from_first("CG") };
    let say = |number| match number {
        0 => Consumed::Later,
        1 => panic!("as the test wants"),
        2 => Consumed::Release,
        _ => Consumed::Success,
    };
    let (consumer, mut received) = start(&client, options, say).await;
    take(&mut received, 3).await;
    consumer.shutdown().await;
    assert_eq!(cluster.state.lock().sent_back.len(), 2);
    assert_eq!(cluster.committed("CG", "T"), [2]);
}

#[tokio::test(start_paused = true)]
async fn the_listener_gets_again_what_the_broker_does_not_take_back() {
    let cluster = Cluster::new(&[("T", 1)]);
    cluster.state.lock().refuses_send_back = true;
    cluster.store("T", 0, &[7], b"", 0);
    let client = cluster.client();
    let say = |number| if number < 2 { Consumed::Later } else { Consumed::Success };
    let (consumer, mut received) = start(&client, from_first("CG"), say).await;
    assert_eq!(take(&mut received, 3).await, [7; 3]);
    consumer.shutdown().await;
    assert_eq!(cluster.committed("CG", "T"), [1]);
}

#[tokio::test(start_paused = true)]
async fn every_member_of_a_broadcasting_group_gets_everything() {
    let cluster = Cluster::new(&[("T", 2)]);
    let (one, two) = (cluster.client(), cluster.client());
    let broadcasting = || PushOptions { broadcasting: true, ..from_first("CG") };
    let (first, mut first_received) = start(&one, broadcasting(), |_| Consumed::Success).await;
    let (second, mut second_received) = start(&two, broadcasting(), |_| Consumed::Later).await;
    for number in 0..6 {
        cluster.store("T", i32::from(number) % 2, &[number], b"", 0);
    }
    assert_eq!(take(&mut first_received, 6).await, (0..6).collect::<Vec<u8>>());
    assert_eq!(take(&mut second_received, 6).await, (0..6).collect::<Vec<u8>>());
    first.shutdown().await;
    second.shutdown().await;
    assert!(cluster.state.lock().sent_back.is_empty());
    assert_eq!(cluster.committed("CG", "T"), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_opened_again() {
    let cluster = Cluster::new(&[("T", 1)]);
    let client = cluster.client();
    let producer = producer(&client);
    let (consumer, mut received) = start(&client, from_first("CG"), |_| Consumed::Success).await;
    for number in 0..5 {
        producer.send(&Message::new("T", vec![number])).await.unwrap();
        assert_eq!(take(&mut received, 1).await, [number]);
        cluster.cut();
    }
    // The heartbeat makes the member known on the new connection too.
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(cluster.state.lock().members["CG"].len(), 1);
    consumer.shutdown().await;
    assert_eq!(cluster.committed("CG", "T"), [5]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_behind_holds_the_pulls_back() {
    let cluster = Cluster::new(&[("T", 1)]);
    for _ in 0..500 {
        cluster.store("T", 0, &[1], b"", 0);
    }
    let client = cluster.client();
    let options = PushOptions { queue_messages_max: 100, concurrency: 5, ..from_first("CG") };
    let (started, mut starting) = mpsc::unbounded_channel();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let consumer = PushConsumer::start(&client, options, move |_message| {
        let (gate, started) = (Arc::clone(&gated), started.clone());
        async move {
            started.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            Consumed::Success
        }
    });
    let consumer = consumer.await.unwrap();
    for _ in 0..5 {
        starting.recv().await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(starting.try_recv().is_err(), "five are with the listener, the others wait");
    gate.add_permits(500);
    for _ in 5..500 {
        starting.recv().await.unwrap();
    }
    consumer.shutdown().await;
    assert_eq!(cluster.committed("CG", "T"), [500]);
}
