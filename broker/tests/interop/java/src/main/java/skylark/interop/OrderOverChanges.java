package skylark.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.exception.RemotingException;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Queues that are consumed in order while members join, leave and are killed and the broker is killed beneath them.
 *
 * <p>Messages of a queue are numbered from 0. A queue that changes hands is read again from its committed offset, so
 * going back is legal; skipping is not, and nor are two members at work on one queue.
 */
final class OrderOverChanges {
    private static final String TOPIC = "InteropOrder";
    private static final String GROUP = "interop-order";
    private static final int QUEUES = 4;
    /** The broker gives a dead member's queue away 60 s after its last word, and the others ask every 20 s. */
    private static final long LEASE_OVER_S = 110;

    private final Clients clients;
    private final Checks checks;
    private final AtomicBoolean sending = new AtomicBoolean(true);
    private final AtomicIntegerArray sent = new AtomicIntegerArray(QUEUES);
    /** By queue, one past the highest number that was consumed. */
    private final AtomicIntegerArray next = new AtomicIntegerArray(QUEUES);
    private final List<Turn> turns = new ArrayList<>();

    OrderOverChanges(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    /** A member at work on one message; the clock is the machine's, for members of different processes. */
    private record Turn(String member, int queue, int number, long beganMs, long endedMs) {
        static Turn parse(String line) {
            String[] parts = line.split(" ");
            return new Turn(parts[1], Integer.parseInt(parts[2]), Integer.parseInt(parts[3]), Long.parseLong(parts[4]),
                Long.parseLong(parts[5]));
        }

        String print() {
            return "turn " + member + " " + queue + " " + number + " " + beganMs + " " + endedMs;
        }
    }

    void run() throws Exception {
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-order");
        producer.setRetryTimesWhenSendFailed(0);
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        List<Thread> senders = queues.stream().map(queue -> new Thread(() -> send(producer, queue))).toList();
        senders.forEach(Thread::start);

        join("a");
        DefaultMQPushConsumer b = join("b");
        // The first one's renewal of its locks may overtake its word that it gives half of them up: both leave it at the
        // same second, from two threads. Then its lease has to run out.
        goesOn("order.two-members", LEASE_OVER_S);
        Process child = Children.start("order-child", clients.namesrv(), line -> {
            if (line.startsWith("turn ")) {
                take(Turn.parse(line));
            }
        });
        checks.that(Deadline.seconds(60).await(() -> turnsOf("child") >= 20), "order.joined", "turns=" + turnsOf("child"));
        child.destroyForcibly();
        child.waitFor();
        long killed = System.nanoTime();
        join("c");
        b.shutdown();
        // The queues of the killed one stand still until its lease has run out; those of the other went on at once.
        goesOn("order.lease-of-the-dead", LEASE_OVER_S);
        System.out.println("takeover ms=" + (System.nanoTime() - killed) / 1_000_000);
        Clients.brokerIsKilled(admin);
        goesOn("order.over-kill", 90);
        sending.set(false);
        for (Thread sender : senders) {
            sender.join();
        }
        boolean complete = Deadline.seconds(60).await(() -> {
            for (int queue = 0; queue < QUEUES; queue++) {
                if (next.get(queue) < sent.get(queue)) {
                    return false;
                }
            }
            return true;
        });
        checks.that(complete, "order.complete", "sent=" + sent + " consumed=" + next);
        verify();
    }

    /** The other process: says what it does until it is killed. */
    void child() throws Exception {
        join("child");
        Thread.sleep(180_000);
    }

    private DefaultMQPushConsumer join(String name) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(GROUP, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeMessageBatchMaxSize(1);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            MessageExt message = messages.get(0);
            long began = System.currentTimeMillis();
            pause(2);
            int number = Integer.parseInt(new String(message.getBody(), StandardCharsets.UTF_8));
            Turn turn = new Turn(name, message.getQueueId(), number, began, System.currentTimeMillis());
            if (name.equals("child")) {
                // Said before it is committed: what a killed member had done is known.
                System.out.println(turn.print());
                System.out.flush();
            } else {
                take(turn);
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private void take(Turn turn) {
        synchronized (turns) {
            turns.add(turn);
        }
        next.accumulateAndGet(turn.queue(), turn.number() + 1, Math::max);
    }

    private long turnsOf(String member) {
        synchronized (turns) {
            return turns.stream().filter(turn -> turn.member().equals(member)).count();
        }
    }

    /** Every queue is being consumed, up to messages that were sent after this was asked. */
    private void goesOn(String check, long withinS) throws Exception {
        int[] wanted = new int[QUEUES];
        for (int queue = 0; queue < QUEUES; queue++) {
            wanted[queue] = sent.get(queue) + 20;
        }
        boolean all = Deadline.seconds(withinS).await(() -> {
            for (int queue = 0; queue < QUEUES; queue++) {
                if (next.get(queue) < wanted[queue]) {
                    return false;
                }
            }
            return true;
        });
        checks.that(all, check, "sent=" + sent + " consumed=" + next);
    }

    private void verify() {
        Map<String, Integer> byMember = new ConcurrentHashMap<>();
        List<Turn> sorted;
        synchronized (turns) {
            sorted = new ArrayList<>(turns);
        }
        sorted.sort(java.util.Comparator.comparingLong(Turn::beganMs).thenComparingInt(Turn::number));
        int again = 0;
        for (int queue = 0; queue < QUEUES; queue++) {
            int expected = 0;
            Turn last = null;
            for (Turn turn : sorted) {
                if (turn.queue() != queue) {
                    continue;
                }
                byMember.merge(turn.member(), 1, Integer::sum);
                if (turn.number() > expected) {
                    checks.fail("order.kept", turn + " when " + expected + " was next");
                }
                if (last != null && !last.member().equals(turn.member()) && turn.beganMs() < last.endedMs()) {
                    checks.fail("order.one-at-a-time", last + " and " + turn);
                }
                // Within one member's tenure nothing goes back either.
                again += turn.number() < expected ? 1 : 0;
                expected = Math.max(expected, turn.number() + 1);
                last = turn;
            }
        }
        if (checks.clean()) {
            checks.ok("order.kept", "turns=" + sorted.size() + " again=" + again + " by-member=" + byMember);
            checks.ok("order.one-at-a-time", "members=" + byMember.size());
        }
    }

    /** Numbers in the order of acknowledgement; one whose answer is lost may be stored twice, as the same number. */
    private void send(DefaultMQProducer producer, MessageQueue queue) {
        int number = 0;
        try {
            while (sending.get()) {
                try {
                    producer.send(new Message(TOPIC, String.valueOf(number).getBytes(StandardCharsets.UTF_8)), queue);
                    number++;
                    sent.set(queue.getQueueId(), number);
                    Thread.sleep(10);
                } catch (RemotingException | MQBrokerException | MQClientException brokerIsAway) {
                    Thread.sleep(100);
                }
            }
        } catch (InterruptedException interrupted) {
            checks.fail("order.send", interrupted.toString());
        }
    }

    private static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
