package skylark.interop;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Groups that stop fetching, each for a reason of its own: a listener that does not return from a message of one queue,
 * a consumer that is suspended, one that was closed. The driver sees that the broker says so, and creates the file in
 * {@code until=PATH}; then all three go on.
 */
final class Stuck {
    private static final String TOPIC = "InteropStuck";
    private static final String BLOCKED = "interop-blocked";
    private static final String SUSPENDED = "interop-suspended";
    private static final String CLOSED = "interop-closed";
    private static final int QUEUES = 2;
    /** One for each queue, that everybody gets. */
    private static final int BEFORE = QUEUES;
    private static final int MESSAGES = 20;
    private static final int BLOCKED_QUEUE = 0;

    private final Clients clients;
    private final Checks checks;
    private final CountDownLatch released = new CountDownLatch(1);
    private volatile boolean blocks;

    Stuck(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(Main.Options options) throws Exception {
        Path until = Path.of(options.text("until"));
        DefaultMQProducer producer = clients.producer("interop-stuck");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        Deliveries toBlocked = new Deliveries();
        Deliveries toSuspended = new Deliveries();
        Deliveries toClosed = new Deliveries();
        DefaultMQPushConsumer blocked = consume(BLOCKED, toBlocked);
        DefaultMQPushConsumer suspended = consume(SUSPENDED, toSuspended);
        DefaultMQPushConsumer closed = consume(CLOSED, toClosed);
        List<Deliveries> all = List.of(toBlocked, toSuspended, toClosed);
        send(producer, queues, 0, BEFORE);
        boolean begun = Deadline.seconds(60).await(() -> all.stream().allMatch(group -> group.samples() == BEFORE));
        checks.that(begun, "stuck.begun", "consumed=" + toBlocked.samples());

        blocks = true;
        suspended.suspend();
        closed.shutdown();
        send(producer, queues, BEFORE, MESSAGES);
        // The other queue of the group that is blocked in one goes on.
        boolean others = Deadline.seconds(30).await(() -> toBlocked.samples() >= MESSAGES / QUEUES + 1);
        checks.that(others, "stuck.others-go-on", "consumed=" + toBlocked.samples());
        System.out.println("clients " + id(blocked) + " " + id(suspended));
        System.out.flush();

        checks.that(Deadline.seconds(150).await(() -> Files.exists(until)), "stuck.seen", until.getFileName().toString());
        released.countDown();
        suspended.resume();
        consume(CLOSED, toClosed);
        boolean complete = Deadline.seconds(60).await(() -> all.stream().allMatch(group -> group.samples() == MESSAGES));
        for (Deliveries group : all) {
            for (int number = 0; number < MESSAGES; number++) {
                checks.same("stuck.complete", "deliveries of " + number, 1, group.of(number).size());
                for (Deliveries.Delivery delivery : group.of(number)) {
                    sample(number).matches(checks, "stuck.complete", delivery.message());
                }
            }
        }
        checks.that(complete, "stuck.complete", "messages=" + MESSAGES + " groups=" + all.size());
        // A queue counts as moving while there are consumers at it: they stay until the driver has looked.
        System.out.println("complete");
        System.out.flush();
        checks.that(Deadline.seconds(60).await(() -> !Files.exists(until)), "stuck.over", until.getFileName().toString());
    }

    private DefaultMQPushConsumer consume(String group, Deliveries deliveries) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // One message is fetched after another, and the next one not while two wait.
        consumer.setPullBatchSize(1);
        consumer.setPullThresholdForQueue(1);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                deliveries.add(message);
                if (blocks && group.equals(BLOCKED) && message.getQueueId() == BLOCKED_QUEUE) {
                    try {
                        released.await();
                    } catch (InterruptedException end) {
                        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                    }
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private static void send(DefaultMQProducer producer, List<MessageQueue> queues, int from, int to) throws Exception {
        for (int number : IntStream.range(from, to).toArray()) {
            producer.send(sample(number).message(), queues.get(number % QUEUES));
        }
    }

    private static String id(DefaultMQPushConsumer consumer) {
        return consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 64, false);
    }
}
