package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A listener that fails gets the message again after the level's delay, never before it, as often as the group
 * allows; then the message is a dead letter. All that an application set comes back with it.
 */
final class OlderRetries {
    private static final String TOPIC = "InteropOlderRetry";
    private static final String GROUP = "interop-older-retry";
    private static final int MESSAGES = 16;
    /** Of the levels 3, 4, 5, ...: the first retry waits for level 3. */
    private static final long[] DELAYS_MS = {10_000, 30_000, 60_000, 120_000};
    private static final long LEVEL_1_MS = 1_000;
    /** A busy machine, not a broker that forgets. */
    private static final long LATE_MS = 15_000;

    private final OlderClients clients;
    private final Checks checks;
    private final Map<Integer, List<Delivery>> deliveries = new ConcurrentHashMap<>();

    OlderRetries(OlderClients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** {@code at} is read before the client can tell the broker that the message is not wanted. */
    private record Delivery(MessageExt message, int reconsumeTimes, long at) {
    }

    private enum Fate { SUCCEEDS, FAILS_ONCE, FAILS_ALWAYS, FAILS_ONCE_AT_LEVEL_1 }

    private static Fate fate(int number) {
        return Fate.values()[number % Fate.values().length];
    }

    void run(int retries) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-older-retry");
        clients.createTopic(producer, TOPIC, 4);
        clients.introduce(producer, GROUP, TOPIC);
        DefaultMQPushConsumer consumer = clients.push(GROUP);
        consumer.setMaxReconsumeTimes(retries);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) this::consume);
        consumer.start();
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(sample(number).message());
        }
        long patience = 60;
        for (int retry = 0; retry < retries; retry++) {
            patience += (DELAYS_MS[retry] + LATE_MS) / 1_000;
        }
        int all = IntStream.range(0, MESSAGES).map(number -> deliveriesOf(number, retries)).sum();
        Deadline.seconds(patience).await(() -> count() >= all);
        for (int number = 0; number < MESSAGES; number++) {
            examine(number, retries);
        }
        if (checks.clean()) {
            checks.ok("retry.deliveries", "messages=" + MESSAGES + " deliveries=" + all);
            checks.ok("retry.delays", "retries=" + retries);
            checks.ok("retry.properties", "messages=" + MESSAGES);
        }
        deadLetters(producer, retries);
        checks.same("retry.dead-letters", "deliveries to the group afterwards", all, count());
        consumer.shutdown();
    }

    private ConsumeConcurrentlyStatus consume(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
        MessageExt message = messages.get(0);
        int number = Sample.numberOf(message);
        int times = message.getReconsumeTimes();
        Fate fate = fate(number);
        if (fate == Fate.FAILS_ONCE_AT_LEVEL_1) {
            context.setDelayLevelWhenNextConsume(1);
        }
        deliveries.computeIfAbsent(number, n -> new CopyOnWriteArrayList<>())
            .add(new Delivery(message, times, System.currentTimeMillis()));
        boolean fails = fate == Fate.FAILS_ALWAYS || fate != Fate.SUCCEEDS && times == 0;
        return fails ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    private int count() {
        return deliveries.values().stream().mapToInt(List::size).sum();
    }

    private static int deliveriesOf(int number, int retries) {
        return switch (fate(number)) {
            case SUCCEEDS -> 1;
            case FAILS_ONCE, FAILS_ONCE_AT_LEVEL_1 -> 2;
            case FAILS_ALWAYS -> 1 + retries;
        };
    }

    private void examine(int number, int retries) {
        List<Delivery> found = deliveries.getOrDefault(number, List.of());
        String who = "message " + number + " ";
        if (!checks.same("retry.deliveries", who + "deliveries", deliveriesOf(number, retries), found.size())) {
            return;
        }
        MessageExt first = found.get(0).message();
        for (int times = 0; times < found.size(); times++) {
            Delivery delivery = found.get(times);
            MessageExt message = delivery.message();
            String which = who + "delivery " + times + " ";
            checks.same("retry.deliveries", which + "reconsume times", times, delivery.reconsumeTimes());
            sample(number).matches(checks, "retry.properties", message);
            checks.same("retry.properties", which + "id", first.getMsgId(), message.getMsgId());
            if (times == 0) {
                continue;
            }
            checks.same("retry.properties", which + "RETRY_TOPIC", TOPIC, message.getProperty("RETRY_TOPIC"));
            checks.same("retry.properties", which + "ORIGIN_MESSAGE_ID", OlderDeadLetter.offsetId(first),
                message.getProperty("ORIGIN_MESSAGE_ID"));
            long delay = fate(number) == Fate.FAILS_ONCE_AT_LEVEL_1 ? LEVEL_1_MS : DELAYS_MS[times - 1];
            long waited = delivery.at() - found.get(times - 1).at();
            if (waited < delay || waited > delay + LATE_MS) {
                checks.fail("retry.delays", which + "came after " + waited + " ms instead of " + delay);
            }
        }
    }

    private void deadLetters(DefaultMQProducer producer, int retries) throws Exception {
        Set<Integer> expected = new TreeSet<>();
        for (int number = 0; number < MESSAGES; number++) {
            if (fate(number) == Fate.FAILS_ALWAYS) {
                expected.add(number);
            }
        }
        AtomicInteger copies = new AtomicInteger();
        Map<Integer, MessageExt> found = clients.deadLetters(producer, GROUP, expected.size(), copies);
        found.forEach((number, message) -> {
            MessageExt first = deliveries.get(number).get(0).message();
            OlderDeadLetter letter = new OlderDeadLetter("retry.dead-letters", checks, sample(number), message);
            letter.matches(GROUP, 1 + retries);
            letter.comesFrom(first);
        });
        checks.that(found.keySet().equals(expected) && copies.get() == expected.size(), "retry.dead-letters",
            "expected=" + expected + " found=" + new TreeSet<>(found.keySet()) + " copies=" + copies);
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 10 + 1_000 * (number % 7), number % 2 == 0);
    }
}
