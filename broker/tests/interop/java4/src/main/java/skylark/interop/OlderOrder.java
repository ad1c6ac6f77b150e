package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Members that lock their queues, one of which joins and one of which leaves: within a queue one message at a time
 * and in the order stored, also where the application asks to see one again, and past one that it never accepts.
 */
final class OlderOrder {
    private static final String TOPIC = "InteropOlderOrder";
    private static final String GROUP = "interop-older-order";
    private static final int QUEUES = 4;
    private static final int NEVER_ACCEPTED = 21;
    private static final int RETRIES = 2;

    private final OlderClients clients;
    private final Checks checks;
    private final Map<Integer, Integer> accepted = new ConcurrentHashMap<>();
    private final Map<Integer, Long> next = new ConcurrentHashMap<>();
    private final Map<Integer, AtomicBoolean> busy = new ConcurrentHashMap<>();
    private final List<Integer> refusals = new CopyOnWriteArrayList<>();
    private final AtomicInteger outOfOrder = new AtomicInteger();
    private final AtomicInteger overlapping = new AtomicInteger();
    private final Set<Integer> suspended = ConcurrentHashMap.newKeySet();
    private final Set<Integer> cameAgain = ConcurrentHashMap.newKeySet();

    OlderOrder(OlderClients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    private static final class Member {
        final AtomicInteger consumed = new AtomicInteger();
        DefaultMQPushConsumer consumer;
    }

    void run(int count) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-older-order");
        clients.createTopic(producer, TOPIC, QUEUES);
        clients.introduce(producer, GROUP, TOPIC);

        Member first = member();
        send(producer, 0, count / 3);
        await("orderly.alone", count / 3);
        Member second = member();
        Deadline joined = Deadline.seconds(90);
        int sent = count / 3;
        // A queue changes hands while messages flow; how soon is the clients' affair.
        while (second.consumed.get() == 0 && !joined.passed()) {
            send(producer, sent, ++sent);
            Thread.sleep(20);
        }
        checks.that(second.consumed.get() > 0, "orderly.second-takes-over", "sent=" + sent);
        send(producer, sent, sent + count / 3);
        first.consumer.shutdown();
        sent += count / 3;
        send(producer, sent, sent + count / 3);
        sent += count / 3;
        await("orderly.complete", sent);
        second.consumer.shutdown();

        checks.that(outOfOrder.get() == 0, "orderly.in-order", "violations=" + outOfOrder);
        checks.that(overlapping.get() == 0, "orderly.one-at-a-time", "violations=" + overlapping);
        checks.that(!suspended.isEmpty() && cameAgain.equals(suspended), "orderly.suspended-comes-again",
            "suspended=" + suspended.size() + " again=" + cameAgain.size());
        deadLetter(producer);
    }

    /** Everything but the message that is never accepted. */
    private void await(String check, int sent) throws Exception {
        boolean complete = Deadline.seconds(120).await(() -> accepted.size() >= sent - 1);
        checks.that(complete, check, "sent=" + sent + " accepted=" + accepted.size());
    }

    private void send(DefaultMQProducer producer, int from, int to) throws Exception {
        for (int number = from; number < to; number++) {
            SendResult answer = producer.send(sample(number).message(), (all, message, key) -> all.get((int) key),
                number % QUEUES);
            checks.same("orderly.in-order", "queue of message " + number, number % QUEUES,
                answer.getMessageQueue().getQueueId());
        }
    }

    private Member member() throws Exception {
        Member member = new Member();
        member.consumer = clients.push(GROUP);
        member.consumer.setMaxReconsumeTimes(RETRIES);
        member.consumer.setSuspendCurrentQueueTimeMillis(200);
        member.consumer.subscribe(TOPIC, "*");
        member.consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            member.consumed.incrementAndGet();
            return consume(messages.get(0), context);
        });
        member.consumer.start();
        return member;
    }

    private ConsumeOrderlyStatus consume(MessageExt message, ConsumeOrderlyContext context) {
        int queue = context.getMessageQueue().getQueueId();
        AtomicBoolean inside = busy.computeIfAbsent(queue, id -> new AtomicBoolean());
        if (!inside.compareAndSet(false, true)) {
            overlapping.incrementAndGet();
        }
        try {
            return take(queue, message);
        } finally {
            inside.set(false);
        }
    }

    private ConsumeOrderlyStatus take(int queue, MessageExt message) {
        int number = Sample.numberOf(message);
        long offset = message.getQueueOffset();
        // A queue that changes hands is read again from its committed offset: going back is legal, skipping is not.
        if (offset > next.getOrDefault(queue, 0L)) {
            outOfOrder.incrementAndGet();
        }
        sample(number).matches(checks, "orderly.in-order", message);
        if (number == NEVER_ACCEPTED) {
            refusals.add(message.getReconsumeTimes());
            next.merge(queue, offset + 1, Math::max);
            return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
        }
        if (number % 50 == 7 && !accepted.containsKey(number)) {
            // The client counts, so a queue that changes hands in between begins anew.
            if (message.getReconsumeTimes() == 0) {
                suspended.add(number);
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            checks.same("orderly.suspended-comes-again", "reconsume times", 1, message.getReconsumeTimes());
            cameAgain.add(number);
        }
        accepted.put(number, queue);
        next.merge(queue, offset + 1, Math::max);
        return ConsumeOrderlyStatus.SUCCESS;
    }

    /** The client sends it to its retry topic; as the group holds locks the broker makes it a dead letter at once. */
    private void deadLetter(DefaultMQProducer producer) throws Exception {
        // Whoever reads a queue again from its committed offset may come past the message once more.
        int rounds = refusals.size() / (1 + RETRIES);
        for (int at = 0; at < refusals.size(); at++) {
            checks.same("orderly.dead-letter", "refused with reconsume times", at % (1 + RETRIES), refusals.get(at));
        }
        AtomicInteger copies = new AtomicInteger();
        Map<Integer, MessageExt> found = clients.deadLetters(producer, GROUP, rounds, copies);
        checks.same("orderly.dead-letter", "copies", rounds, copies.get());
        MessageExt letter = found.get(NEVER_ACCEPTED);
        if (letter != null) {
            new OlderDeadLetter("orderly.dead-letter", checks, sample(NEVER_ACCEPTED), letter)
                .matches(GROUP, RETRIES);
        }
        checks.that(letter != null && checks.clean(), "orderly.dead-letter", "refused=" + rounds + " copies=" + copies);
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 64, false);
    }
}
