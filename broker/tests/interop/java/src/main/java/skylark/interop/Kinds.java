package skylark.interop;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Kinds of messages: compressed in each way, as large as can be, traced, and of the types that topics state. */
final class Kinds {
    private static final String TOPIC = "InteropKinds";
    private static final String TRACES = "RMQ_SYS_TRACE_TOPIC";
    private static final int BODY_BYTES_MAX = 4 << 20;
    private static final int TRACED = 20;
    private static final int MESSAGE_ILLEGAL = 13;

    private final Clients clients;
    private final Checks checks;

    Kinds(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        bodies();
        traces();
        types();
    }

    /** Whatever a body's length and its way over the wire, it is the same to the application. */
    private void bodies() throws Exception {
        DefaultMQProducer producer = clients.producer("interop-kinds");
        clients.createTopic(producer, TOPIC, 4);
        producer.setMaxMessageSize(4 * BODY_BYTES_MAX);
        List<Sample> samples = new ArrayList<>();
        for (CompressionType type : CompressionType.values()) {
            producer.setCompressType(type);
            for (int bytes : new int[] {5_000, 300_000, 2 * BODY_BYTES_MAX}) {
                samples.add(new Sample(TOPIC, samples.size(), bytes, true));
                producer.send(samples.get(samples.size() - 1).message(), 20_000);
            }
        }
        int compressed = samples.size();
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        samples.add(new Sample(TOPIC, compressed, BODY_BYTES_MAX, false));
        producer.send(samples.get(compressed).message(), 20_000);
        List<Message> batch = new ArrayList<>();
        for (int number = compressed + 1; number <= compressed + 30; number++) {
            samples.add(new Sample(TOPIC, number, 100_000, number % 2 == 0));
            batch.add(samples.get(number).message());
        }
        producer.send(batch, 20_000);
        refused(producer, "kinds.above-the-limit",
            List.of(new Message(TOPIC, new byte[BODY_BYTES_MAX + 1])));
        refused(producer, "kinds.batch-above-the-limit",
            List.of(new Message(TOPIC, new byte[BODY_BYTES_MAX / 2]), new Message(TOPIC, new byte[BODY_BYTES_MAX / 2])));

        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.push("interop-kinds", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        boolean complete = inbox.await(samples.size(), Deadline.seconds(90));
        consumer.shutdown();
        boolean same = complete;
        for (Sample sample : samples) {
            MessageExt received = inbox.received.get(sample.number());
            same &= received != null && sample.matches(checks, "kinds.bodies", received);
            if (received != null && sample.number() < compressed) {
                same &= checks.same("kinds.bodies", "message " + sample.number() + " was stored compressed", true,
                    received.getStoreSize() < sample.bodyBytes() / 2);
                same &= checks.same("kinds.bodies", "message " + sample.number() + "'s compression",
                    CompressionType.values()[sample.number() / 3],
                    MessageSysFlag.getCompressionType(received.getSysFlag()));
            }
        }
        checks.that(same && inbox.deliveries.get() == samples.size(), "kinds.bodies",
            "samples=" + samples.size() + " deliveries=" + inbox.deliveries);
    }

    private void refused(DefaultMQProducer producer, String check, List<Message> messages) throws Exception {
        try {
            if (messages.size() == 1) {
                producer.send(messages.get(0), 20_000);
            } else {
                producer.send(messages, 20_000);
            }
            checks.fail(check, "was taken");
        } catch (MQBrokerException refusal) {
            checks.that(refusal.getResponseCode() == MESSAGE_ILLEGAL, check, refusal.getErrorMessage());
        }
    }

    /** Clients that trace what they do: each message's sending and consumption is told. */
    private void traces() throws Exception {
        String topic = TOPIC + "Traced";
        DefaultMQProducer producer = clients.configured(new DefaultMQProducer("interop-traced", true, null));
        producer.start();
        clients.closeLater(producer::shutdown);
        clients.createTopic(producer, topic, 2);
        Set<String> sent = ConcurrentHashMap.newKeySet();
        Set<String> consumed = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer consumer = clients.configured(new DefaultMQPushConsumer("interop-traced"));
        consumer.setEnableTrace(true);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(message -> consumed.add(message.getMsgId()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        clients.closeLater(consumer::shutdown);
        Set<String> told = ConcurrentHashMap.newKeySet();
        DefaultMQPushConsumer reader = clients.push("interop-traces", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        reader.subscribe(TRACES, "*");
        reader.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                for (String record : new String(message.getBody(), StandardCharsets.UTF_8).split("\u0002")) {
                    List<String> fields = Arrays.asList(record.split("\u0001"));
                    sent.stream().filter(fields::contains).forEach(id -> told.add(fields.get(0) + " " + id));
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        for (int number = 0; number < TRACED; number++) {
            sent.add(producer.send(new Sample(topic, number, 100, false).message()).getMsgId());
        }
        checks.same("kinds.traces", "consumed", true, Deadline.seconds(60).await(() -> consumed.size() == TRACED));
        // What is told of before the reader knows the ids is read again by nobody.
        reader.start();
        boolean complete = Deadline.seconds(60).await(() ->
            told.stream().filter(record -> record.startsWith("Pub ")).count() == TRACED
                && told.stream().filter(record -> record.startsWith("SubBefore ")).count() == TRACED);
        checks.that(complete, "kinds.traces", "messages=" + TRACED + " told=" + told.size());
    }

    /** What a topic says of the type of its messages, and what a broker that is to go by it does. */
    private void types() throws Exception {
        DefaultMQAdminExt admin = clients.admin();
        String broker = Clients.broker(admin);
        DefaultMQProducer producer = clients.producer("interop-types");
        boolean same = true;
        for (String type : List.of("NORMAL", "FIFO", "DELAY", "TRANSACTION", "UNSPECIFIED")) {
            String topic = TOPIC + type;
            put(admin, broker, topic, "+message.type", type);
            same &= checks.same("kinds.types", topic, type,
                admin.examineTopicConfig(broker, topic).getAttributes().get("message.type"));
        }
        put(admin, broker, TOPIC + "NORMAL", "-message.type", "");
        same &= checks.same("kinds.types", "removed", null,
            admin.examineTopicConfig(broker, TOPIC + "NORMAL").getAttributes().get("message.type"));
        for (Map.Entry<String, String> wrong : Map.of("+message.type", "MIXED", "+queue.type", "BatchCQ").entrySet()) {
            try {
                put(admin, broker, TOPIC + "Wrong", wrong.getKey(), wrong.getValue());
                same = checks.same("kinds.types", wrong.toString(), "refused", "taken");
            } catch (MQBrokerException | MQClientException refused) {
                same &= checks.same("kinds.types", "a reason", false, refused.getMessage().isEmpty());
            }
        }
        checks.that(same, "kinds.types", "");

        clients.createdTopic(producer, TOPIC + "FIFO", 4);
        Message ordered = new Message(TOPIC + "FIFO", new byte[] {1});
        ordered.putUserProperty("n", "1");
        MessageAccessor.putProperty(ordered, MessageConst.PROPERTY_SHARDING_KEY, "k");
        producer.send(ordered);
        refused(producer, "kinds.checked", List.of(new Message(TOPIC + "FIFO", new byte[] {1})));
    }

    private static void put(DefaultMQAdminExt admin, String broker, String topic, String attribute, String value)
        throws Exception {
        TopicConfig config = new TopicConfig(topic, 4, 4);
        config.setAttributes(Map.of(attribute, value));
        admin.createAndUpdateTopicConfig(broker, config);
    }
}
