package skylark.interop;

import java.util.List;
import java.util.OptionalLong;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.subscription.CustomizedRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.ExponentialRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.GroupRetryPolicy;
import org.apache.rocketmq.remoting.protocol.subscription.GroupRetryPolicyType;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Groups whose messages come again as their retry policies say and end as dead letters, which an operator sends once
 * more; and groups that operators move. The driver is the operator of dead letters, and asks for the trail.
 */
final class Policies {
    private static final String TOPIC = "InteropPolicies";
    private static final int MESSAGES = 6;
    private static final int RETRIES = 3;
    /** A broker without policies takes thirty seconds for the second retry: what comes sooner has followed the policy. */
    private static final long LATE_MS = 20_000;

    private final Clients clients;
    private final Checks checks;
    private DefaultMQAdminExt admin;
    private List<MessageQueue> queues;
    private volatile boolean fails = true;

    Policies(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        Clients.rebalanceEverySecond();
        admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-policies");
        queues = clients.createTopic(producer, TOPIC, 2);

        GroupRetryPolicy exponential = new GroupRetryPolicy();
        exponential.setType(GroupRetryPolicyType.EXPONENTIAL);
        exponential.setExponentialRetryPolicy(new ExponentialRetryPolicy(400, 1_000, 2));
        GroupRetryPolicy customized = new GroupRetryPolicy();
        customized.setType(GroupRetryPolicyType.CUSTOMIZED);
        customized.setCustomizedRetryPolicy(new CustomizedRetryPolicy(new long[] {1, 2, 300, 700, 500}));
        Deliveries grown = failing("interop-exponential", exponential);
        Deliveries listed = failing("interop-customized", customized);
        for (int number = 0; number < MESSAGES; number++) {
            producer.send(sample(number).message(), queues.get(number % queues.size()));
        }
        retried("policy.exponential", grown, 400, 800, 1_000);
        retried("policy.customized", listed, 300, 700, 500);

        DefaultMQPullConsumer reader = clients.reader();
        String broker = queues.get(0).getBrokerName();
        for (String group : List.of("interop-exponential", "interop-customized")) {
            MessageQueue letters = new MessageQueue("%DLQ%" + group, broker, 0);
            boolean dead = Deadline.seconds(40).await(() -> maxOffset(reader, letters) == MESSAGES);
            checks.that(dead, "policy.dead", group + " dead=" + maxOffset(reader, letters));
        }
        fails = false;
        System.out.println("dead");
        System.out.flush();
        // Both groups consume the topic, so each gets what the other's dead letters were sent again for.
        resent("policy.resent", grown);
        resent("policy.resent-to-others", listed);
        moved();
    }

    private Deliveries failing(String group, GroupRetryPolicy policy) throws Exception {
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        config.setGroupRetryPolicy(policy);
        admin.createAndUpdateSubscriptionGroupConfig(Clients.broker(admin), config);
        checks.same("policy.told", "policy of " + group, policy.toString(),
            admin.examineSubscriptionGroupConfig(Clients.broker(admin), group).getGroupRetryPolicy().toString());
        Deliveries deliveries = new Deliveries();
        DefaultMQPushConsumer consumer = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setMaxReconsumeTimes(RETRIES);
        consumer.setConsumeMessageBatchMaxSize(1);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            deliveries.add(messages.get(0));
            return fails ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return deliveries;
    }

    private void retried(String check, Deliveries deliveries, long... delaysMs) throws Exception {
        Deadline.seconds(60).await(() -> deliveries.total() == MESSAGES * (RETRIES + 1));
        long earliest = Long.MAX_VALUE;
        long latest = Long.MIN_VALUE;
        for (int number = 0; number < MESSAGES; number++) {
            List<Deliveries.Delivery> all = deliveries.of(number);
            checks.same(check, "attempts of " + number, List.of(0, 1, 2, 3),
                all.stream().map(Deliveries.Delivery::attempt).toList());
            for (int at = 1; at < Math.min(all.size(), delaysMs.length + 1); at++) {
                long late = all.get(at).atMs() - all.get(at - 1).atMs() - delaysMs[at - 1];
                earliest = Math.min(earliest, late);
                latest = Math.max(latest, late);
            }
        }
        checks.that(earliest >= 0 && latest <= LATE_MS, check, "after-due-ms=" + earliest + ".." + latest);
    }

    /** Once more from each group's dead letters, as if for the first time. */
    private void resent(String check, Deliveries deliveries) throws Exception {
        int expected = MESSAGES * (RETRIES + 1 + 2);
        Deadline.seconds(60).await(() -> deliveries.total() >= expected);
        Thread.sleep(1_000);
        checks.same(check, "deliveries", expected, deliveries.total());
        for (int number = 0; number < MESSAGES; number++) {
            List<Deliveries.Delivery> all = deliveries.of(number);
            MessageExt first = all.get(0).message();
            for (Deliveries.Delivery delivery : all.subList(Math.min(RETRIES + 1, all.size()), all.size())) {
                MessageExt message = delivery.message();
                sample(number).matches(checks, check, message);
                checks.same(check, "attempts of " + number, 0, message.getReconsumeTimes());
                checks.same(check, "unique id of " + number, first.getMsgId(), message.getMsgId());
                checks.same(check, "born " + number, first.getBornTimestamp(), message.getBornTimestamp());
                checks.same(check, "retry topic of " + number, null,
                    message.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
                checks.that(message.getProperty("SKYLARK_DEAD_LETTER") != null, "policy.marked", "number=" + number);
            }
        }
        if (checks.clean()) {
            checks.ok(check, "deliveries=" + deliveries.total());
        }
    }

    /** A group is moved by mqadmin, in three ways; what each comes to the driver reads in the trail. */
    private void moved() throws Exception {
        String group = "interop-moved";
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        admin.createAndUpdateSubscriptionGroupConfig(Clients.broker(admin), config);
        StoredOffsets stored = new StoredOffsets(clients.producer("interop-policies-moved"));
        admin.updateConsumeOffset(Clients.broker(admin), group, queues.get(0), 2);
        checks.same("policy.moved", "set", OptionalLong.of(2), stored.of(group, queues.get(0)));
        mqadmin("resetOffsetByTime", "-g", group, "-t", TOPIC, "-s", "0");
        checks.same("policy.moved", "reset", OptionalLong.of(0), stored.of(group, queues.get(0)));
        mqadmin("skipAccumulatedMessage", "-g", group, "-t", TOPIC);
        long end = admin.maxOffset(queues.get(0));
        checks.same("policy.moved", "skipped", OptionalLong.of(end), stored.of(group, queues.get(0)));
        System.out.println("end-of-queue " + end);
        if (checks.clean()) {
            checks.ok("policy.moved", group);
        }
    }

    private void mqadmin(String... words) {
        String[] all = java.util.Arrays.copyOf(words, words.length + 2);
        all[words.length] = "-n";
        all[words.length + 1] = clients.namesrv();
        MQAdminStartup.main0(all, null);
    }

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
