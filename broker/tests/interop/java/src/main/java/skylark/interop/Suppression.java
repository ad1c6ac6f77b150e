package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Producers behind a proxy that breaks connections instead of handing out answers, so that they send again what was
 * stored. With the window on each message is stored once, where its producer was told; without, some are twice.
 */
final class Suppression {
    private static final String GROUP = "interop-suppression";
    private static final int QUEUES = 4;
    private static final int PRODUCERS = 8;
    private static final int BATCH = 4;
    /** The chance that all of them are swallowed is nil. */
    private static final int RETRIES = 12;
    /** A restart of the broker is to fit in. */
    private static final long ASYNC_MS = 10_000;
    private static final int ATTEMPTS = 5;

    private final Clients clients;
    private final Checks checks;
    private final Map<Integer, SendResult> answers = new ConcurrentHashMap<>();
    private final AtomicInteger sent = new AtomicInteger();

    Suppression(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(Main.Options options) throws Exception {
        int messages = options.number("messages", 12_000);
        boolean on = options.number("on", 1) == 1;
        String topic = on ? "InteropSuppression" : "InteropRepetition";
        String check = on ? "suppression" : "repetition";
        DefaultMQAdminExt admin = clients.admin();
        createTopic(admin, topic, on);

        Queue<Throwable> failures = new ConcurrentLinkedQueue<>();
        List<Thread> senders = new ArrayList<>();
        for (int which = 0; which < PRODUCERS; which++) {
            int number = which;
            DefaultMQProducer producer = clients.producer(GROUP);
            producer.setRetryTimesWhenSendFailed(RETRIES);
            producer.setRetryTimesWhenSendAsyncFailed(RETRIES);
            // A restart of the broker is to fit in.
            producer.setSendMsgTimeout(60_000);
            // Now and then the client misses that its connection is gone, and waits for as long as it may.
            producer.setSendMsgMaxTimeoutPerRequest(5_000);
            Thread sender = new Thread(() -> {
                try {
                    send(producer, topic, number, messages);
                } catch (Throwable failure) {
                    failures.add(failure);
                }
            });
            senders.add(sender);
            sender.start();
        }
        if (options.number("kill", 0) == 1) {
            Deadline.seconds(120).await(() -> sent.get() >= messages / 2 || !failures.isEmpty());
            System.out.println("kill");
            System.out.flush();
        }
        for (Thread sender : senders) {
            sender.join();
        }
        for (Throwable failure : failures) {
            checks.fail(check + ".sent", failure.toString());
        }
        checks.that(answers.size() == messages, check + ".sent", "acknowledged=" + answers.size());
        compare(check, topic, messages, on);
    }

    private void createTopic(DefaultMQAdminExt admin, String topic, boolean on) throws Exception {
        TopicConfig config = new TopicConfig(topic, QUEUES, QUEUES);
        if (on) {
            // What `mqadmin updateTopic -a +skylark.duplicates=suppress` sends.
            config.setAttributes(Map.of("+skylark.duplicates", "suppress"));
        }
        admin.createAndUpdateTopicConfig(Clients.broker(admin), config);
        DefaultMQProducer producer = clients.producer(GROUP + "-routes");
        clients.createdTopic(producer, topic, QUEUES);
    }

    /** A producer's share: most one by one, some of them compressed or without waiting, some as batches. */
    private void send(DefaultMQProducer producer, String topic, int which, int messages) throws Exception {
        List<Integer> numbers = new ArrayList<>();
        for (int number = which; number < messages; number += PRODUCERS) {
            numbers.add(number);
        }
        boolean batches = which % 4 == 3;
        for (int from = 0; from < numbers.size(); from += batches ? BATCH : 1) {
            int number = numbers.get(from);
            if (batches) {
                List<Integer> together = numbers.subList(from, Math.min(from + BATCH, numbers.size()));
                List<Message> batch = new ArrayList<>();
                together.forEach(each -> batch.add(sample(topic, each).message()));
                SendResult answer = producer.send(batch);
                together.forEach(each -> answers.put(each, answer));
                sent.addAndGet(together.size());
            } else if (which % 4 == 2) {
                answers.put(number, async(producer, sample(topic, number).message()));
                sent.incrementAndGet();
            } else {
                answers.put(number, producer.send(sample(topic, number).message()));
                sent.incrementAndGet();
            }
        }
    }

    /**
     * Without waiting, and again if that fails: the object keeps its key. Now and then the client misses that the
     * connection of such a send is gone, and says so only when its time is over.
     */
    private static SendResult async(DefaultMQProducer producer, Message message) throws Exception {
        for (int attempt = 1; ; attempt++) {
            try {
                return asyncOnce(producer, message);
            } catch (IllegalStateException failed) {
                if (attempt == ATTEMPTS) {
                    throw failed;
                }
            }
        }
    }

    private static SendResult asyncOnce(DefaultMQProducer producer, Message message) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        SendResult[] answer = new SendResult[1];
        Throwable[] failed = new Throwable[1];
        producer.send(message, new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                answer[0] = result;
                done.countDown();
            }

            @Override
            public void onException(Throwable failure) {
                failed[0] = failure;
                done.countDown();
            }
        }, ASYNC_MS);
        if (!done.await(90, TimeUnit.SECONDS) || answer[0] == null) {
            throw new IllegalStateException("an asynchronous send failed: " + failed[0], failed[0]);
        }
        return answer[0];
    }

    private static Sample sample(String topic, int number) {
        boolean compressible = number % 16 == 1;
        return new Sample(topic, number, compressible ? 6000 : 100 + number % 900, compressible);
    }

    /** Reads everything that is stored, and compares it with what the producers were told. */
    private void compare(String check, String topic, int messages, boolean on) throws Exception {
        DefaultMQPullConsumer reader = clients.reader();
        Map<Integer, List<MessageExt>> stored = new TreeMap<>();
        long count = 0;
        for (MessageQueue queue : reader.fetchSubscribeMessageQueues(topic)) {
            long max = reader.maxOffset(queue);
            for (long offset = 0; offset < max; ) {
                PullResult pulled = reader.pull(queue, "*", offset, 32);
                if (pulled.getPullStatus() == PullStatus.FOUND) {
                    for (MessageExt message : pulled.getMsgFoundList()) {
                        stored.computeIfAbsent(Sample.numberOf(message), number -> new ArrayList<>()).add(message);
                        count++;
                    }
                }
                offset = pulled.getNextBeginOffset();
            }
        }
        long repeated = stored.values().stream().filter(copies -> copies.size() > 1).count();
        System.out.println("repeated " + repeated);
        checks.same(check + ".stored", "messages that are stored", messages, stored.size());
        if (!on) {
            checks.that(repeated > 0, check + ".shows", "stored=" + count + " repeated=" + repeated);
            return;
        }
        checks.that(repeated == 0 && count == messages, check + ".once", "stored=" + count + " repeated=" + repeated);
        int compared = 0;
        for (Map.Entry<Integer, List<MessageExt>> copies : stored.entrySet()) {
            int number = copies.getKey();
            MessageExt message = copies.getValue().get(0);
            sample(topic, number).matches(checks, check + ".told", message);
            SendResult answer = answers.get(number);
            if (answer == null) {
                continue;
            }
            String id = message instanceof MessageClientExt client ? client.getOffsetMsgId() : null;
            checks.same(check + ".told", "message " + number + " is among the ids", true,
                List.of(answer.getOffsetMsgId().split(",")).contains(id));
            checks.same(check + ".told", "queue of " + number, answer.getMessageQueue().getQueueId(), message.getQueueId());
            if (!answer.getOffsetMsgId().contains(",")) {
                checks.same(check + ".told", "offset of " + number, answer.getQueueOffset(), message.getQueueOffset());
            }
            compared++;
        }
        checks.that(checks.clean() && compared == messages, check + ".told", "compared=" + compared);
    }
}
