package skylark.interop;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Sync, async, one-way and batch send: what arrives is what was sent, where the answer said it was stored. */
final class SendModes {
    private static final int EACH = 240;
    private static final int BATCH = 24;
    private static final int QUEUES = 4;

    private final Clients clients;
    private final Checks checks;

    SendModes(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        DefaultMQProducer producer = clients.producer("interop-send");
        verify("send.sync", "InteropSync", producer, this::sync);
        verify("send.async", "InteropAsync", producer, this::async);
        verify("send.oneway", "InteropOneway", producer, this::oneway);
        verify("send.batch", "InteropBatch", producer, this::batch);
        autoCreated(producer);
    }

    private interface Mode {
        /** Sends every sample; the answers by number, where the mode has one answer a message. */
        Map<Integer, SendResult> send(DefaultMQProducer producer, List<MessageQueue> queues, List<Sample> samples)
            throws Exception;
    }

    private void verify(String check, String topic, DefaultMQProducer producer, Mode mode) throws Exception {
        List<MessageQueue> queues = clients.createTopic(producer, topic, QUEUES);
        List<Sample> samples = new ArrayList<>();
        for (int number = 0; number < EACH; number++) {
            samples.add(sample(topic, number));
        }
        Map<Integer, SendResult> answers = mode.send(producer, queues, samples);
        receive(check, topic, samples, answers);
    }

    /** Mostly small; some around the length from which the client compresses, one large. */
    private static Sample sample(String topic, int number) {
        int bytes = switch (number % 8) {
            case 0 -> 1;
            case 1 -> 4095 + number % 3;
            case 2 -> 20_000;
            default -> 1 + (int) Long.remainderUnsigned(Sample.scramble(number), 3000);
        };
        return new Sample(topic, number, number == 5 ? 1_000_000 : bytes, number % 8 == 2);
    }

    private Map<Integer, SendResult> sync(DefaultMQProducer producer, List<MessageQueue> queues, List<Sample> samples)
        throws Exception {
        Map<Integer, SendResult> answers = new HashMap<>();
        for (Sample sample : samples) {
            Message message = sample.message();
            // The three ways to choose a queue: by turns, by hand, by a function of the message.
            SendResult answer = switch (sample.number() % 3) {
                case 0 -> producer.send(message);
                case 1 -> producer.send(message, queues.get(sample.number() % queues.size()));
                default -> producer.send(message, (all, m, key) -> all.get((int) key % all.size()), sample.number());
            };
            answers.put(sample.number(), answer);
        }
        return answers;
    }

    private Map<Integer, SendResult> async(DefaultMQProducer producer, List<MessageQueue> queues, List<Sample> samples)
        throws Exception {
        Map<Integer, SendResult> answers = new ConcurrentHashMap<>();
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
                    checks.fail("send.async", "message " + sample.number() + ": " + failure);
                    outstanding.countDown();
                }
            });
        }
        checks.same("send.async", "every callback came", true, outstanding.await(60, TimeUnit.SECONDS));
        return answers;
    }

    private Map<Integer, SendResult> oneway(DefaultMQProducer producer, List<MessageQueue> queues, List<Sample> samples)
        throws Exception {
        for (Sample sample : samples) {
            producer.sendOneway(sample.message());
        }
        return Map.of();
    }

    private Map<Integer, SendResult> batch(DefaultMQProducer producer, List<MessageQueue> queues, List<Sample> samples)
        throws Exception {
        for (int from = 0; from < samples.size(); from += BATCH) {
            List<Message> messages = new ArrayList<>();
            for (Sample sample : samples.subList(from, from + BATCH)) {
                messages.add(sample.message());
            }
            SendResult answer = producer.send(messages, 10_000);
            checks.same("send.batch", "status", SendStatus.SEND_OK, answer.getSendStatus());
            checks.same("send.batch", "offset ids", BATCH, answer.getOffsetMsgId().split(",").length);
        }
        return Map.of();
    }

    private void receive(String check, String topic, List<Sample> samples, Map<Integer, SendResult> answers)
        throws Exception {
        Inbox inbox = consume(topic, samples.size());
        long bytes = 0;
        Map<Integer, TreeMap<Long, Integer>> stored = new TreeMap<>();
        for (Sample sample : samples) {
            MessageExt message = inbox.received.get(sample.number());
            if (message == null) {
                checks.fail(check, "message " + sample.number() + " never came");
                continue;
            }
            sample.matches(checks, check, message);
            bytes += message.getBody().length;
            stored.computeIfAbsent(message.getQueueId(), queue -> new TreeMap<>())
                .put(message.getQueueOffset(), sample.number());
            compareWithAnswer(check, message, answers.get(sample.number()));
            checks.same(check, "stored within the last ten minutes", true,
                Math.abs(System.currentTimeMillis() - message.getStoreTimestamp()) < 600_000);
        }
        // One queue's offsets are 0, 1, 2, ... with nothing between.
        stored.forEach((queue, offsets) ->
            checks.same(check, "offsets of queue " + queue, (long) offsets.size() - 1, offsets.lastKey()));
        if (checks.clean()) {
            checks.ok(check, "messages=" + samples.size() + " body_bytes=" + bytes + " deliveries=" + inbox.deliveries);
        }
    }

    private void compareWithAnswer(String check, MessageExt message, SendResult answer) {
        if (answer == null) {
            return;
        }
        String who = "message " + Sample.numberOf(message) + " ";
        checks.same(check, who + "status", SendStatus.SEND_OK, answer.getSendStatus());
        checks.same(check, who + "id", answer.getMsgId(), message.getMsgId());
        checks.same(check, who + "queue", answer.getMessageQueue().getQueueId(), message.getQueueId());
        checks.same(check, who + "queue offset", answer.getQueueOffset(), message.getQueueOffset());
        checks.same(check, who + "offset id", answer.getOffsetMsgId(),
            message instanceof MessageClientExt stored ? stored.getOffsetMsgId() : null);
        checks.same(check, who + "broker", answer.getMessageQueue().getBrokerName(), message.getBrokerName());
    }

    private Inbox consume(String topic, int count) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = clients.push("interop-send-" + topic, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener(inbox);
        consumer.start();
        inbox.await(count, Deadline.seconds(60));
        consumer.shutdown();
        return inbox;
    }

    /** A topic nobody created takes its shape from the default topic at the first send. */
    private void autoCreated(DefaultMQProducer producer) throws Exception {
        Sample sample = new Sample("InteropAutoCreated", 1, 100, false);
        SendResult answer = producer.send(sample.message());
        receive("send.auto-create", sample.topic(), List.of(sample), Map.of(sample.number(), answer));
    }
}
