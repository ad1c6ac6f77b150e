package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;

/** A group that appears for the first time after a restart: where it starts, and that it sees everything. */
final class NewGroups {
    private static final String TOPIC = "InteropNewGroup";
    private static final int MESSAGES = 1_000;
    private static final int QUEUES = 4;

    private final Clients clients;
    private final Checks checks;

    NewGroups(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** Before the restart: messages in every queue but the last. */
    void fill(Main.Options options) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-new-groups");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(sample(number).message(), queues.get(number % (QUEUES - 1)));
        }
        checks.ok("new-group.fill", "messages=" + MESSAGES);
    }

    void run(Main.Options options) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-new-groups");
        List<MessageQueue> queues = new ArrayList<>(producer.fetchPublishMessageQueues(TOPIC));
        queues.sort(null);

        // A young topic: its first message is near the log's end, so a group without an offset is told 0 and not
        // "none" (22), whatever it would have done with "none". A queue without messages has no such message: 22.
        StoredOffsets stored = new StoredOffsets(producer);
        for (MessageQueue queue : queues) {
            OptionalLong found = stored.of("interop-never-seen", queue);
            boolean hasMessages = queue.getQueueId() < QUEUES - 1;
            checks.same("new-group.young-topic-starts-at-0", "code 14 for queue " + queue.getQueueId() + ", " + found,
                hasMessages ? OptionalLong.of(0) : OptionalLong.empty(), found);
        }
        if (checks.clean()) {
            checks.ok("new-group.young-topic-starts-at-0", "queues=" + queues.size());
        }
        seesEverything("new-group.from-first", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        seesEverything("new-group.from-last-of-young-topic", ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
    }

    private void seesEverything(String check, ConsumeFromWhere from) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.push("interop-" + from.name().toLowerCase(), from);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        boolean complete = inbox.await(MESSAGES, Deadline.seconds(60));
        consumer.shutdown();
        inbox.received.forEach((number, message) -> sample(number).matches(checks, check, message));
        checks.that(complete, check, "received=" + inbox.received.size() + " deliveries=" + inbox.deliveries);
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 1 + number % 500, false);
    }
}
