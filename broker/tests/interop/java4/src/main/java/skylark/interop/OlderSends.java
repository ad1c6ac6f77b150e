package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.protocol.header.QueryConsumerOffsetRequestHeader;

/**
 * Sends in every mode, half before a push consumer starts and half while it runs: it gets each message once and as
 * it was sent, from where the answer said it is, and the next member of the group goes on behind it.
 */
final class OlderSends {
    private static final String TOPIC = "InteropOlderPush";
    private static final String GROUP = "interop-older-push";
    private static final int QUEUES = 4;
    private static final int BATCH = 16;

    private final OlderClients clients;
    private final Checks checks;
    private final Map<Integer, SendResult> answers = new ConcurrentHashMap<>();

    OlderSends(OlderClients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(int count) throws Exception {
        DefaultMQProducer producer = clients.producer("interop-older-push");
        // Before 4.5.1 everything but pulls and heartbeats goes to the port two below the broker's. These clients have
        // no second way: what follows went there.
        boolean before = MQVersion.CURRENT_VERSION < MQVersion.Version.V4_5_1.ordinal();
        checks.that(producer.isVipChannelEnabled() == before, "push.port", "vip=" + before);
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);

        send(producer, queues, 0, count / 2);
        Received received = new Received();
        DefaultMQPushConsumer consumer = consumer(received);
        send(producer, queues, count / 2, count);
        boolean complete = Deadline.seconds(120).await(() -> received.messages.size() >= count);
        checks.that(complete && received.deliveries.get() == count, "push.each-once",
            "distinct=" + received.messages.size() + " deliveries=" + received.deliveries);
        compare(received, count);
        consumer.shutdown();
        awaitCommits(producer, queues, count);

        Received rest = new Received();
        DefaultMQPushConsumer next = consumer(rest);
        send(producer, queues, count, count + BATCH);
        Deadline.seconds(60).await(() -> rest.messages.size() >= BATCH);
        next.shutdown();
        checks.that(rest.messages.size() == BATCH && rest.deliveries.get() == BATCH, "push.goes-on-behind-commit",
            "distinct=" + rest.messages.size() + " deliveries=" + rest.deliveries);
    }

    private static final class Received implements MessageListenerConcurrently {
        final Map<Integer, MessageExt> messages = new ConcurrentHashMap<>();
        final AtomicInteger deliveries = new AtomicInteger();

        @Override
        public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> received, ConsumeConcurrentlyContext context) {
            for (MessageExt message : received) {
                messages.put(Sample.numberOf(message), message);
                deliveries.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }
    }

