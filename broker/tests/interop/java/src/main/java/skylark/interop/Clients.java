package skylark.interop;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;

/** Makes clients as an application would, each with a connection of its own, and shuts down what is still open. */
final class Clients implements AutoCloseable {
    private static final AtomicInteger INSTANCES = new AtomicInteger();

    private final String namesrv;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();

    Clients(String namesrv) {
        this.namesrv = namesrv;
    }

    DefaultMQProducer producer(String group) throws MQClientException {
        DefaultMQProducer producer = configured(new DefaultMQProducer(group));
        producer.setSendMsgTimeout(10_000);
        producer.start();
        closeLater(producer::shutdown);
        return producer;
    }

    /** Not started: the caller subscribes and sets its listener first. */
    DefaultMQPushConsumer push(String group, ConsumeFromWhere from) {
        DefaultMQPushConsumer consumer = configured(new DefaultMQPushConsumer(group));
        consumer.setConsumeFromWhere(from);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        // Without it a shutdown abandons messages that are being consumed, and they come twice.
        consumer.setAwaitTerminationMillisWhenShutdown(20_000);
        closeLater(consumer::shutdown);
        return consumer;
    }

    /** Not started, reads from the start. */
    DefaultLitePullConsumer lite(String group) {
        DefaultLitePullConsumer consumer = configured(new DefaultLitePullConsumer(group));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        closeLater(consumer::shutdown);
        return consumer;
    }

    <C extends ClientConfig> C configured(C client) {
        client.setNamesrvAddr(namesrv);
        client.setInstanceName("interop" + INSTANCES.incrementAndGet());
        return client;
    }

    void closeLater(AutoCloseable client) {
        synchronized (open) {
            open.push(client);
        }
    }

    /** Creates {@code topic} and waits for its route, which a name server may learn a moment later. */
    List<MessageQueue> createTopic(DefaultMQProducer producer, String topic, int queues) throws Exception {
        producer.createTopic("TBW102", topic, queues, Map.of());
        Deadline deadline = Deadline.seconds(20);
        while (true) {
            try {
                List<MessageQueue> found = producer.fetchPublishMessageQueues(topic);
                if (found.size() == queues) {
                    return found;
                }
            } catch (MQClientException noRouteYet) {
                if (deadline.passed()) {
                    throw noRouteYet;
                }
            }
            deadline.pause("the route of " + topic + " with " + queues + " queues");
        }
    }

    @Override
    public void close() throws Exception {
        while (true) {
            AutoCloseable client;
            synchronized (open) {
                client = open.poll();
            }
            if (client == null) {
                return;
            }
            client.close();
        }
    }
}
