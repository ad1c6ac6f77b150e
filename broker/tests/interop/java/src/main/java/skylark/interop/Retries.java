package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Messages that an application fails to consume: each comes again after its delay, over a kill of the broker too,
 * with the properties by which applications and tools tell where it came from.
 */
final class Retries {
    private static final String TOPIC = "InteropRetries";
    private static final String GROUP = "interop-retries";
    private static final String SCHEDULE = "SCHEDULE_TOPIC_XXXX";
    private static final int MESSAGES = 12;
    /** By level, from 1. */
    private static final long[] LEVELS_MS = {1_000, 5_000, 10_000};
    /** Counted from the moment it is due, or the broker is back. */
    private static final long LATE_MS = 60_000;

    private final Clients clients;
    private final Checks checks;
    private final Deliveries deliveries = new Deliveries();
    private final Map<Integer, SendResult> sent = new ConcurrentHashMap<>();

    Retries(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** What becomes of a sample: it fails this often, each time asking for this level; 0 leaves it to the broker. */
    private enum Fate {
        SUCCEEDS(0, 0), FAILS_ONCE_BY_DEFAULT(1, 0), FAILS_TWICE_AT_LEVEL_1(2, 1), FAILS_ONCE_AT_LEVEL_2(1, 2);

        final int failures;
        final int level;

        Fate(int failures, int level) {
            this.failures = failures;
            this.level = level;
        }

        static Fate of(int number) {
            return values()[number % values().length];
        }

        /** A broker that is to choose takes level 3 for the first retry, 4 for the second, and so on. */
        long delayMs(int attempt) {
            return LEVELS_MS[(level == 0 ? 3 + attempt : level) - 1];
        }
    }

    void run(Main.Options options) throws Exception {
        Clients.rebalanceEverySecond();
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-retries");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, 4);
        String broker = queues.get(0).getBrokerName();
        DefaultMQPullConsumer reader = clients.reader();
        MessageQueue levelThree = new MessageQueue(SCHEDULE, broker, 2);
        long before = reader.maxOffset(levelThree);
        consume();
        for (int number = 0; number < MESSAGES; number++) {
            sent.put(number, producer.send(sample(number).message(), queues.get(number % queues.size())));
        }
        // The broker has acknowledged what was sent back, which nobody but it knows.
        int waiting = MESSAGES / Fate.values().length;
        boolean back = Deadline.seconds(30).await(() -> maxOffset(reader, levelThree) == before + waiting);
        checks.that(back, "retry.sent-back", "waiting=" + (maxOffset(reader, levelThree) - before));
        Clients.brokerIsKilled(admin);
        long backMs = System.currentTimeMillis();

        int expected = 0;
        for (int number = 0; number < MESSAGES; number++) {
            expected += 1 + Fate.of(number).failures;
        }
        int deliveriesExpected = expected;
        boolean complete = Deadline.seconds(60).await(() -> deliveries.total() >= deliveriesExpected);
        checks.that(complete, "retry.comes-again", "deliveries=" + deliveries.total() + " of " + expected);
        Thread.sleep(1_500);
        // What Apache had delivered from its schedule before the kill, it delivers again.
        checks.that(deliveries.total() == expected || options.number("may-repeat", 0) == 1, "retry.no-oftener",
            "deliveries=" + deliveries.total());
        timings(backMs);
        for (int number = 0; number < MESSAGES; number++) {
            properties(number);
        }
        if (checks.clean()) {
            checks.ok("retry.properties", "messages=" + MESSAGES);
        }
        checks.same("retry.topic", "retry topic's permission", 6,
            admin.examineTopicConfig(Clients.broker(admin), "%RETRY%" + GROUP).getPerm());
    }

    private void consume() throws Exception {
        DefaultMQPushConsumer consumer = clients.push(GROUP, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeMessageBatchMaxSize(1);
        // Tags of the retry topic are nobody's subscription: the client filters those by itself.
        consumer.subscribe(TOPIC, "TagA || TagB || 标签 || étiquette || TagC");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            Fate fate = Fate.of(Sample.numberOf(message));
            deliveries.add(message);
            if (message.getReconsumeTimes() >= fate.failures) {
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            context.setDelayLevelWhenNextConsume(fate.level);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
    }

    private void timings(long backMs) {
        long earliest = Long.MAX_VALUE;
        long latest = Long.MIN_VALUE;
        for (int number = 0; number < MESSAGES; number++) {
            List<Deliveries.Delivery> all = deliveries.of(number);
            for (int at = 1; at < all.size(); at++) {
                Deliveries.Delivery failed = all.get(at - 1);
                if (all.get(at).attempt() != failed.attempt() + 1) {
                    continue;
                }
                long due = failed.atMs() + Fate.of(number).delayMs(failed.attempt());
                earliest = Math.min(earliest, all.get(at).atMs() - due);
                latest = Math.max(latest, all.get(at).atMs() - Math.max(due, backMs));
            }
        }
        checks.that(earliest >= 0, "retry.never-early", "after-due-min-ms=" + earliest);
        checks.that(latest <= LATE_MS, "retry.in-time", "after-due-max-ms=" + latest);
    }

    private void properties(int number) {
        List<Deliveries.Delivery> all = deliveries.of(number);
        if (all.isEmpty()) {
            return;
        }
        MessageExt first = all.get(0).message();
        for (int at = 0; at < all.size(); at++) {
            MessageExt message = all.get(at).message();
            String who = at + " of message " + number;
            // The topic too: the application sees the one it subscribed to.
            sample(number).matches(checks, "retry.properties", message);
            checks.same("retry.properties", "unique id, delivery " + who, sent.get(number).getMsgId(), message.getMsgId());
            checks.same("retry.properties", "born, delivery " + who, first.getBornTimestamp(), message.getBornTimestamp());
            checks.same("retry.properties", "born host, delivery " + who, first.getBornHost(), message.getBornHost());
            int attempt = message.getReconsumeTimes();
            if (attempt == 0) {
                checks.same("retry.properties", "offset id, delivery " + who, sent.get(number).getOffsetMsgId(),
                    ((org.apache.rocketmq.common.message.MessageClientExt) message).getOffsetMsgId());
                continue;
            }
            checks.same("retry.properties", "retry topic, delivery " + who, TOPIC,
                message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
            checks.same("retry.properties", "origin, delivery " + who, sent.get(number).getOffsetMsgId(),
                message.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID));
            checks.same("retry.properties", "real topic, delivery " + who, "%RETRY%" + GROUP,
                message.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
            int level = Fate.of(number).level == 0 ? 2 + attempt : Fate.of(number).level;
            checks.same("retry.properties", "level, delivery " + who, level, message.getDelayTimeLevel());
        }
    }

    private long maxOffset(DefaultMQPullConsumer reader, MessageQueue queue) {
        try {
            return reader.maxOffset(queue);
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
    }

    private static Sample sample(int number) {
        // Every fourth is compressed on its way, and has to stay so.
        return new Sample(TOPIC, number, number % 4 == 1 ? 20_000 : 100, number % 4 == 1);
    }
}
