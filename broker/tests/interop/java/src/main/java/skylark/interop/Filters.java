package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntPredicate;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Groups that select by SQL92, in every way in which clients tell the broker what they want. */
final class Filters {
    private static final int MESSAGES = 400;
    private static final int QUEUES = 4;
    private static final int LONG_STRETCH = 50_000;
    private static final int BATCH = 500;
    private static final int SUBSCRIPTION_PARSE_FAILED = 23;

    /** Expressions over samples, and which numbers they select. */
    private static final Map<String, IntPredicate> EXPRESSIONS = new TreeMap<>(Map.of(
        "number > 37", number -> number > 37,
        "number BETWEEN 100 AND 199 AND TAGS = '标签'", number -> number >= 100 && number < 200 && number % 5 == 2,
        "colour = 'vert foncé' OR number IN ('1', '3', '399')", number -> number % 2 == 0 || Set.of(1, 3, 399).contains(number),
        "long IS NOT NULL AND NOT (colour CONTAINS 'vert')", number -> number % 7 == 0 && number % 2 != 0,
        "number NOT BETWEEN 10 AND 389.5 -- the ends\n", number -> number < 10 || number > 389,
        "(TAGS IN ('TagA', 'TagB')) = TRUE AND KEYS STARTSWITH 'key-1'",
        number -> number % 5 < 2 && Integer.toString(number).startsWith("1")));

    private final Clients clients;
    private final Checks checks;
    private DefaultMQAdminExt admin;

