package skylark.interop;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Makes clients as an application would, each with a connection of its own, and shuts down what is still open. */
final class OlderClients implements AutoCloseable {
    private static final AtomicInteger INSTANCES = new AtomicInteger();

    private final String namesrv;
    private final Deque<Runnable> open = new ArrayDeque<>();

    OlderClients(String namesrv) {
        this.namesrv = namesrv;
    }

    DefaultMQProducer producer(String group) throws MQClientException {
        DefaultMQProducer producer = configured(new DefaultMQProducer(group));
        producer.setSendMsgTimeout(10_000);
        producer.start();
        open.push(producer::shutdown);
        return producer;
    }

    /** Reads from the start; not started: the caller subscribes and sets its listener first. */
    DefaultMQPushConsumer push(String group) {
        DefaultMQPushConsumer consumer = configured(new DefaultMQPushConsumer(group));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        open.push(consumer::shutdown);
        return consumer;
    }

    private <C extends ClientConfig> C configured(C client) {
        client.setNamesrvAddr(namesrv);
        // What a busy machine keeps a client from learning when it starts, it learns soon, not half a minute later.
        client.setPollNameServerInterval(2_000);
        client.setInstanceName("interop" + INSTANCES.incrementAndGet());
        return client;
    }

    /** Creates {@code topic} and waits for its route, which a name server may learn a moment later. */
    List<MessageQueue> createTopic(DefaultMQProducer producer, String topic, int queues) throws Exception {
        Deadline deadline = Deadline.seconds(60);
        while (true) {
            try {
                producer.createTopic("TBW102", topic, queues);
                return route(producer, topic, queues);
            } catch (MQClientException tooBusy) {
                // On a busy machine a client that has just started may not get its first connection in time.
                if (deadline.passed()) {
                    throw tooBusy;
                }
            }
            deadline.pause("the topic " + topic);
        }
    }

    /** Waits until {@code topic} has that many queues. */
    List<MessageQueue> route(DefaultMQProducer producer, String topic, int queues) throws Exception {
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

    /**
     * Makes a group known before it is used: its retry topic exists and has a route, which a client that starts would
     * otherwise learn half a minute later.
     */
    void introduce(DefaultMQProducer producer, String group, String topic) throws Exception {
        DefaultMQPushConsumer first = push(group);
        first.subscribe(topic, "*");
        first.registerMessageListener((MessageListenerConcurrently) (messages, context) ->
            ConsumeConcurrentlyStatus.RECONSUME_LATER);
        first.start();
        route(producer, "%RETRY%" + group, 1);
        first.shutdown();
    }

    /** What stands in the group's dead letter queue once {@code count} messages came, and a moment later. */
    Map<Integer, MessageExt> deadLetters(DefaultMQProducer producer, String group, int count, AtomicInteger deliveries)
        throws Exception {
        String topic = "%DLQ%" + group;
        route(producer, topic, 1);
        Map<Integer, MessageExt> found = new ConcurrentHashMap<>();
        DefaultMQPushConsumer reader = push(group + "-dead");
        reader.subscribe(topic, "*");
        reader.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                found.put(Sample.numberOf(message), message);
                deliveries.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        reader.start();
        Deadline.seconds(60).await(() -> deliveries.get() >= count);
        // One too many would come with the others.
        Thread.sleep(1_000);
        reader.shutdown();
        return found;
    }

    @Override
    public void close() {
        while (!open.isEmpty()) {
            open.pop().run();
        }
    }
}
