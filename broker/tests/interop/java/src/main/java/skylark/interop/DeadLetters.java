package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.header.ConsumerSendMsgBackRequestHeader;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Messages that nobody manages to consume end in the group's dead letter topic, whole and once. */
final class DeadLetters {
    private static final String TOPIC = "InteropDeadLetters";
    private static final int MESSAGES = 4;
    private static final int RETRIES = 2;
    private static final long TIMEOUT_MS = 5_000;

    private final Clients clients;
    private final Checks checks;
    private final Map<Integer, SendResult> sent = new ConcurrentHashMap<>();
    private DefaultMQAdminExt admin;
    private DefaultMQPullConsumer reader;

    DeadLetters(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        Clients.rebalanceEverySecond();
        admin = clients.admin();
        reader = clients.reader();
        DefaultMQProducer producer = clients.producer("interop-dead-letters");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, 1);
        for (int number = 0; number < MESSAGES; number++) {
            sent.put(number, producer.send(sample(number).message(), queues.get(0)));
        }
        concurrent();
        atOnce();
        byGroupConfiguration(producer, queues.get(0));
        orderly();
    }

    /** After as many retries as the consumer allows. */
    private void concurrent() throws Exception {
        String group = "interop-dead-concurrent";
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = failing(group, 1, deliveries);
        consumer.start();
        List<MessageExt> dead = dead("dead-letter.after-retries", group, MESSAGES);
        consumer.shutdown();
        for (int number = 0; number < MESSAGES; number++) {
            List<Integer> attempts = deliveries.of(number).stream().map(Deliveries.Delivery::attempt).toList();
            checks.same("dead-letter.after-retries", "attempts of " + number, List.of(0, 1, 2), attempts);
        }
        for (MessageExt message : dead) {
            int number = Sample.numberOf(message);
            arrived("dead-letter.after-retries", group, message, RETRIES + 1);
            checks.same("dead-letter.after-retries", "delay of " + number, 0, message.getDelayTimeLevel());
        }
        report("dead-letter.after-retries", dead);
        checks.same("dead-letter.permission", "permission", 6,
            admin.examineTopicConfig(Clients.broker(admin), "%DLQ%" + group).getPerm());
        checks.same("dead-letter.permission", "queues", 1,
            admin.examineTopicConfig(Clients.broker(admin), "%DLQ%" + group).getReadQueueNums());
        if (checks.clean()) {
            checks.ok("dead-letter.permission", "readable");
        }
    }

    /** An application that asks for it. */
    private void atOnce() throws Exception {
        String group = "interop-dead-at-once";
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = failing(group, -1, deliveries);
        consumer.start();
        List<MessageExt> dead = dead("dead-letter.at-once", group, MESSAGES);
        consumer.shutdown();
        dead.forEach(message -> arrived("dead-letter.at-once", group, message, 1));
        checks.same("dead-letter.at-once", "deliveries", MESSAGES, deliveries.total());
        report("dead-letter.at-once", dead);
    }

    /** Java's client always names a limit of its own. One that names none gets the group's. */
    private void byGroupConfiguration(DefaultMQProducer producer, MessageQueue queue) throws Exception {
        String group = "interop-dead-by-group";
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        config.setRetryMaxTimes(0);
        admin.createAndUpdateSubscriptionGroupConfig(Clients.broker(admin), config);
        sendBack(producer, group, null);
        List<MessageExt> dead = dead("dead-letter.by-group", group, 1);
        dead.forEach(message -> arrived("dead-letter.by-group", group, message, 1));
        // The client's own limit counts for more.
        sendBack(producer, group, 5);
        MessageQueue retry = new MessageQueue("%RETRY%" + group, queue.getBrokerName(), 0);
        boolean retried = Deadline.seconds(30).await(() -> maxOffset(reader, retry) == 1);
        checks.that(retried, "dead-letter.clients-limit-first", "retries=" + maxOffset(reader, retry));
        report("dead-letter.by-group", dead);
    }

    private void sendBack(DefaultMQProducer producer, String group, Integer max) throws Exception {
        MQClientInstance client = producer.getDefaultMQProducerImpl().getMqClientFactory();
        ConsumerSendMsgBackRequestHeader header = new ConsumerSendMsgBackRequestHeader();
        header.setGroup(group);
        header.setOriginTopic(TOPIC);
        header.setOffset(MessageDecoder.decodeMessageId(sent.get(0).getOffsetMsgId()).getOffset());
        header.setDelayLevel(1);
        header.setOriginMsgId(sent.get(0).getMsgId());
        header.setMaxReconsumeTimes(max);
        RemotingCommand request = RemotingCommand.createRequestCommand(RequestCode.CONSUMER_SEND_MSG_BACK, header);
        RemotingCommand answer = client.getMQClientAPIImpl().getRemotingClient()
            .invokeSync(Clients.broker(admin), request, TIMEOUT_MS);
        checks.same("dead-letter.send-back", "code for " + group, ResponseCode.SUCCESS, answer.getCode());
    }

    /** A queue that is consumed in order is not held up for ever: the message leaves it after its local retries. */
    private void orderly() throws Exception {
        String group = "interop-dead-orderly";
        AtomicInteger poisoned = new AtomicInteger();
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setMaxReconsumeTimes(RETRIES);
        consumer.setConsumeMessageBatchMaxSize(1);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            context.setSuspendCurrentQueueTimeMillis(100);
            deliveries.add(messages.get(0));
            if (Sample.numberOf(messages.get(0)) == 1) {
                poisoned.incrementAndGet();
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        List<MessageExt> dead = dead("dead-letter.orderly", group, 1);
        boolean goesOn = Deadline.seconds(30).await(() -> deliveries.samples() == MESSAGES);
        consumer.shutdown();
        checks.that(goesOn, "dead-letter.orderly-goes-on", "consumed=" + deliveries.samples());
        checks.same("dead-letter.orderly", "deliveries of the poisoned one", RETRIES + 1, poisoned.get());
        for (MessageExt message : dead) {
            checks.same("dead-letter.orderly", "number", 1, Sample.numberOf(message));
            checks.same("dead-letter.orderly", "retry topic", TOPIC, message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
            checks.same("dead-letter.orderly", "origin", sent.get(1).getMsgId(),
                message.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID));
            checks.same("dead-letter.orderly", "attempts", RETRIES + 1, message.getReconsumeTimes());
        }
        report("dead-letter.orderly", dead);
    }

    private DefaultMQPushConsumer failing(String group, int level, Deliveries deliveries) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setMaxReconsumeTimes(RETRIES);
        consumer.setConsumeMessageBatchMaxSize(1);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            deliveries.add(messages.get(0));
            context.setDelayLevelWhenNextConsume(level);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        return consumer;
    }

    private void arrived(String check, String group, MessageExt message, int attempts) {
        int number = Sample.numberOf(message);
        Sample expected = new Sample("%DLQ%" + group, number, 100, false);
        expected.matches(checks, check, message);
        checks.same(check, "unique id of " + number, sent.get(number).getMsgId(), message.getMsgId());
        checks.same(check, "attempts of " + number, attempts, message.getReconsumeTimes());
        checks.same(check, "retry topic of " + number, TOPIC, message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
        checks.same(check, "origin of " + number, sent.get(number).getOffsetMsgId(),
            message.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID));
    }

    private void report(String check, List<MessageExt> dead) {
        if (checks.clean()) {
            checks.ok(check, "messages=" + dead.size());
        }
    }

    /** Waits for this many dead letters of a group and a moment longer, and reads them as an operator would. */
    private List<MessageExt> dead(String check, String group, int count) throws Exception {
        MessageQueue queue = new MessageQueue("%DLQ%" + group, sent.get(0).getMessageQueue().getBrokerName(), 0);
        Deadline.seconds(40).await(() -> maxOffset(reader, queue) >= count);
        PullResult pulled = reader.pull(queue, "*", 0, 32);
        checks.same(check, "pulling dead letters", PullStatus.FOUND, pulled.getPullStatus());
        List<MessageExt> found = pulled.getMsgFoundList() == null ? List.of() : pulled.getMsgFoundList();
        checks.same(check, "dead letters", count, found.size());
        return found;
    }

    /** -1 while the topic is not there yet. */
    private static long maxOffset(DefaultMQPullConsumer reader, MessageQueue queue) {
        try {
            return reader.maxOffset(queue);
        } catch (Exception noRouteYet) {
            return -1;
        }
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 100, false);
    }
}
