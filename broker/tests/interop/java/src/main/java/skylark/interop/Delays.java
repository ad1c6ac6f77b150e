package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Messages with a delay level: each comes once, whole and not before its time, whatever becomes of the broker. */
final class Delays {
    private static final String TOPIC = "InteropDelays";
    private static final String SCHEDULE = "SCHEDULE_TOPIC_XXXX";
    private static final int QUEUES = 4;
    private static final int EACH = 20;
    /** By level, from 1. */
    private static final long[] LEVELS_MS = {1_000, 5_000, 10_000};
    private static final int LEVEL_MAX = 18;
    /**
     * A hang, not a slow machine, is what this bounds, nor a consumer that lost its broker in the middle of its first
     * rebalance: it tries again 20 seconds later.
     */
    private static final long LATE_MS = 60_000;

    private final Clients clients;
    private final Checks checks;
    private final Deliveries deliveries = new Deliveries();
    private final Map<Integer, Sent> sent = new ConcurrentHashMap<>();

    Delays(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    private record Sent(long beforeMs, int level, int queue) {
    }

    /** The driver kills the broker while all of the first messages wait, and once more while some have come. */
    void run(Main.Options options) throws Exception {
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-delays");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        consume();
        DefaultMQPullConsumer reader = clients.reader();
        Map<Integer, Long> waiting = maxOffsets(reader, queues.get(0).getBrokerName());

        send(producer, queues, 0);
        beyondTheLastLevel(producer, queues.get(0));
        waits(reader, queues.get(0).getBrokerName(), waiting);
        Clients.brokerIsKilled(admin);
        long back = System.currentTimeMillis();
        arrives(EACH * LEVELS_MS.length, 0, back, "delay.over-kill");

        int first = EACH * LEVELS_MS.length;
        send(producer, queues, first);
        Deadline.seconds(30).await(() -> deliveries.samples() >= first + EACH);
        Clients.brokerIsKilled(admin);
        arrives(first * 2, first, System.currentTimeMillis(), "delay.kill-between");
        // Whatever comes twice comes at once.
        Thread.sleep(2_000);
        // A queue may be read again by a member that comes back, but a place in it is filled once. (Apache remembers
        // every ten seconds what it has delivered, and delivers again what came since.)
        boolean once = deliveries.places() == first * 2;
        checks.that(once || options.number("may-repeat", 0) == 1, "delay.once",
            "messages=" + first * 2 + " stored=" + deliveries.places() + " deliveries=" + deliveries.total());
    }

    private void consume() throws Exception {
        DefaultMQPushConsumer consumer = clients.push("interop-delays", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // A tag in the subscription: the index entry of the final message must carry its hash.
        consumer.subscribe(TOPIC, "TagA || TagB || 标签 || étiquette || TagC");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(deliveries::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private void send(DefaultMQProducer producer, List<MessageQueue> queues, int first) throws Exception {
        for (int at = 0; at < EACH * LEVELS_MS.length; at++) {
            int level = 1 + at % LEVELS_MS.length;
            MessageQueue queue = queues.get(at % QUEUES);
            Message message = sample(first + at).message();
            message.setDelayTimeLevel(level);
            long before = System.currentTimeMillis();
            SendResult answer = producer.send(message, queue);
            sent.put(first + at, new Sent(before, level, queue.getQueueId()));
            checks.same("delay.send", "queue in the answer", queue, answer.getMessageQueue());
        }
    }

    /** A level that does not exist is taken for the last one. */
    private void beyondTheLastLevel(DefaultMQProducer producer, MessageQueue queue) throws Exception {
        Message message = new Message(TOPIC, "Never", new byte[1]);
        message.setDelayTimeLevel(LEVEL_MAX + 1);
        producer.send(message, queue);
    }

    /** What waits lies in the topic in which Apache's tools look for it, a queue a level. */
    private void waits(DefaultMQPullConsumer reader, String broker, Map<Integer, Long> before) throws Exception {
        Map<Integer, Long> after = maxOffsets(reader, broker);
        for (int level = 1; level <= LEVEL_MAX; level++) {
            long more = level <= LEVELS_MS.length ? EACH : level == LEVEL_MAX ? 1 : 0;
            checks.same("delay.visible", "messages waiting at level " + level, before.get(level) + more, after.get(level));
        }
        int level = LEVELS_MS.length;
        PullResult pulled = reader.pull(new MessageQueue(SCHEDULE, broker, level - 1), "*", before.get(level), 32);
        if (checks.same("delay.visible", "pulling what waits", PullStatus.FOUND, pulled.getPullStatus())) {
            MessageExt message = pulled.getMsgFoundList().get(0);
            checks.same("delay.visible", "real topic", TOPIC, message.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
            checks.same("delay.visible", "real queue", String.valueOf((level - 1) % QUEUES),
                message.getProperty(MessageConst.PROPERTY_REAL_QUEUE_ID));
            checks.same("delay.visible", "sample", level - 1, Sample.numberOf(message));
        }
        if (checks.clean()) {
            checks.ok("delay.visible", "levels=" + LEVEL_MAX);
        }
    }

    private static Map<Integer, Long> maxOffsets(DefaultMQPullConsumer reader, String broker) throws Exception {
        Map<Integer, Long> offsets = new TreeMap<>();
        for (int level = 1; level <= LEVEL_MAX; level++) {
            offsets.put(level, reader.maxOffset(new MessageQueue(SCHEDULE, broker, level - 1)));
        }
        return offsets;
    }

    private void arrives(int count, int first, long backMs, String check) throws Exception {
        boolean complete = Deadline.seconds(60).await(() -> deliveries.samples() >= count);
        long earliest = Long.MAX_VALUE;
        long latest = Long.MIN_VALUE;
        for (int number = first; number < count; number++) {
            Sent order = sent.get(number);
            for (Deliveries.Delivery delivery : deliveries.of(number)) {
                long due = order.beforeMs() + LEVELS_MS[order.level() - 1];
                earliest = Math.min(earliest, delivery.atMs() - due);
                latest = Math.max(latest, delivery.atMs() - Math.max(due, backMs));
                matches(check, number, order, delivery.message());
            }
        }
        checks.that(complete, check, "messages=" + count + " received=" + deliveries.samples());
        checks.that(earliest >= 0, "delay.never-early", "after-due-min-ms=" + earliest);
        checks.that(latest <= LATE_MS, "delay.in-time", "after-due-max-ms=" + latest);
    }

    private void matches(String check, int number, Sent order, MessageExt message) {
        sample(number).matches(checks, check, message);
        checks.same(check, "queue of " + number, order.queue(), message.getQueueId());
        checks.same(check, "level of " + number, order.level(), message.getDelayTimeLevel());
        checks.same(check, "attempt of " + number, 0, message.getReconsumeTimes());
        checks.same(check, "real topic of " + number, TOPIC, message.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
        checks.same(check, "real queue of " + number, String.valueOf(order.queue()),
            message.getProperty(MessageConst.PROPERTY_REAL_QUEUE_ID));
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 1 + number * 37 % 3_000, false);
    }
}
