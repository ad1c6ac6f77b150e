package skylark.interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** What the suppression of duplicates costs these producers: by turns the same load on a topic with it and one without. */
final class SuppressionCost {
    private static final String GROUP = "interop-suppression-cost";
    private static final int QUEUES = 8;
    private static final int PRODUCERS = 4;
    private static final int THREADS = 32;
    private static final int BODY_BYTES = 1024;
    private static final long RUN_NANOS = 2_000_000_000L;
    private static final int WARM_UPS = 4;

    private final Clients clients;
    private final Checks checks;

    SuppressionCost(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(Main.Options options) throws Exception {
        int pairs = options.number("pairs", 16);
        DefaultMQAdminExt admin = clients.admin();
        String[] topics = {"InteropCostPlain", "InteropCostUnique"};
        List<DefaultMQProducer> producers = new ArrayList<>();
        for (int which = 0; which < PRODUCERS; which++) {
            producers.add(clients.producer(GROUP));
        }
        for (String topic : topics) {
            TopicConfig config = new TopicConfig(topic, QUEUES, QUEUES);
            if (topic.endsWith("Unique")) {
                config.setAttributes(Map.of("+skylark.duplicates", "suppress"));
            }
            admin.createAndUpdateTopicConfig(Clients.broker(admin), config);
            clients.createdTopic(producers.get(0), topic, QUEUES);
        }
        for (int turn = 0; turn < WARM_UPS; turn++) {
            perSecond(producers, topics[turn % 2]);
        }
        double[] ratios = new double[pairs];
        double[] plain = new double[pairs];
        for (int pair = 0; pair < pairs; pair++) {
            double[] found = new double[2];
            for (int turn = 0; turn < 2; turn++) {
                // Who goes first alternates, so that a machine that slows down harms both alike.
                int which = (pair + turn) % 2;
                found[which] = perSecond(producers, topics[which]);
            }
            plain[pair] = found[0];
            ratios[pair] = found[1] / found[0];
        }
        Arrays.sort(ratios);
        Arrays.sort(plain);
        checks.ok("cost.measured", String.format("pairs=%d plain-per-second=%.0f ratio=%.3f middle-half=%.3f..%.3f", pairs,
            plain[pairs / 2], (ratios[(pairs - 1) / 2] + ratios[pairs / 2]) / 2, ratios[pairs / 4],
            ratios[pairs - 1 - pairs / 4]));
    }

    private double perSecond(List<DefaultMQProducer> producers, String topic) throws Exception {
        AtomicLong sent = new AtomicLong();
        byte[] body = new byte[BODY_BYTES];
        long begun = System.nanoTime();
        List<Thread> threads = new ArrayList<>();
        for (int which = 0; which < THREADS; which++) {
            DefaultMQProducer producer = producers.get(which % producers.size());
            Thread thread = new Thread(() -> {
                try {
                    while (System.nanoTime() - begun < RUN_NANOS) {
                        producer.send(new Message(topic, body));
                        sent.incrementAndGet();
                    }
                } catch (Exception failure) {
                    checks.fail("cost.sent", failure.toString());
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        return sent.get() * 1e9 / (System.nanoTime() - begun);
    }
}
