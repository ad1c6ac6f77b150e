package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/** Ways to consume beyond the plain group: by tag, by every member, in order. */
final class Features {
    private static final int MESSAGES = 500;
    private static final int QUEUES = 4;

    private final Clients clients;
    private final Checks checks;

    Features(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** A group gets the tags it named and no other, non-ASCII ones included. */
    void tags() throws Exception {
        fill("InteropTags");
        Set<String> wanted = Set.of("TagB", "标签");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.push("interop-tags", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe("InteropTags", "TagB || 标签");
        consumer.registerMessageListener(inbox);
        consumer.start();
        Set<Integer> expected = IntStream.range(0, MESSAGES)
            .filter(number -> wanted.contains(sample("InteropTags", number).tag())).boxed().collect(Collectors.toSet());
        inbox.await(expected.size(), Deadline.seconds(60));
        consumer.shutdown();
        checks.that(inbox.received.keySet().equals(expected), "tags.exactly-those",
            "expected=" + expected.size() + " received=" + inbox.received.size());
    }

    /** Every member of a broadcasting group gets every message. */
    void broadcast() throws Exception {
        String topic = "InteropBroadcast";
        clients.createTopic(clients.producer("interop-broadcast-setup"), topic, QUEUES);
        List<Inbox> inboxes = List.of(new Inbox(), new Inbox());
        for (Inbox inbox : inboxes) {
            DefaultMQPushConsumer consumer = clients.push("interop-broadcast", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setMessageModel(MessageModel.BROADCASTING);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(inbox);
            consumer.start();
        }
        fill(topic);
        for (Inbox inbox : inboxes) {
            boolean complete = inbox.await(MESSAGES, Deadline.seconds(60));
            checks.that(complete && inbox.deliveries.get() == MESSAGES, "broadcast.everything-to-everyone",
                "received=" + inbox.received.size() + " deliveries=" + inbox.deliveries);
        }
    }

    /**
     * Two members that lock their queues: within a queue one message at a time, in the order it was stored, also
     * where the application asks to see one again.
     */
    void orderly() throws Exception {
        String topic = "InteropOrderly";
        clients.createTopic(clients.producer("interop-orderly-setup"), topic, QUEUES);
        Ordered ordered = new Ordered();
        List<DefaultMQPushConsumer> members = new ArrayList<>();
        for (int member = 0; member < 2; member++) {
            DefaultMQPushConsumer consumer = clients.push("interop-orderly", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setSuspendCurrentQueueTimeMillis(100);
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(ordered.listener());
            consumer.start();
            members.add(consumer);
        }
        fill(topic);
        boolean complete = Deadline.seconds(90).await(() -> ordered.consumed.size() == MESSAGES);
        members.forEach(DefaultMQPushConsumer::shutdown);
        checks.that(complete, "orderly.complete", "consumed=" + ordered.consumed.size());
        checks.that(ordered.outOfOrder.get() == 0, "orderly.in-order", "violations=" + ordered.outOfOrder);
        checks.that(ordered.overlapping.get() == 0, "orderly.one-at-a-time", "violations=" + ordered.overlapping);
        checks.that(ordered.again.get() > 0, "orderly.suspended-comes-again", "again=" + ordered.again);
    }

    private static final class Ordered {
        final Map<Long, Integer> consumed = new ConcurrentHashMap<>();
        final AtomicInteger outOfOrder = new AtomicInteger();
        final AtomicInteger overlapping = new AtomicInteger();
        final AtomicInteger again = new AtomicInteger();
        private final Map<Integer, Long> next = new ConcurrentHashMap<>();
        private final Map<Integer, AtomicBoolean> busy = new ConcurrentHashMap<>();

        MessageListenerOrderly listener() {
            return (messages, context) -> {
                int queue = context.getMessageQueue().getQueueId();
                AtomicBoolean inside = busy.computeIfAbsent(queue, id -> new AtomicBoolean());
                if (!inside.compareAndSet(false, true)) {
                    overlapping.incrementAndGet();
                }
                try {
                    return take(queue, messages.get(0).getQueueOffset());
                } finally {
                    inside.set(false);
                }
            };
        }

        private ConsumeOrderlyStatus take(int queue, long offset) {
            long expected = next.getOrDefault(queue, 0L);
            // A queue that changes hands is read again from its committed offset: going back is legal, skipping is not.
            if (offset > expected) {
                outOfOrder.incrementAndGet();
            }
            long place = ((long) queue << 32) + offset;
            if (offset % 50 == 7 && consumed.putIfAbsent(place, 1) == null) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            if (consumed.merge(place, 1, Integer::sum) > 1) {
                again.incrementAndGet();
            }
            next.merge(queue, offset + 1, Math::max);
            return ConsumeOrderlyStatus.SUCCESS;
        }
    }

    private void fill(String topic) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-fill-" + topic);
        List<MessageQueue> queues = clients.createTopic(producer, topic, QUEUES);
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(sample(topic, number).message(), queues.get(number % QUEUES));
        }
    }

    private static Sample sample(String topic, int number) {
        return new Sample(topic, number, 64, false);
    }
}
