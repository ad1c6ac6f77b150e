package skylark.interop;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Messages that ask for a time: each comes once and not before it, and none that was recalled. */
final class Timers {
    private static final String TOPIC = "InteropTimers";
    private static final int QUEUES = 4;
    /** Of each way to ask. */
    private static final int EACH = 20;
    private static final int WAYS = 3;
    private static final long DELAY_MS = 4_000;
    private static final long TWO_DAYS_MS = 2 * 86_400_000L;
    private static final int MESSAGE_ILLEGAL = 13;
    private static final int ILLEGAL_OPERATION = 604;
    /**
     * A hang, not a slow machine, is what this bounds, nor a consumer that lost its broker in the middle of its first
     * rebalance: it tries again 20 seconds later.
     */
    private static final long LATE_MS = 60_000;

    private final Clients clients;
    private final Checks checks;
    private final Deliveries deliveries = new Deliveries();
    private final Map<Integer, Long> due = new ConcurrentHashMap<>();
    private final Map<Integer, SendResult> answers = new ConcurrentHashMap<>();

    Timers(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** The driver kills the broker while all messages wait, and after some were recalled. */
    void run(Main.Options options) throws Exception {
        boolean recalls = options.number("recall", 1) == 1;
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-timers");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        consume();
        int count = EACH * WAYS;
        for (int number = 0; number < count; number++) {
            send(producer, queues, number, DELAY_MS + 50L * number);
        }
        // These wait for longer than the test runs.
        send(producer, queues, count, TWO_DAYS_MS);
        tooLong(producer);

        Set<Integer> recalled = new HashSet<>();
        for (int number = 0; recalls && number <= count; number += number == count - 1 ? 1 : 4) {
            if (recall(producer, number)) {
                recalled.add(number);
            }
        }
        Clients.brokerIsKilled(admin);
        long back = System.currentTimeMillis();
        if (recalls) {
            checks.that(recalled.size() > EACH / 2, "timers.recall", "recalled=" + recalled.size());
            checks.that(recall(producer, 0), "timers.recall-again", "over a kill");
        }
        int expected = count - (int) recalled.stream().filter(number -> number < count).count();
        boolean complete = Deadline.seconds(60).await(() -> deliveries.samples() >= expected);
        // Whatever comes twice, or was recalled, comes with the rest.
        Thread.sleep(2_000);
        arrived(expected, complete, count, recalled, back, options);
        if (recalls) {
            int fired = 1;
            checks.same("timers.recall-too-late", "code", ILLEGAL_OPERATION, refusal(producer, fired));
            if (checks.clean()) {
                checks.ok("timers.recall-too-late", "code=" + ILLEGAL_OPERATION);
            }
        }
    }

    private void consume() throws Exception {
        DefaultMQPushConsumer consumer = clients.push("interop-timers", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "TagA || TagB || 标签 || étiquette || TagC");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(deliveries::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private void send(DefaultMQProducer producer, List<MessageQueue> queues, int number, long delayMs) throws Exception {
        Message message = sample(number).message();
        long before = System.currentTimeMillis();
        long at = before + delayMs;
        switch (number % WAYS) {
            case 0 -> message.setDelayTimeMs(delayMs);
            case 1 -> message.setDeliverTimeMs(at);
            default -> {
                long seconds = delayMs / 1000;
                message.setDelayTimeSec(seconds);
                at = before + seconds * 1000;
            }
        }
        due.put(number, at);
        answers.put(number, producer.send(message, queues.get(number % QUEUES)));
    }

    private void tooLong(DefaultMQProducer producer) throws Exception {
        Message message = new Message(TOPIC, "Never", new byte[1]);
        message.setDelayTimeSec(400 * 86_400L);
        try {
            producer.send(message);
            checks.fail("timers.too-long", "it was taken");
        } catch (MQBrokerException refused) {
            checks.that(refused.getResponseCode() == MESSAGE_ILLEGAL, "timers.too-long", refused.getErrorMessage());
        }
    }

    /** Whether the broker says that the message is recalled. */
    private boolean recall(DefaultMQProducer producer, int number) throws Exception {
        SendResult answer = answers.get(number);
        try {
            String id = producer.recallMessage(TOPIC, answer.getRecallHandle());
            checks.same("timers.recall", "id of " + number, answer.getMsgId(), id);
            return true;
        } catch (MQBrokerException tooLate) {
            checks.same("timers.recall", "code for " + number, ILLEGAL_OPERATION, tooLate.getResponseCode());
            return false;
        }
    }

    private int refusal(DefaultMQProducer producer, int number) throws Exception {
        try {
            producer.recallMessage(TOPIC, answers.get(number).getRecallHandle());
            return 0;
        } catch (MQBrokerException refused) {
            return refused.getResponseCode();
        }
    }

    private void arrived(int expected, boolean complete, int count, Set<Integer> recalled, long backMs,
        Main.Options options) {
        long earliest = Long.MAX_VALUE;
        long latest = Long.MIN_VALUE;
        List<Integer> unwanted = new ArrayList<>();
        for (int number = 0; number <= count; number++) {
            for (Deliveries.Delivery delivery : deliveries.of(number)) {
                if (recalled.contains(number) || number == count) {
                    unwanted.add(number);
                }
                earliest = Math.min(earliest, delivery.atMs() - due.get(number));
                latest = Math.max(latest, delivery.atMs() - Math.max(due.get(number), backMs));
                sample(number).matches(checks, "timers.complete", delivery.message());
                checks.same("timers.complete", "queue of " + number, number % QUEUES, delivery.message().getQueueId());
                checks.same("timers.complete", "real topic of " + number, TOPIC,
                    delivery.message().getProperty(MessageConst.PROPERTY_REAL_TOPIC));
                checks.that(delivery.message().getProperty(MessageConst.PROPERTY_TIMER_OUT_MS) != null,
                    "timers.properties", "of " + number);
            }
        }
        checks.that(complete && deliveries.samples() == expected, "timers.complete",
            "messages=" + expected + " received=" + deliveries.samples());
        checks.that(unwanted.isEmpty(), "timers.recalled-never-come", "came=" + unwanted);
        boolean once = deliveries.places() == expected || options.number("may-repeat", 0) == 1;
        checks.that(once, "timers.once", "stored=" + deliveries.places() + " deliveries=" + deliveries.total());
        // Apache counts in seconds, and rounds down.
        checks.that(earliest >= -options.number("precision-ms", 0), "timers.never-early", "after-due-min-ms=" + earliest);
        checks.that(latest <= LATE_MS, "timers.in-time", "after-due-max-ms=" + latest);
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 1 + number * 37 % 3_000, false);
    }
}