    private DefaultMQPushConsumer consumer(Received received) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(GROUP);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(received);
        consumer.start();
        return consumer;
    }

    /** Blocks of {@link #BATCH} messages, each in another mode. */
    private void send(DefaultMQProducer producer, List<MessageQueue> queues, int from, int to) throws Exception {
        for (int block = from; block < to; block += BATCH) {
            List<Sample> samples = new ArrayList<>();
            for (int number = block; number < Math.min(block + BATCH, to); number++) {
                samples.add(sample(number));
            }
            switch (block / BATCH % 4) {
                case 0 -> sync(producer, queues, samples);
                case 1 -> async(producer, samples);
                case 2 -> oneway(producer, samples);
                default -> batch(producer, samples);
            }
        }
    }

    /** Mostly small; now and then beyond the length from which the client compresses. */
    private static Sample sample(int number) {
        int bytes = number % 9 == 0 ? 20_000 : 1 + (int) Long.remainderUnsigned(Sample.scramble(number), 3000);
        return new Sample(TOPIC, number, bytes, number % 9 == 0);
    }

    private void sync(DefaultMQProducer producer, List<MessageQueue> queues, List<Sample> samples) throws Exception {
        for (Sample sample : samples) {
            Message message = sample.message();
            SendResult answer = switch (sample.number() % 3) {
                case 0 -> producer.send(message);
                case 1 -> producer.send(message, queues.get(sample.number() % queues.size()));
                default -> producer.send(message, (all, m, key) -> all.get((int) key % all.size()), sample.number());
            };
            answers.put(sample.number(), answer);
        }
    }

    private void async(DefaultMQProducer producer, List<Sample> samples) throws Exception {
        CountDownLatch outstanding = new CountDownLatch(samples.size());
        for (Sample sample : samples) {
            producer.send(sample.message(), new SendCallback() {
                @Override
                public void onSuccess(SendResult answer) {
                    answers.put(sample.number(), answer);
                    outstanding.countDown();
                }

                @Override
                public void onException(Throwable failure) {
                    checks.fail("push.async", "message " + sample.number() + ": " + failure);
                    outstanding.countDown();
                }
            });
        }
        checks.same("push.async", "every callback came", true, outstanding.await(60, TimeUnit.SECONDS));
    }

    private void oneway(DefaultMQProducer producer, List<Sample> samples) throws Exception {
        for (Sample sample : samples) {
            producer.sendOneway(sample.message());
        }
    }

    private void batch(DefaultMQProducer producer, List<Sample> samples) throws Exception {
        List<Message> messages = new ArrayList<>();
        samples.forEach(sample -> messages.add(sample.message()));
        SendResult answer = producer.send(messages);
        checks.same("push.batch", "status", SendStatus.SEND_OK, answer.getSendStatus());
        checks.same("push.batch", "offset ids", samples.size(), answer.getOffsetMsgId().split(",").length);
    }

    private void compare(Received received, int count) {
        Map<Integer, TreeMap<Long, Integer>> stored = new TreeMap<>();
        for (int number = 0; number < count; number++) {
            MessageExt message = received.messages.get(number);
            if (message == null) {
                checks.fail("push.as-sent", "message " + number + " never came");
                continue;
            }
            sample(number).matches(checks, "push.as-sent", message);
            checks.same("push.as-sent", "message " + number + " reconsume times", 0, message.getReconsumeTimes());
            stored.computeIfAbsent(message.getQueueId(), queue -> new TreeMap<>()).put(message.getQueueOffset(), number);
            SendResult answer = answers.get(number);
            if (answer != null) {
                compareWithAnswer(number, message, answer);
            }
        }
        // One queue's offsets are 0, 1, 2, ... with nothing between.
        stored.forEach((queue, offsets) ->
            checks.same("push.as-sent", "offsets of queue " + queue, (long) offsets.size() - 1, offsets.lastKey()));
        if (checks.clean()) {
            checks.ok("push.as-sent", "messages=" + count + " answers=" + answers.size());
        }
    }

    private void compareWithAnswer(int number, MessageExt message, SendResult answer) {
        String who = "message " + number + " ";
        checks.same("push.as-sent", who + "status", SendStatus.SEND_OK, answer.getSendStatus());
        checks.same("push.as-sent", who + "id", answer.getMsgId(), message.getMsgId());
        checks.same("push.as-sent", who + "queue", answer.getMessageQueue().getQueueId(), message.getQueueId());
        checks.same("push.as-sent", who + "queue offset", answer.getQueueOffset(), message.getQueueOffset());
        checks.same("push.as-sent", who + "offset id", answer.getOffsetMsgId(),
            message instanceof MessageClientExt stored ? stored.getOffsetMsgId() : null);
    }

    /** A member that leaves commits one-way: asks the broker until the group stands behind the last message. */
    private void awaitCommits(DefaultMQProducer producer, List<MessageQueue> queues, int count) throws Exception {
        MQClientInstance client = producer.getDefaultMQProducerImpl().getmQClientFactory();
        Deadline deadline = Deadline.seconds(30);
        long sum;
        do {
            Thread.sleep(50);
            sum = 0;
            for (MessageQueue queue : queues) {
                QueryConsumerOffsetRequestHeader request = new QueryConsumerOffsetRequestHeader();
                request.setTopic(TOPIC);
                request.setConsumerGroup(GROUP);
                request.setQueueId(queue.getQueueId());
                String broker = client.findBrokerAddressInPublish(queue.getBrokerName());
                sum += client.getMQClientAPIImpl().queryConsumerOffset(broker, request, 5_000);
            }
        } while (sum < count && !deadline.passed());
        checks.that(sum == count, "push.commits", "sum=" + sum);
    }
}