    Filters(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        Clients.rebalanceEverySecond();
        String topic = "InteropFilters";
        DefaultMQProducer producer = clients.producer("interop-filters");
        List<MessageQueue> queues = clients.createTopic(producer, topic, QUEUES);
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(sample(topic, number).message(), queues.get(number % QUEUES));
        }
        push(topic);
        lite(topic);
        badExpressions(topic);
        retries(topic);
        longStretch(producer);
    }

    private static Set<Integer> selected(IntPredicate selects) {
        return IntStream.range(0, MESSAGES).filter(selects).boxed().collect(Collectors.toCollection(TreeSet::new));
    }

    /** What the heartbeat states, referred to by its version. */
    private void push(String topic) throws Exception {
        int consumers = 0;
        for (boolean stated : List.of(true, false)) {
            for (Map.Entry<String, IntPredicate> expression : EXPRESSIONS.entrySet()) {
                Inbox inbox = new Inbox();
                DefaultMQPushConsumer consumer =
                    clients.push("interop-filters-push-" + consumers++, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
                // Otherwise each pull brings the expression along.
                consumer.setPostSubscriptionWhenPull(!stated);
                consumer.subscribe(topic, MessageSelector.bySql(expression.getKey()));
                consumer.registerMessageListener(inbox);
                consumer.start();
                Set<Integer> expected = selected(expression.getValue());
                inbox.await(expected.size(), Deadline.seconds(60));
                consumer.shutdown();
                checks.same("filters.push", expression.getKey(), expected, new TreeSet<>(inbox.received.keySet()));
                checks.same("filters.push", "deliveries of " + expression.getKey(), expected.size(), inbox.deliveries.get());
                inbox.received.forEach((number, message) -> sample(topic, number).matches(checks, "filters.push", message));
            }
        }
        if (checks.clean()) {
            checks.ok("filters.push", "consumers=" + consumers);
        }
    }

    private void lite(String topic) throws Exception {
        int consumers = 0;
        for (Map.Entry<String, IntPredicate> expression : EXPRESSIONS.entrySet()) {
            DefaultLitePullConsumer consumer = clients.lite("interop-filters-lite-" + consumers++);
            consumer.subscribe(topic, MessageSelector.bySql(expression.getKey()));
            consumer.start();
            Set<Integer> expected = selected(expression.getValue());
            Set<Integer> received = new TreeSet<>();
            Deadline deadline = Deadline.seconds(60);
            while (received.size() < expected.size() && !deadline.passed()) {
                for (MessageExt message : consumer.poll(200)) {
                    int number = Sample.numberOf(message);
                    sample(topic, number).matches(checks, "filters.lite-pull", message);
                    if (!received.add(number)) {
                        checks.fail("filters.lite-pull", "number " + number + " comes twice with " + expression.getKey());
                    }
                }
            }
            consumer.commit();
            consumer.shutdown();
            checks.same("filters.lite-pull", expression.getKey(), expected, received);
        }
        if (checks.clean()) {
            checks.ok("filters.lite-pull", "consumers=" + consumers);
        }
    }

    /** A start with an expression that does not compile fails, and says why. */
    private void badExpressions(String topic) throws Exception {
        for (String expression : List.of("number >", "number = 'x", "number > 'x'", "number IN (1)", "5")) {
            DefaultMQPushConsumer consumer = clients.push("interop-filters-bad", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.subscribe(topic, MessageSelector.bySql(expression));
            consumer.registerMessageListener(new Inbox());
            try {
                consumer.start();
                checks.fail("filters.bad-expression", expression + " was taken");
            } catch (MQClientException refused) {
                checks.same("filters.bad-expression", expression, SUBSCRIPTION_PARSE_FAILED, refused.getResponseCode());
                System.out.println("refused " + refused.getErrorMessage());
            }
        }
        if (checks.clean()) {
            checks.ok("filters.bad-expression", "code=" + SUBSCRIPTION_PARSE_FAILED);
        }
    }

    /** What was selected once comes again whatever its properties say by then. */
    private void retries(String topic) throws Exception {
        Map<Integer, Integer> deliveries = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = clients.push("interop-filters-retry", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // It is not set on what comes again.
        consumer.subscribe(topic, MessageSelector.bySql("number IN ('5', '6') AND RETRY_TOPIC IS NULL"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            context.setDelayLevelWhenNextConsume(1);
            int number = Sample.numberOf(messages.get(0));
            return deliveries.merge(number, 1, Integer::sum) < 2
                ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        boolean came = Deadline.seconds(90).await(() -> deliveries.equals(Map.of(5, 2, 6, 2)));
        consumer.shutdown();
        checks.that(came, "filters.retries", "deliveries=" + deliveries);
    }

    /** Three messages in a queue of fifty thousand, found from its beginning, and one that arrives while nothing is found. */
    private void longStretch(DefaultMQProducer producer) throws Exception {
        String topic = "InteropFiltersLong";
        MessageQueue queue = clients.createTopic(producer, topic, 1).get(0);
        Set<Integer> wanted = Set.of(17, LONG_STRETCH / 2, LONG_STRETCH - 1);
        for (int from = 0; from < LONG_STRETCH; from += BATCH) {
            List<Message> batch = IntStream.range(from, from + BATCH)
                .mapToObj(number -> message(topic, number, wanted.contains(number))).toList();
            producer.send(batch, queue);
        }
        Set<Integer> received = ConcurrentHashMap.newKeySet();
        AtomicInteger deliveries = new AtomicInteger();
        DefaultMQPushConsumer consumer = clients.push("interop-filters-long", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, MessageSelector.bySql("wanted = TRUE AND weight > 5"));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                received.add(Integer.parseInt(new String(message.getBody())));
                deliveries.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        long began = System.nanoTime();
        consumer.start();
        boolean found = Deadline.seconds(60).await(() -> received.size() == wanted.size());
        long foundMs = (System.nanoTime() - began) / 1_000_000;
        checks.that(found && received.equals(wanted) && deliveries.get() == wanted.size(), "filters.long-stretch",
            "received=" + received + " deliveries=" + deliveries + " ms=" + foundMs);

        // The consumer waits at the end, among messages that it does not want; the one it wants is not kept waiting.
        int late = LONG_STRETCH + 70;
        Set<Integer> expected = new TreeSet<>(wanted);
        expected.add(late);
        for (int number = LONG_STRETCH; number <= late; number++) {
            producer.send(message(topic, number, number == late), queue);
        }
        long arrived = System.nanoTime();
        boolean woken = Deadline.seconds(30).await(() -> received.equals(expected));
        long wokenMs = (System.nanoTime() - arrived) / 1_000_000;
        for (int number = late + 1; number < late + 30; number++) {
            producer.send(message(topic, number, false), queue);
        }
        boolean committed = Deadline.seconds(60).await(() -> lag(queue) == 0);
        consumer.shutdown();
        checks.that(woken && wokenMs < 5_000 && received.equals(expected), "filters.woken", "received=" + received + " ms=" + wokenMs);
        checks.that(committed, "filters.no-lag", "lag=" + lag(queue));
    }

    /** How far the group is behind, as the tools show it: what it does not want is not behind. */
    private long lag(MessageQueue queue) {
        try {
            if (admin == null) {
                admin = clients.admin();
            }
            var offset = admin.examineConsumeStats("interop-filters-long").getOffsetTable().get(queue);
            return offset == null ? -1 : offset.getBrokerOffset() - offset.getConsumerOffset();
        } catch (Exception notThereYet) {
            return -1;
        }
    }

    private static Message message(String topic, int number, boolean isWanted) {
        Message message = new Message(topic, Integer.toString(number).getBytes());
        message.putUserProperty("wanted", Boolean.toString(isWanted));
        message.putUserProperty("weight", Integer.toString(number % 10 + 6));
        return message;
    }

    private static Sample sample(String topic, int number) {
        return new Sample(topic, number, 64, false);
    }
}
