package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Many messages of 1 B to 1 MiB through two members of one group that leave and come back meanwhile: every one
 * arrives with the bytes it was sent with; some may arrive twice, as at-least-once allows, and are counted.
 */
final class Soak {
    private static final String TOPIC = "InteropSoak";
    private static final String GROUP = "interop-soak";
    private static final int QUEUES = 8;
    private static final int PRODUCERS = 2;
    private static final int THREADS_EACH = 4;
    private static final int BATCH = 10;
    private static final int LARGEST_BYTES = 1 << 20;
    /** 2 GiB in 100,000 messages. */
    private static final long BYTES_PER_MESSAGE = (2L << 30) / 100_000;
    private static final Deadline DEADLINE = Deadline.seconds(900);

    private final Clients clients;
    private final Checks checks;
    private final AtomicInteger distinct = new AtomicInteger();
    private final AtomicInteger duplicates = new AtomicInteger();
    private final AtomicLong bodyBytes = new AtomicLong();
    private AtomicIntegerArray seen;

    Soak(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(int count) throws Exception {
        long start = System.nanoTime();
        seen = new AtomicIntegerArray(count);
        clients.createTopic(clients.producer("interop-soak-setup"), TOPIC, QUEUES);

        Member first = new Member("first");
        List<Member> members = new ArrayList<>(List.of(first));
        ExecutorService senders = Executors.newFixedThreadPool(PRODUCERS * THREADS_EACH);
        List<Future<?>> sending = send(count, senders);

        members.add(new Member("second").joinsAt(count, 15));
        first.leavesAt(count, 30);
        members.add(new Member("first again").joinsAt(count, 45));
        members.get(1).leavesAt(count, 60);
        members.add(new Member("second again").joinsAt(count, 75));

        for (Future<?> sender : sending) {
            sender.get(DEADLINE.atNanos() - System.nanoTime(), TimeUnit.NANOSECONDS);
        }
        senders.shutdown();
        long sentMillis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
        boolean complete = DEADLINE.await(() -> distinct.get() == count);
        for (Member member : members) {
            member.leave();
        }
        long millis = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);

        checks.that(complete, "soak.nothing-lost", complete ? "distinct=" + distinct : "missing " + missing(count));
        checks.that(checks.clean(), "soak.every-body-compared", "body_bytes=" + bodyBytes);
        checks.that(bodyBytes.get() >= BYTES_PER_MESSAGE * count, "soak.volume", "body_bytes=" + bodyBytes);
        Map<String, Integer> shares = new TreeMap<>();
        members.forEach(member -> shares.put(member.name, member.consumed.get()));
        checks.that(members.stream().allMatch(member -> member.consumed.get() > 0), "soak.members-shared", "consumed=" + shares);
        checks.ok("soak.figures", "duplicates=" + duplicates + " sent_ms=" + sentMillis + " ms=" + millis);
    }

    /** Sizes of a mail system: nearly all small, one in seventeen of some 160 KiB, one in seventy near a mebibyte. */
    static Sample sample(int number) {
        long dice = Sample.scramble(~number);
        int within = (int) (dice >>> 40);
        int bytes;
        if (number % 70 == 0) {
            bytes = number % 700 == 0 ? LARGEST_BYTES : LARGEST_BYTES / 2 + within % (LARGEST_BYTES / 2);
        } else if (number % 17 == 0) {
            bytes = (64 << 10) + within % (192 << 10);
        } else {
            // As many between 1 and 2 bytes as between 2 and 4 KiB.
            int bits = (int) Long.remainderUnsigned(dice, 13);
            bytes = (1 << bits) + within % (1 << bits);
        }
        return new Sample(TOPIC, number, bytes, number % 11 == 0);
    }

    private List<Future<?>> send(int count, ExecutorService senders) throws Exception {
        AtomicInteger next = new AtomicInteger();
        List<Future<?>> sending = new ArrayList<>();
        for (int p = 0; p < PRODUCERS; p++) {
            DefaultMQProducer producer = clients.producer("interop-soak-" + p);
            if (p == 0) {
                // Bodies travel as they are; the other producer compresses those over 4 KiB, as clients do by default.
                producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
            }
            for (int t = 0; t < THREADS_EACH; t++) {
                boolean batches = t == 0;
                sending.add(senders.submit(() -> {
                    sendUntil(count, next, producer, batches);
                    return null;
                }));
            }
        }
        return sending;
    }

    private void sendUntil(int count, AtomicInteger next, DefaultMQProducer producer, boolean batches) throws Exception {
        while (!DEADLINE.passed()) {
            int from = next.getAndAdd(BATCH);
            List<Message> small = new ArrayList<>();
            for (int number = from; number < Math.min(from + BATCH, count); number++) {
                Sample sample = sample(number);
                if (batches && sample.bodyBytes() < 4096) {
                    small.add(sample.message());
                } else {
                    accepted(producer.send(sample.message()));
                }
            }
            if (!small.isEmpty()) {
                accepted(producer.send(small));
            }
            if (from + BATCH >= count) {
                return;
            }
        }
    }

    private void accepted(SendResult answer) {
        checks.same("soak.send", "status", SendStatus.SEND_OK, answer.getSendStatus());
    }

    private String missing(int count) {
        StringBuilder numbers = new StringBuilder();
        int missing = 0;
        for (int number = 0; number < count; number++) {
            if (seen.get(number) == 0 && missing++ < 20) {
                numbers.append(' ').append(number);
            }
        }
        return missing + ":" + numbers;
    }

    /** One member of the group, from joining to leaving. */
    private final class Member {
        final String name;
        final AtomicInteger consumed = new AtomicInteger();
        private DefaultMQPushConsumer consumer;

        Member(String name) throws Exception {
            this.name = name;
            if (name.equals("first")) {
                join();
            }
        }

        Member joinsAt(int count, int percent) throws Exception {
            reach(count, percent);
            join();
            return this;
        }

        void leavesAt(int count, int percent) throws Exception {
            reach(count, percent);
            leave();
        }

        void leave() {
            consumer.shutdown();
        }

        private void reach(int count, int percent) throws Exception {
            long target = (long) count * percent / 100;
            if (!DEADLINE.await(() -> distinct.get() >= target)) {
                throw new IllegalStateException("consumed only " + distinct + " of the " + target + " waited for");
            }
        }

        private void join() throws Exception {
            consumer = clients.push(GROUP, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            // Large messages times queues times members: the client's own default is 100 MiB for each queue.
            consumer.setPullThresholdSizeForQueue(8);
            consumer.subscribe(TOPIC, "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                messages.forEach(this::receive);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
        }

        private void receive(MessageExt message) {
            int number = Sample.numberOf(message);
            consumed.incrementAndGet();
            if (number < 0 || number >= seen.length()) {
                checks.fail("soak.receive", "a message nobody sent: " + message);
                return;
            }
            sample(number).matches(checks, "soak.receive", message);
            if (seen.incrementAndGet(number) > 1) {
                duplicates.incrementAndGet();
                return;
            }
            bodyBytes.addAndGet(message.getBody().length);
            distinct.incrementAndGet();
        }
    }
}
