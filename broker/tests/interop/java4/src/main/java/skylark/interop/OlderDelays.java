package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages with a delay level come once, to their queue, never early and not much too late. */
final class OlderDelays {
    private static final String TOPIC = "InteropOlderDelay";
    private static final String GROUP = "interop-older-delay";
    private static final int QUEUES = 4;
    private static final int MESSAGES = 24;
    private static final long[] DELAYS_MS = {0, 1_000, 5_000, 10_000};
    private static final long LATE_MS = 10_000;

    private final OlderClients clients;
    private final Checks checks;

    OlderDelays(OlderClients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    private record Arrival(MessageExt message, long at) {
    }

    void run() throws Exception {
        DefaultMQProducer producer = clients.producer("interop-older-delay");
        clients.createTopic(producer, TOPIC, QUEUES);
        Map<Integer, List<Arrival>> arrivals = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = clients.push(GROUP);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                arrivals.computeIfAbsent(Sample.numberOf(message), number -> new CopyOnWriteArrayList<>())
                    .add(new Arrival(message, System.currentTimeMillis()));
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();

        long[] sentAt = new long[MESSAGES];
        long[] answeredAt = new long[MESSAGES];
        for (int number = 0; number < MESSAGES; number++) {
            Message message = sample(number).message();
            message.setDelayTimeLevel(level(number));
            sentAt[number] = System.currentTimeMillis();
            SendResult answer = producer.send(message, (all, m, key) -> all.get((int) key), number % QUEUES);
            answeredAt[number] = System.currentTimeMillis();
            checks.same("delay.sent", "status of message " + number, SendStatus.SEND_OK, answer.getSendStatus());
        }
        Deadline.seconds(60).await(() -> arrivals.size() == MESSAGES);
        // A second copy would come with the first.
        Thread.sleep(1_000);
        consumer.shutdown();
        for (int number = 0; number < MESSAGES; number++) {
            String who = "message " + number + " ";
            List<Arrival> found = arrivals.getOrDefault(number, List.of());
            if (!checks.same("delay.each-once", who + "deliveries", 1, found.size())) {
                continue;
            }
            MessageExt message = found.get(0).message();
            sample(number).matches(checks, "delay.as-sent", message);
            checks.same("delay.as-sent", who + "queue", number % QUEUES, message.getQueueId());
            checks.same("delay.as-sent", who + "level", level(number), message.getDelayTimeLevel());
            checks.same("delay.as-sent", who + "reconsume times", 0, message.getReconsumeTimes());
            long delay = DELAYS_MS[level(number)];
            long came = found.get(0).at();
            if (came - sentAt[number] < delay) {
                checks.fail("delay.in-time", who + "came after " + (came - sentAt[number]) + " ms instead of " + delay);
            }
            if (came - answeredAt[number] > delay + LATE_MS) {
                checks.fail("delay.in-time", who + "came after " + (came - answeredAt[number]) + " ms instead of " + delay);
            }
        }
        if (checks.clean()) {
            checks.ok("delay.each-once", "messages=" + MESSAGES);
            checks.ok("delay.as-sent", "messages=" + MESSAGES);
            checks.ok("delay.in-time", "levels=" + (DELAYS_MS.length - 1));
        }
    }

    private static int level(int number) {
        return number / QUEUES % DELAYS_MS.length;
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 100, false);
    }
}
