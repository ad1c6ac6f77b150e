package skylark.interop;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.exception.RemotingException;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Makes clients as an application would, each with a connection of its own, and shuts down what is still open. */
final class Clients implements AutoCloseable {
    private static final AtomicInteger INSTANCES = new AtomicInteger();

    private final String namesrv;
    private final Deque<AutoCloseable> open = new ArrayDeque<>();

    Clients(String namesrv) {
        this.namesrv = namesrv;
    }

    /**
     * Members look every second, and not every 20, whether queues are to be had: those of a retry topic that is
     * there now, or one that a reset has dropped. To be called before the first client is made; not for scenarios about
     * how soon members are told.
     */
    static void rebalanceEverySecond() {
        System.setProperty("rocketmq.client.rebalance.waitInterval", "1000");
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

    /** Of the group that tools use: reads any queue by offset and commits nothing. */
    DefaultMQPullConsumer reader() throws MQClientException {
        DefaultMQPullConsumer reader = configured(new DefaultMQPullConsumer(MixAll.TOOLS_CONSUMER_GROUP));
        reader.start();
        closeLater(reader::shutdown);
        return reader;
    }

    DefaultMQAdminExt admin() throws MQClientException {
        DefaultMQAdminExt admin = configured(new DefaultMQAdminExt());
        admin.start();
        closeLater(admin::shutdown);
        return admin;
    }

    String namesrv() {
        return namesrv;
    }

    /** Where the one broker listens, as the name server tells. */
    static String broker(DefaultMQAdminExt admin) throws Exception {
        return admin.examineBrokerClusterInfo().getBrokerAddrTable().values().iterator().next().selectBrokerAddr();
    }

    /**
     * Asks the driver to kill the broker and start it again, and waits until another process answers in its place.
     * The client itself does not notice: it is to go on as if nothing had happened.
     */
    static void brokerIsKilled(DefaultMQAdminExt admin) throws Exception {
        String broker = broker(admin);
        String before = bootTime(admin, broker);
        System.out.println("kill");
        System.out.flush();
        Deadline deadline = Deadline.seconds(90);
        while (true) {
            try {
                // The name server may hear of it later than it answers.
                if (!before.equals(bootTime(admin, broker))
                    && !admin.examineBrokerClusterInfo().getBrokerAddrTable().isEmpty()) {
                    return;
                }
            } catch (RemotingException | MQBrokerException notThere) {
                // Being killed, or starting.
            }
            deadline.pause("the broker's return");
        }
    }

    private static String bootTime(DefaultMQAdminExt admin, String broker) throws Exception {
        return admin.fetchBrokerRuntimeStats(broker).getTable().get("bootTimestamp");
    }

    <C extends ClientConfig> C configured(C client) {
        client.setNamesrvAddr(namesrv);
        client.setInstanceName("interop" + INSTANCES.incrementAndGet());
        // A group's retry topic is made by its first heartbeat, after the client has looked for the route of it, and
        // by default it looks again half a minute later.
        client.setPollNameServerInterval(1_000);
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
        return createdTopic(producer, topic, queues);
    }

    /** Waits for the route of a topic that was just created. */
    List<MessageQueue> createdTopic(DefaultMQProducer producer, String topic, int queues) throws Exception {
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
