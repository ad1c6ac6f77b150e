package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Who gets a queue's messages while members of its group come, go and are killed, and how soon that changes. */
final class Membership {
    static final String TOPIC = "InteropMembers";
    static final String GROUP = "interop-members";
    private static final int QUEUES = 4;
    /** Far below the 20 s in which clients look by themselves: somebody told them. */
    private static final long TOLD_WITHIN_MS = 15_000;
    /** A client that starts may skip its first heartbeat because it is just sending one; the next is 30 s away. */
    private static final long JOINED_WITHIN_MS = 120_000;

    private final Clients clients;
    private final Checks checks;
    /** By queue, who got its latest message. */
    private final Map<Integer, String> owners = new ConcurrentHashMap<>();
    private final AtomicBoolean sending = new AtomicBoolean(true);

    Membership(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        DefaultMQProducer producer = clients.producer("interop-members");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        Thread sender = new Thread(() -> send(producer, queues));
        sender.start();
        join("first");
        changes("members.first-has-all", JOINED_WITHIN_MS, Set.of("first"));
        DefaultMQPushConsumer second = join("second");
        changes("members.joined", JOINED_WITHIN_MS, Set.of("first", "second"));
        second.shutdown();
        changes("members.left", TOLD_WITHIN_MS, Set.of("first"));
        Process child = Children.start("members-child", clients.namesrv(), this::childTook);
        // A JVM starts first.
        Deadline.seconds(60).await(() -> owners.containsValue("child"));
        changes("members.child-joined", JOINED_WITHIN_MS, Set.of("first", "child"));
        child.destroyForcibly();
        child.waitFor();
        owners.values().removeIf("child"::equals);
        changes("members.killed", TOLD_WITHIN_MS, Set.of("first"));
        sending.set(false);
        sender.join();
    }

    /** The other process: says who got what until it is killed. */
    void child() throws Exception {
        join("child");
        Thread.sleep(120_000);
    }

    private void childTook(String line) {
        if (line.startsWith("took ")) {
            owners.put(Integer.valueOf(line.substring("took ".length())), "child");
        }
    }

    private DefaultMQPushConsumer join(String name) throws Exception {
        DefaultMQPushConsumer consumer = clients.push(GROUP, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            int queue = context.getMessageQueue().getQueueId();
            owners.put(queue, name);
            if (name.equals("child")) {
                System.out.println("took " + queue);
                System.out.flush();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private void changes(String check, long withinMs, Set<String> members) throws Exception {
        long begun = System.nanoTime();
        Deadline.seconds(60).await(() -> settled(members));
        long tookMs = (System.nanoTime() - begun) / 1_000_000;
        checks.that(settled(members) && tookMs <= withinMs, check, "ms=" + tookMs + " owners=" + owners);
    }

    /** Every member has its equal share of the queues, and nobody else has one. */
    private boolean settled(Set<String> members) {
        Map<String, Long> shares = owners.values().stream().collect(Collectors.groupingBy(name -> name, Collectors.counting()));
        return owners.size() == QUEUES && new TreeSet<>(shares.keySet()).equals(new TreeSet<>(members))
            && shares.values().stream().allMatch(share -> share == QUEUES / members.size());
    }

    private void send(DefaultMQProducer producer, List<MessageQueue> queues) {
        try {
            while (sending.get()) {
                for (MessageQueue queue : queues) {
                    producer.send(new Message(TOPIC, new byte[8]), queue);
                }
                Thread.sleep(50);
            }
        } catch (Exception failure) {
            checks.fail("members.send", failure.toString());
        }
    }
}
