package skylark.interop;

import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Push consumers for whom the broker decides who gets what: some messages fail, one member is killed with messages in its
 * hands, and the broker is killed beneath all of them.
 */
final class Pops {
    private static final String TOPIC = "InteropPops";
    private static final String GROUP = "interop-pops";
    private static final int MESSAGES = 600;
    private static final int OVER_THE_KILL = 100;
    /** As the client asks for it; long enough that a busy machine does not let it pass. */
    private static final long INVISIBLE_MS = 15_000;
    /** What the client waits before it tries a message for the second time. */
    private static final long FIRST_RETRY_MS = 10_000;

    private final Clients clients;
    private final Checks checks;
    private final Deliveries deliveries = new Deliveries();
    private final Set<Integer> tookByChild = ConcurrentHashMap.newKeySet();
    private volatile boolean childReady;

    Pops(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    private static boolean failsOnce(int number) {
        return number % 20 == 0;
    }

    void run() throws Exception {
        Clients.rebalanceEverySecond();
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-pops");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, 4);
        String broker = Clients.broker(admin);
        SubscriptionGroupConfig group = new SubscriptionGroupConfig();
        group.setGroupName(GROUP);
        admin.createAndUpdateSubscriptionGroupConfig(broker, group);
        admin.setMessageRequestMode(broker, TOPIC, GROUP, MessageRequestMode.POP, 0, 10_000);
        join(false);
        join(false);
        Process child = Children.start("pop-child", clients.namesrv(), this::childSays);
        checks.that(Deadline.seconds(60).await(() -> childReady), "pop.child-joined", "");
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(sample(number).message(), queues.get(number % queues.size()));
            Thread.sleep(5);
        }
        boolean childTook = Deadline.seconds(30).await(() -> !tookByChild.isEmpty());
        // What it has in its hands it never gives back.
        child.destroyForcibly();
        child.waitFor();
        checks.that(childTook, "pop.shared", "child=" + tookByChild.size());
        boolean complete = Deadline.seconds(90).await(this::isComplete);
        checks.that(complete, "pop.complete", "samples=" + deliveries.samples() + " of " + MESSAGES);
        Thread.sleep(2_000);
        each();
        boolean noLag = Deadline.seconds(30).await(() -> lag(admin) == 0);
        checks.that(noLag, "pop.no-lag", "lag=" + lag(admin));

        for (int number = MESSAGES; number < MESSAGES + OVER_THE_KILL; number++) {
            producer.send(sample(number).message(), queues.get(number % queues.size()));
        }
        Clients.brokerIsKilled(admin);
        boolean all = Deadline.seconds(90).await(this::isCompleteAfterKill);
        checks.that(all, "pop.over-a-kill", "samples=" + deliveries.samples());
        for (int number = MESSAGES; number < MESSAGES + OVER_THE_KILL; number++) {
            for (Deliveries.Delivery delivery : deliveries.of(number)) {
                sample(number).matches(checks, "pop.over-a-kill", delivery.message());
            }
        }
    }

    /** The other process: takes messages and never acknowledges them. */
    void child() throws Exception {
        Clients.rebalanceEverySecond();
        join(true);
        // Its share is asked for a second after it has started.
        Thread.sleep(5_000);
        System.out.println("ready");
        System.out.flush();
        Thread.sleep(180_000);
    }

    private void childSays(String line) {
        if (line.equals("ready")) {
            childReady = true;
        } else if (line.startsWith("took ")) {
            tookByChild.add(Integer.valueOf(line.substring("took ".length())));
        }
    }

    private void join(boolean keeps) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(GROUP, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setClientRebalance(false);
        consumer.setPopInvisibleTime(INVISIBLE_MS);
        consumer.setConsumeMessageBatchMaxSize(1);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            if (keeps) {
                System.out.println("took " + Sample.numberOf(message));
                System.out.flush();
                pause();
            }
            deliveries.add(message);
            boolean fails = failsOnce(Sample.numberOf(message)) && message.getReconsumeTimes() == 0;
            return fails ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private static void pause() {
        try {
            Thread.sleep(180_000);
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }

    private boolean isComplete() {
        for (int number = 0; number < MESSAGES; number++) {
            List<Deliveries.Delivery> all = deliveries.of(number);
            if (all.isEmpty() || failsOnce(number) && all.get(all.size() - 1).attempt() == 0) {
                return false;
            }
        }
        return true;
    }

    private boolean isCompleteAfterKill() {
        return isComplete() && deliveries.samples() == MESSAGES + OVER_THE_KILL;
    }

    private void each() {
        int again = 0;
        long earliest = Long.MAX_VALUE;
        for (int number = 0; number < MESSAGES; number++) {
            List<Deliveries.Delivery> all = deliveries.of(number);
            for (Deliveries.Delivery delivery : all) {
                MessageExt message = delivery.message();
                sample(number).matches(checks, "pop.bodies", message);
                checks.same("pop.popped", "receipt of " + number, true, message.getProperty(MessageConst.PROPERTY_POP_CK) != null);
            }
            List<Integer> attempts = all.stream().map(Deliveries.Delivery::attempt).toList();
            if (attempts.equals(List.of(1))) {
                again++;
            } else {
                List<Integer> expected = failsOnce(number) ? List.of(0, 1) : List.of(0);
                checks.same("pop.attempts", "attempts of " + number, expected, attempts);
                if (all.size() == 2) {
                    earliest = Math.min(earliest, all.get(1).atMs() - all.get(0).atMs());
                }
            }
            checks.same("pop.redelivered", "a message in the killed member's hands, " + number, true,
                !tookByChild.contains(number) || attempts.contains(1));
        }
        checks.that(again >= tookByChild.size(), "pop.redelivered", "taken=" + tookByChild.size() + " again=" + again);
        checks.that(earliest >= FIRST_RETRY_MS, "pop.never-early", "after-ms=" + earliest);
        if (checks.clean()) {
            checks.ok("pop.bodies", "deliveries=" + deliveries.total());
            checks.ok("pop.popped", "");
            checks.ok("pop.attempts", "");
        }
    }

    private static long lag(DefaultMQAdminExt admin) {
        try {
            return admin.examineConsumeStats(GROUP, TOPIC).computeTotalDiff();
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
    }

    private static Sample sample(int number) {
        // Every fourth is compressed on its way, and has to stay so.
        return new Sample(TOPIC, number, number % 4 == 1 ? 20_000 : 100, number % 4 == 1);
    }
}
