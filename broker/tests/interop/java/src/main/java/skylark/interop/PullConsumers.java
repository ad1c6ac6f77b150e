package skylark.interop;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Consumers that ask for messages themselves. */
@SuppressWarnings("deprecation")
final class PullConsumers {
    private static final int MESSAGES = 500;
    private static final int QUEUES = 4;

    private final Clients clients;
    private final Checks checks;

    PullConsumers(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** The lite pull consumer: by subscription with committed offsets, then with queues and positions by hand. */
    void lite() throws Exception {
        String topic = "InteropLitePull";
        DefaultMQProducer producer = clients.producer("interop-lite-pull");
        List<MessageQueue> queues = clients.createTopic(producer, topic, QUEUES);
        send(producer, topic, 0, MESSAGES);
        Set<Integer> first = subscribed(topic, MESSAGES);
        checks.that(first.size() == MESSAGES, "lite-pull.subscribed", "received=" + first.size());

        send(producer, topic, MESSAGES, 2 * MESSAGES);
        Set<Integer> second = subscribed(topic, MESSAGES);
        first.retainAll(second);
        checks.that(first.isEmpty() && second.size() == MESSAGES, "lite-pull.resumes-at-commit",
            "received=" + second.size() + " again=" + first.size());

        DefaultLitePullConsumer consumer = clients.lite("interop-lite-assigned");
        consumer.start();
        consumer.assign(queues);
        for (MessageQueue queue : queues) {
            consumer.seekToBegin(queue);
        }
        Set<Integer> all = poll(consumer, topic, 2 * MESSAGES);
        checks.that(all.size() == 2 * MESSAGES, "lite-pull.assigned", "received=" + all.size());
        for (MessageQueue queue : queues) {
            long start = consumer.offsetForTimestamp(queue, 0L);
            checks.same("lite-pull.offset-for-timestamp", queue.toString(), 0L, start);
        }
        consumer.shutdown();
        if (checks.clean()) {
            checks.ok("lite-pull.offset-for-timestamp", "queues=" + queues.size());
        }
    }

    private Set<Integer> subscribed(String topic, int enough) throws Exception {
        DefaultLitePullConsumer consumer = clients.lite("interop-lite-subscribed");
        consumer.subscribe(topic, "*");
        consumer.start();
        Set<Integer> received = poll(consumer, topic, enough);
        consumer.commit();
        consumer.shutdown();
        return received;
    }

    private Set<Integer> poll(DefaultLitePullConsumer consumer, String topic, int enough) {
        Set<Integer> received = new TreeSet<>();
        Deadline deadline = Deadline.seconds(60);
        while (received.size() < enough && !deadline.passed()) {
            for (MessageExt message : consumer.poll(200)) {
                int number = Sample.numberOf(message);
                sample(topic, number).matches(checks, "lite-pull.content", message);
                received.add(number);
            }
        }
        return received;
    }

    /** The plain pull consumer: explicit offsets, the ends of a queue, offsets by time, the tag filter. */
    void plain() throws Exception {
        String topic = "InteropPull";
        DefaultMQProducer producer = clients.producer("interop-pull-fill");
        clients.createTopic(producer, topic, QUEUES);
        long before = System.currentTimeMillis();
        send(producer, topic, 0, MESSAGES);

        DefaultMQPullConsumer consumer = clients.configured(new DefaultMQPullConsumer("interop-pull"));
        clients.closeLater(consumer::shutdown);
        consumer.start();
        Collection<MessageQueue> queues = consumer.fetchSubscribeMessageQueues(topic);
        Map<Integer, Long> ends = new TreeMap<>();
        Set<Integer> received = new TreeSet<>();
        for (MessageQueue queue : queues) {
            long end = consumer.maxOffset(queue);
            ends.put(queue.getQueueId(), end);
            checks.same("pull.ends", "min of " + queue, 0L, consumer.minOffset(queue));
            checks.same("pull.ends", "offset at the start of " + queue, 0L, consumer.searchOffset(queue, before - 60_000));
            received.addAll(read(consumer, queue, topic, end));

            PullResult beyond = consumer.pull(queue, "*", end + 1000, 32);
            checks.same("pull.beyond-the-end", "status", PullStatus.OFFSET_ILLEGAL, beyond.getPullStatus());
            checks.same("pull.beyond-the-end", "next", end, beyond.getNextBeginOffset());
            PullResult none = consumer.pull(queue, "NoSuchTag", 0, 32);
            checks.same("pull.no-such-tag", "status", PullStatus.NO_MATCHED_MSG, none.getPullStatus());

            consumer.updateConsumeOffset(queue, end / 2);
            consumer.getOffsetStore().persist(queue);
            // The commit is one-way: nothing says when the broker has taken it.
            Deadline.seconds(10).await(() -> committed(consumer, queue) == end / 2);
            checks.same("pull.committed", "offset of " + queue, end / 2, committed(consumer, queue));
        }
        checks.that(received.size() == MESSAGES, "pull.everything", "received=" + received.size() + " ends=" + ends);
        if (checks.clean()) {
            checks.ok("pull.edges", "queues=" + queues.size());
        }
    }

    private static long committed(DefaultMQPullConsumer consumer, MessageQueue queue) {
        try {
            return consumer.fetchConsumeOffset(queue, true);
        } catch (MQClientException unanswered) {
            return -1;
        }
    }

    private Set<Integer> read(DefaultMQPullConsumer consumer, MessageQueue queue, String topic, long end) throws Exception {
        Set<Integer> received = new TreeSet<>();
        long next = 0;
        Deadline deadline = Deadline.seconds(60);
        while (next < end && !deadline.passed()) {
            PullResult result = consumer.pull(queue, "*", next, 32);
            if (!checks.same("pull.everything", "status at " + next, PullStatus.FOUND, result.getPullStatus())) {
                return received;
            }
            for (MessageExt message : result.getMsgFoundList()) {
                checks.same("pull.everything", "offset", next++, message.getQueueOffset());
                int number = Sample.numberOf(message);
                sample(topic, number).matches(checks, "pull.content", message);
                received.add(number);
            }
            checks.same("pull.everything", "next offset", next, result.getNextBeginOffset());
        }
        return received;
    }

    private void send(DefaultMQProducer producer, String topic, int from, int to) throws Exception {
        for (int number = from; number < to; number++) {
            producer.send(sample(topic, number).message());
        }
    }

    private static Sample sample(String topic, int number) {
        return new Sample(topic, number, 1 + number % 300, false);
    }
}
