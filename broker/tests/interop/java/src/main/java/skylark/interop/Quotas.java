package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** A topic that takes so many messages a second, of so many bytes at most, and a group that reads so many. */
final class Quotas {
    private static final String TOPIC = "InteropQuotas";
    private static final String READERS = "interop-quota-readers";
    private static final int MESSAGES = 200;
    private static final int SENT_A_SECOND = 50;
    private static final int READ_A_SECOND = 40;
    /** What a pull brings at most: the last one may go beyond the rate. */
    private static final int PULLED = 32;

    private final Clients clients;
    private final Checks checks;

    Quotas(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        Clients.rebalanceEverySecond();
        DefaultMQAdminExt admin = clients.admin();
        TopicConfig config = new TopicConfig(TOPIC, 1, 1);
        // What `mqadmin updateTopic -a +skylark.send.messages=50,+skylark.message.bytes=4000` sends.
        config.setAttributes(Map.of("+skylark.send.messages", Integer.toString(SENT_A_SECOND),
            "+skylark.message.bytes", "4000"));
        admin.createAndUpdateTopicConfig(Clients.broker(admin), config);
        SubscriptionGroupConfig group = new SubscriptionGroupConfig();
        group.setGroupName(READERS);
        group.setAttributes(Map.of("+skylark.read.messages", Integer.toString(READ_A_SECOND)));
        admin.createAndUpdateSubscriptionGroupConfig(Clients.broker(admin), group);

        DefaultMQProducer producer = clients.producer("interop-quotas");
        MessageQueue queue = clients.createdTopic(producer, TOPIC, 1).get(0);
        try {
            producer.send(new Message(TOPIC, new byte[4001]), queue);
            checks.fail("quotas.too-large", "it was stored");
        } catch (MQBrokerException refused) {
            checks.that(refused.getResponseCode() == ResponseCode.MESSAGE_ILLEGAL
                && refused.getErrorMessage().contains("skylark.message.bytes"), "quotas.too-large",
                refused.getErrorMessage());
        }
        send(producer, queue);
        read();
    }

    /** As an application that waits a moment when it is told that it is too fast. */
    private void send(DefaultMQProducer producer, MessageQueue queue) throws Exception {
        long begunMs = System.nanoTime() / 1_000_000;
        Map<Integer, Integer> codes = new TreeMap<>();
        String remark = "";
        for (int number = 0; number < MESSAGES; ) {
            try {
                producer.send(sample(number).message(), queue);
                number++;
            } catch (MQBrokerException refused) {
                codes.merge(refused.getResponseCode(), 1, Integer::sum);
                remark = refused.getErrorMessage();
                Thread.sleep(10);
            }
        }
        long tookMs = System.nanoTime() / 1_000_000 - begunMs;
        checks.that(codes.keySet().equals(Set.of(ResponseCode.FLOW_CONTROL))
            && remark.contains("skylark.send.messages"), "quotas.refused", codes + " " + remark);
        // A second's worth at once, the others at the rate.
        long leastMs = (MESSAGES - SENT_A_SECOND - 1) * 1000L / SENT_A_SECOND;
        checks.that(tookMs >= leastMs, "quotas.sent-at-the-rate", tookMs + " of at least " + leastMs + " ms");
    }

    private void read() throws Exception {
        Deliveries deliveries = new Deliveries();
        List<Integer> order = new CopyOnWriteArrayList<>();
        DefaultMQPushConsumer consumer = clients.push(READERS, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(message -> {
                deliveries.add(message);
                order.add(Sample.numberOf(message));
            });
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        Deadline.seconds(60).await(() -> deliveries.total() >= MESSAGES);
        List<Integer> sent = IntStream.range(0, MESSAGES).boxed().toList();
        checks.that(order.equals(sent), "quotas.read-in-order", "read=" + order.size());
        boolean same = true;
        for (int number = 0; number < MESSAGES; number++) {
            same &= sample(number).matches(checks, "quotas.as-sent", deliveries.of(number).get(0).message());
        }
        checks.that(same, "quotas.as-sent", "messages=" + deliveries.samples());
        long tookMs = deliveries.of(MESSAGES - 1).get(0).atMs() - deliveries.of(0).get(0).atMs();
        long leastMs = (MESSAGES - READ_A_SECOND - 2 * PULLED) * 1000L / READ_A_SECOND;
        checks.that(tookMs >= leastMs, "quotas.read-at-the-rate", tookMs + " of at least " + leastMs + " ms");
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 100, false);
    }
}
