package skylark.interop;

import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Where a group starts that the broker has never seen. In a topic whose first message is still at hand that is the
 * first message, whatever the group asks for; in one that has lost its beginning the group's wish counts. A topic that
 * was deleted and made again has lost its beginning where queue offsets go on.
 */
final class StartingPoints {
    private static final String TOPIC = "InteropStart";
    private static final int QUEUES = 2;
    private static final int EACH = 10;

    private final Clients clients;
    private final Checks checks;
    private DefaultMQProducer producer;
    private List<MessageQueue> queues;
    /** The number of the next message. */
    private int next;

    StartingPoints(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        DefaultMQAdminExt admin = clients.admin();
        producer = clients.producer("interop-start");
        queues = clients.createTopic(producer, TOPIC, QUEUES);
        send(0);
        admin.deleteTopicInBroker(Set.of(Clients.broker(admin)), TOPIC);
        admin.deleteTopicInNameServer(Set.of(clients.namesrv()), TOPIC);
        clients.createTopic(producer, TOPIC, QUEUES);
        send(EACH);
        // A consumer states the moment in whole seconds.
        Thread.sleep(2_100);
        long between = System.currentTimeMillis() / 1_000 * 1_000;
        send(2 * EACH);
        DefaultMQPullConsumer reader = clients.reader();
        boolean aged = reader.minOffset(queues.get(0)) > 0;
        System.out.println("aged " + aged);

        starts("first", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, between, EACH);
        starts("timestamp", ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, between, aged ? 2 * EACH : EACH);
        starts("last", ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, between, aged ? next : EACH);
    }

    /** Sends more messages once the group is there, and expects everything from {@code first} on. */
    private void starts(String name, ConsumeFromWhere from, long moment, int first) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.push("interop-start-" + name, from);
        consumer.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(moment));
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        // A group that starts at the end must have found the end before there is more.
        Deadline.seconds(30).await(() -> assigned(consumer) == QUEUES);
        Thread.sleep(500);
        int last = next;
        send(last);
        Set<Integer> expected = new TreeSet<>();
        IntStream.range(first, last + EACH).forEach(expected::add);
        inbox.await(expected.size(), Deadline.seconds(40));
        Thread.sleep(300);
        consumer.shutdown();
        Set<Integer> received = new TreeSet<>(inbox.received.keySet());
        checks.that(received.equals(expected), "start.from-" + name, "expected=" + expected + " received=" + received);
    }

    private void send(int first) throws Exception {
        for (int number = first; number < first + EACH; number++) {
            producer.send(new Sample(TOPIC, number, 64, false).message(), queues.get(number % QUEUES));
        }
        next = first + EACH;
    }

    private static int assigned(DefaultMQPushConsumer consumer) {
        return (int) consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(queue -> queue.getTopic().equals(TOPIC)).count();
    }
}
