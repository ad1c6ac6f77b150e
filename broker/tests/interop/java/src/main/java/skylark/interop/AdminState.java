package skylark.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * The same topics, messages, groups and clients on several brokers, for {@code mqadmin} to look at. Every message
 * has the same ids and properties everywhere; what a broker adds is what is compared.
 */
final class AdminState {
    private static final String TOPIC = "AdminOrders";
    private static final String LOAD = "AdminLoad";
    private static final int QUEUES = 4;
    private static final int MESSAGES = 12;
    private static final int MORE = 8;

    private final Checks checks;
    private final List<Side> sides = new ArrayList<>();
    private final AtomicBoolean loading = new AtomicBoolean();
    private final List<Thread> loaders = new ArrayList<>();

    AdminState(Checks checks) {
        Clients.rebalanceEverySecond();
        this.checks = checks;
    }

    /** One broker with its clients, which are alive as long as this program. */
    private static final class Side {
        final Clients clients;
        final String name;
        final DefaultMQProducer producer;
        final List<SendResult> sent = new ArrayList<>();
        List<MessageQueue> queues;

        Side(String namesrv, int number) throws Exception {
            clients = new Clients(namesrv);
            name = "live" + number;
            producer = named(new DefaultMQProducer("admin-producers"), "producer");
            producer.start();
        }

        /** Clients of different brokers must not share a connection, so their ids differ in the side's name. */
        <C extends ClientConfig> C named(C client, String role) {
            client.setNamesrvAddr(clients.namesrv());
            client.setInstanceName(name + "-" + role);
            // A producer is known for its group by the first heartbeat after its first send, by default the next
            // of one in 30 seconds.
            client.setHeartbeatBrokerInterval(1_000);
            client.setPersistConsumerOffsetInterval(1_000);
            return client;
        }
    }

    List<String> step(String[] words) throws Exception {
        switch (words[0]) {
            case "@prepare" -> {
                for (int at = 1; at < words.length; at++) {
                    sides.add(new Side(words[at], at));
                }
                return prepare();
            }
            case "@load" -> load();
            case "@rest" -> {
                loading.set(false);
                for (Thread loader : loaders) {
                    loader.join();
                }
            }
            default -> throw new IllegalArgumentException(words[0]);
        }
        return List.of();
    }

    private List<String> prepare() throws Exception {
        for (Side side : sides) {
            side.queues = side.clients.createTopic(side.producer, TOPIC, QUEUES);
            side.clients.createTopic(side.producer, "AdminEmpty", 2);
            side.clients.createTopic(side.producer, "AdminSent", 2);
            side.clients.createTopic(side.producer, LOAD, QUEUES);
        }
        send(0, MESSAGES);
        for (DefaultMQPushConsumer away : consume("admin-away", MESSAGES)) {
            away.shutdown();
        }
        // Nothing is stored in the same millisecond as this moment.
        Thread.sleep(5);
        long between = System.currentTimeMillis();
        Thread.sleep(5);
        send(MESSAGES, MORE);
        for (DefaultMQPushConsumer live : consume("admin-consumers", MESSAGES + MORE)) {
            live.getDefaultMQPushConsumerImpl().persistConsumerOffset();
        }
        List<String> said = new ArrayList<>();
        said.add("between " + between);
        for (int at = 0; at < sides.size(); at++) {
            Side side = sides.get(at);
            said.add("unique " + at + " " + side.sent.get(5).getMsgId());
            said.add("offset " + at + " " + side.sent.get(5).getOffsetMsgId());
            said.add("client " + at + " " + side.producer.cloneClientConfig().getClientIP() + "@" + side.name
                + "-admin-consumers");
        }
        return said;
    }

    private void send(int first, int count) throws Exception {
        for (int number = first; number < first + count; number++) {
            String id = MessageClientIDSetter.createUniqID();
            for (Side side : sides) {
                Message message = new Message(TOPIC, number % 2 == 0 ? "TagA" : "TagB", "key-" + number + " shared",
                    ("body " + number).getBytes(StandardCharsets.UTF_8));
                message.putUserProperty("number", String.valueOf(number));
                MessageAccessor.putProperty(message, MessageConst.PROPERTY_UNIQ_CLIENT_MESSAGE_ID_KEYIDX, id);
                side.sent.add(side.producer.send(message, side.queues.get(number % QUEUES)));
            }
        }
    }

    /** Returns once {@code count} messages were consumed on every side; the consumers go on. */
    private List<DefaultMQPushConsumer> consume(String group, int count) throws Exception {
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        List<Inbox> inboxes = new ArrayList<>();
        for (Side side : sides) {
            DefaultMQPushConsumer consumer = side.named(new DefaultMQPushConsumer(group), group);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setAwaitTerminationMillisWhenShutdown(5_000);
            Inbox inbox = new Inbox();
            consumer.subscribe(TOPIC, "TagA || TagB");
            consumer.registerMessageListener(inbox);
            consumer.start();
            consumers.add(consumer);
            inboxes.add(inbox);
        }
        Deadline deadline = Deadline.seconds(60);
        for (Inbox inbox : inboxes) {
            if (!inbox.await(count, deadline)) {
                String found = group + " consumed " + inbox.received.size() + " of " + count;
                checks.fail("admin.state", found);
                throw new IllegalStateException(found);
            }
        }
        return consumers;
    }

    /** A steady stream of messages and their consumption on every side, until there is to be rest. */
    private void load() throws Exception {
        loading.set(true);
        for (Side side : sides) {
            DefaultMQPushConsumer consumer = side.named(new DefaultMQPushConsumer("admin-load"), "load");
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.subscribe(LOAD, "*");
            consumer.registerMessageListener(
                (MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
            consumer.start();
            Thread loader = new Thread(() -> {
                try {
                    while (loading.get()) {
                        side.producer.send(new Message(LOAD, "TagL", new byte[200]));
                        Thread.sleep(10);
                    }
                } catch (Exception failure) {
                    checks.fail("admin.load", failure.toString());
                }
            });
            loaders.add(loader);
            loader.start();
        }
    }
}
