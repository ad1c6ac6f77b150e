package skylark.interop;

import java.util.List;
import java.util.OptionalLong;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** A topic that is deleted and made again under its name: of its earlier life nothing comes back. */
final class Recreation {
    private static final String TOPIC = "InteropRecreated";
    private static final String GROUP = "interop-recreated";
    private static final int MESSAGES = 40;
    private static final int QUEUES = 2;

    private final Clients clients;
    private final Checks checks;

    Recreation(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(Main.Options options) throws Exception {
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-recreated");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        send(producer, queues, 0);
        Inbox before = new Inbox();
        consume(GROUP, before, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        checks.that(before.received.size() == MESSAGES, "recreate.first-life", "consumed=" + before.received.size());
        StoredOffsets stored = new StoredOffsets(producer);
        checks.same("recreate.first-life", "offset", OptionalLong.of(MESSAGES / QUEUES), stored.of(GROUP, queues.get(0)));

        admin.deleteTopicInBroker(Set.of(Clients.broker(admin)), TOPIC);
        admin.deleteTopicInNameServer(Set.of(clients.namesrv()), TOPIC);
        gone(admin);
        clients.createTopic(clients.producer("interop-recreated-second"), TOPIC, QUEUES);
        empty("recreate.empty", queues, stored);
        // A kill brings the first life back in Apache, which dispatches its log again without looking at topics.
        if (options.number("kill", 1) == 1) {
            Clients.brokerIsKilled(admin);
            empty("recreate.empty-after-kill", queues, stored);
        }

        List<SendResult> second = send(producer, queues, MESSAGES);
        long first = second.get(0).getQueueOffset();
        checks.that(first == 0 || first >= MESSAGES / QUEUES, "recreate.offsets", "first=" + first);
        for (String group : List.of(GROUP, "interop-recreated-other")) {
            Inbox after = new Inbox();
            consume(group, after, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            boolean old = after.received.keySet().stream().anyMatch(number -> number < MESSAGES);
            checks.that(after.received.size() == MESSAGES && !old && after.deliveries.get() == MESSAGES,
                "recreate.only-the-second-life", group + " consumed=" + after.received.size());
        }
    }

    private List<SendResult> send(DefaultMQProducer producer, List<MessageQueue> queues, int first) throws Exception {
        List<SendResult> answers = new java.util.ArrayList<>();
        for (int number = first; number < first + MESSAGES; number++) {
            answers.add(producer.send(new Sample(TOPIC, number, 64, false).message(), queues.get(number % QUEUES)));
        }
        return answers;
    }

    /** Until everything was seen, and half a second for what should not come. */
    private void consume(String group, Inbox inbox, ConsumeFromWhere from) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(group, from);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        inbox.await(MESSAGES, Deadline.seconds(60));
        Thread.sleep(500);
        consumer.shutdown();
    }

    private void gone(DefaultMQAdminExt admin) throws Exception {
        try {
            checks.fail("recreate.deleted", "the broker answers " + admin.examineTopicConfig(Clients.broker(admin), TOPIC));
        } catch (MQBrokerException | MQClientException missing) {
            checks.ok("recreate.deleted", missing.getClass().getSimpleName());
        }
    }

    private void empty(String check, List<MessageQueue> queues, StoredOffsets stored) throws Exception {
        DefaultMQPullConsumer reader = clients.reader();
        for (MessageQueue queue : queues) {
            long min = reader.minOffset(queue);
            long max = reader.maxOffset(queue);
            checks.same(check, "messages in queue " + queue.getQueueId(), 0L, max - min);
            OptionalLong offset = stored.of(GROUP, queue);
            checks.same(check, "offset in queue " + queue.getQueueId(), OptionalLong.empty(), offset);
        }
        reader.shutdown();
        if (checks.clean()) {
            checks.ok(check, "queues=" + QUEUES);
        }
    }
}
