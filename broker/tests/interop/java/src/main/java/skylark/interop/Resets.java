package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Offsets that an operator sets back or forward, with the group at work and with the group away. */
final class Resets {
    private static final String TOPIC = "InteropResets";
    private static final int MESSAGES = 60;
    private static final int QUEUES = 2;

    private final Clients clients;
    private final Checks checks;
    private DefaultMQAdminExt admin;
    private DefaultMQProducer producer;
    private List<MessageQueue> queues;
    private StoredOffsets stored;
    private long halfway;

    Resets(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(Main.Options options) throws Exception {
        Clients.rebalanceEverySecond();
        admin = clients.admin();
        producer = clients.producer("interop-resets");
        queues = clients.createTopic(producer, TOPIC, QUEUES);
        stored = new StoredOffsets(producer);
        for (int number = 0; number < MESSAGES; number++) {
            if (number == MESSAGES / 2) {
                // Nothing is stored in the same millisecond as this moment.
                Thread.sleep(5);
                halfway = System.currentTimeMillis();
                Thread.sleep(5);
            }
            producer.send(new Sample(TOPIC, number, 64, false).message(), queues.get(number % QUEUES));
        }
        live();
        absent("interop-reset-absent", options);
        skipped("interop-reset-skipped");
        byQueue("interop-reset-by-queue");
    }

    /** Members go back at once, and see again what was stored since. */
    private void live() throws Exception {
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = consume("interop-reset-live", deliveries);
        checks.that(Deadline.seconds(30).await(() -> deliveries.samples() == MESSAGES), "reset.live-before",
            "consumed=" + deliveries.samples());
        Map<MessageQueue, Long> answer = admin.resetOffsetByTimestamp(null, TOPIC, "interop-reset-live", halfway, true);
        checks.same("reset.live", "answer", Set.of((long) MESSAGES / 2 / QUEUES), Set.copyOf(answer.values()));
        checks.same("reset.live", "queues of the answer", QUEUES, answer.size());
        boolean again = Deadline.seconds(60).await(() -> deliveries.total() >= MESSAGES * 3 / 2);
        Thread.sleep(1_000);
        for (int number = 0; number < MESSAGES; number++) {
            checks.same("reset.live", "deliveries of " + number, number < MESSAGES / 2 ? 1 : 2, deliveries.of(number).size());
        }
        consumer.shutdown();
        checks.that(again, "reset.live", "deliveries=" + deliveries.total());
        offsets("reset.live-committed", "interop-reset-live", MESSAGES / QUEUES);
    }

    /** Kept for members to come, whatever becomes of the broker, and whatever late commits say until then. */
    private void absent(String group, Main.Options options) throws Exception {
        consumedAll(group);
        admin.resetOffsetByTimestamp(null, TOPIC, group, halfway, true);
        offsets("reset.pending", group, MESSAGES / 2 / QUEUES);
        for (MessageQueue queue : queues) {
            stored.commit(group, queue, MESSAGES / QUEUES);
        }
        offsets("reset.commits-do-not-count", group, MESSAGES / 2 / QUEUES);
        // Apache writes offsets every five seconds, at first after ten.
        Thread.sleep(options.number("settle-ms", 0));
        Clients.brokerIsKilled(admin);
        offsets("reset.over-kill", group, MESSAGES / 2 / QUEUES);
        seesFrom("reset.absent", group, MESSAGES / 2);
        offsets("reset.absent-committed", group, MESSAGES / QUEUES);
    }

    /** The backlog of a group that has never been is skipped. */
    private void skipped(String group) throws Exception {
        consumedAll(group);
        admin.resetOffsetByTimestamp(null, TOPIC, group, 0, true);
        offsets("reset.to-the-start", group, 0);
        admin.resetOffsetByTimestamp(null, TOPIC, group, -1, true);
        offsets("reset.skips-backlog", group, MESSAGES / QUEUES);
    }

    /** One queue, by offset. */
    private void byQueue(String group) throws Exception {
        consumedAll(group);
        MessageQueue first = queues.get(0);
        admin.resetOffsetByQueueId(Clients.broker(admin), group, TOPIC, first.getQueueId(), 10);
        checks.same("reset.by-queue", "offset", OptionalLong.of(10), stored.of(group, first));
        checks.same("reset.by-queue", "offset of the other", OptionalLong.of(MESSAGES / QUEUES),
            stored.of(group, queues.get(1)));
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = consume(group, deliveries);
        int expected = MESSAGES / QUEUES - 10;
        boolean complete = Deadline.seconds(30).await(() -> deliveries.samples() >= expected);
        consumer.shutdown();
        checks.that(complete && deliveries.samples() == expected, "reset.by-queue", "consumed=" + deliveries.samples());
        try {
            admin.resetOffsetByQueueId(Clients.broker(admin), group, TOPIC, first.getQueueId(), MESSAGES);
            checks.fail("reset.beyond-the-end", "accepted");
        } catch (Exception refused) {
            checks.ok("reset.beyond-the-end", refused.getClass().getSimpleName());
        }
    }

    private void consumedAll(String group) throws Exception {
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = consume(group, deliveries);
        Deadline.seconds(30).await(() -> deliveries.samples() == MESSAGES);
        // The client notes a message as consumed behind the listener, and a shutdown commits what it has noted.
        Thread.sleep(500);
        consumer.shutdown();
        offsets("reset.before", group, MESSAGES / QUEUES);
    }

    private void seesFrom(String check, String group, int first) throws Exception {
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = consume(group, deliveries);
        Deadline.seconds(60).await(() -> deliveries.samples() >= MESSAGES - first);
        Thread.sleep(500);
        consumer.shutdown();
        Set<Integer> seen = new TreeSet<>();
        IntStream.range(0, MESSAGES).filter(number -> !deliveries.of(number).isEmpty()).forEach(seen::add);
        Set<Integer> expected = new TreeSet<>();
        IntStream.range(first, MESSAGES).forEach(expected::add);
        checks.that(seen.equals(expected), check, "expected=" + expected.size() + " seen=" + seen);
    }

    private DefaultMQPushConsumer consume(String group, Deliveries deliveries) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(deliveries::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private void offsets(String check, String group, long expected) throws Exception {
        boolean same = true;
        for (MessageQueue queue : queues) {
            same &= checks.same(check, "offset of queue " + queue.getQueueId(), OptionalLong.of(expected),
                stored.of(group, queue));
        }
        if (same) {
            checks.ok(check, group + " offset=" + expected);
        }
    }
}
