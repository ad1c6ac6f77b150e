package skylark.interop;

import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.exception.RemotingException;

/**
 * What a group has consumed, over a restart of the broker that the driver performs between two subcommands. State
 * passes through the driver as printed lines: {@code offsets 0=12,1=13} and {@code consumed 1,5,9}.
 */
final class Offsets {
    private static final String TOPIC = "InteropOffsets";
    private static final String GROUP = "interop-offsets";
    private static final int QUEUES = 4;
    private static final int MESSAGES = 2_000;
    private static final int COMMITTED_QUEUE_MESSAGES = 2_000;

    private final Clients clients;
    private final Checks checks;

    Offsets(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** Sends everything, consumes part of it and leaves; prints what was consumed and where the group stands. */
    void consumeHalf(Main.Options options) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-offsets");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(new Sample(TOPIC, number, 100, false).message());
        }
        Set<Integer> consumed = consume(MESSAGES / 2, true);
        Map<Integer, Long> offsets = new StoredOffsets(producer).of(GROUP, queues);
        long committed = offsets.values().stream().mapToLong(offset -> Math.max(offset, 0)).sum();
        checks.same("offsets.half", "committed is what was consumed", (long) consumed.size(), committed);
        checks.that(consumed.size() < MESSAGES, "offsets.half", "consumed=" + consumed.size());
        System.out.println("offsets " + print(offsets));
        System.out.println("consumed " + consumed.stream().map(String::valueOf).collect(Collectors.joining(",")));
    }

    /** After the restart: the same offsets, and the group gets exactly what it has not had. */
    void consumeRest(Main.Options options) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-offsets");
        List<MessageQueue> queues = producer.fetchPublishMessageQueues(TOPIC);
        String offsets = print(new StoredOffsets(producer).of(GROUP, queues));
        checks.that(offsets.equals(options.text("offsets")), "offsets.exact-after-restart",
            "before=" + options.text("offsets") + " after=" + offsets);

        Set<Integer> before = new HashSet<>();
        for (String number : options.text("consumed").split(",")) {
            before.add(Integer.valueOf(number));
        }
        Set<Integer> after = consume(MESSAGES - before.size(), false);
        Set<Integer> twice = new HashSet<>(after);
        twice.retainAll(before);
        checks.that(twice.isEmpty(), "offsets.nothing-twice", "again=" + twice.size());
        checks.that(after.size() + before.size() - twice.size() == MESSAGES, "offsets.nothing-lost",
            "before=" + before.size() + " after=" + after.size());
    }

    /** Leaves once {@code enough} messages were consumed; {@code slowly} so that the rest is still to come then. */
    private Set<Integer> consume(int enough, boolean slowly) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.push(GROUP, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        if (slowly) {
            consumer.setPullThresholdForQueue(50);
            consumer.setConsumeThreadMin(1);
            consumer.setConsumeThreadMax(1);
        }
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        inbox.await(enough, Deadline.seconds(60));
        consumer.shutdown();
        return inbox.received.keySet();
    }

    /** Commits 1, 2, 3, ... and prints each as soon as the broker has answered, until it answers no more. */
    void commitUntilKilled(Main.Options options) throws Exception {
        String topic = options.text("topic");
        DefaultMQProducer producer = clients.producer("interop-commits");
        MessageQueue queue = clients.createTopic(producer, topic, 1).get(0);
        for (int sent = 0; sent < COMMITTED_QUEUE_MESSAGES; sent += 500) {
            producer.send(Collections.nCopies(500, new Message(topic, new byte[1])));
        }
        StoredOffsets stored = new StoredOffsets(producer);
        String group = options.text("group");
        register(group, queue, stored);
        Deadline deadline = Deadline.seconds(30);
        for (long offset = 1; offset <= COMMITTED_QUEUE_MESSAGES && !deadline.passed(); offset++) {
            try {
                stored.commit(group, queue, offset);
            } catch (RemotingException brokerGone) {
                checks.ok("offsets.commits", "until=" + offset);
                return;
            }
            System.out.println("committed " + offset + " " + System.currentTimeMillis());
            Thread.sleep(2);
        }
        checks.fail("offsets.commits", "the broker was not killed");
    }

    /** A broker takes commits of groups it knows (otherwise 26): it learns this one from a consumer's heartbeat. */
    private void register(String group, MessageQueue queue, StoredOffsets stored) throws Exception {
        DefaultMQPushConsumer member = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        Inbox inbox = new Inbox();
        member.subscribe(queue.getTopic(), "*");
        member.registerMessageListener(inbox);
        member.start();
        Deadline.seconds(30).await(() -> inbox.deliveries.get() >= COMMITTED_QUEUE_MESSAGES);
        member.shutdown();
        stored.commit(group, queue, 0);
    }

    void read(Main.Options options) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-commits");
        List<MessageQueue> queues = producer.fetchPublishMessageQueues(options.text("topic"));
        System.out.println("offsets " + print(new StoredOffsets(producer).of(options.text("group"), queues)));
    }

    private static String print(Map<Integer, Long> offsets) {
        return offsets.entrySet().stream().map(entry -> entry.getKey() + "=" + entry.getValue())
            .collect(Collectors.joining(","));
    }
}
