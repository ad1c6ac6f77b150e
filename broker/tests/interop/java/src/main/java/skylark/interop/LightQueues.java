package skylark.interop;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.protocol.route.BrokerData;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Light queues as in Apache's examples: a message lies in its topic and in every queue that it names, and consumers, to
 * whom no name server tells a route, get theirs from the route of the topic.
 */
final class LightQueues {
    private static final String TOPIC = "InteropLight";
    private static final int QUEUES = 5;
    private static final int MESSAGES = 300;

    private final Clients clients;
    private final Checks checks;
    private final Map<Integer, TreeMap<Integer, Sample>> expected = new HashMap<>();
    private boolean saysPlaces;

    LightQueues(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run(Main.Options options) throws Exception {
        // Whether a message says where it lies in the queue it is read from, rather than in its topic.
        saysPlaces = options.number("places", 1) == 1;
        DefaultMQAdminExt admin = clients.admin();
        DefaultMQProducer producer = clients.producer("interop-light");
        clients.createTopic(producer, TOPIC, 4);
        // One is there before the first message.
        Inbox early = new Inbox();
        DefaultMQPushConsumer waiting = push(admin, early, 0, "interop-light-early", true);
        send(producer, 0);
        int half = expected.get(0).size();
        checks.that(early.await(half, Deadline.seconds(60)), "light.push", "received=" + early.received.size());
        Clients.brokerIsKilled(admin);
        send(producer, MESSAGES);
        int all = expected.get(0).size();
        boolean complete = early.await(all, Deadline.seconds(90));
        complete &= same("light.over-a-kill", early, 0);
        checks.that(complete, "light.over-a-kill", "received=" + early.received.size() + " of " + all);
        waiting.shutdown();
        // What was committed is an offset of the light queue.
        Inbox again = new Inbox();
        push(admin, again, 0, "interop-light-early", true);
        Message last = sample(2 * MESSAGES).message();
        name(last, List.of(0));
        producer.send(last);
        boolean got = Deadline.seconds(60).await(() -> again.received.containsKey(2 * MESSAGES));
        checks.that(got && (!saysPlaces || again.deliveries.get() < all / 2), "light.goes-on",
            "deliveries=" + again.deliveries);

        pulled();
        popped(admin);
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 50 + number % 400, false);
    }

    private static String light(int queue) {
        return "%LMQ%interop" + queue;
    }

    private static void name(Message message, List<Integer> queues) {
        String names = String.join(",", queues.stream().map(LightQueues::light).toList());
        message.putUserProperty(MessageConst.PROPERTY_INNER_MULTI_DISPATCH, names);
    }

    private void send(DefaultMQProducer producer, int from) throws Exception {
        for (int number = from; number < from + MESSAGES; number++) {
            Sample sample = sample(number);
            Message message = sample.message();
            List<Integer> queues = number % 2 == 0 ? List.of(number % QUEUES, (number + 1) % QUEUES) : List.of(number % QUEUES);
            name(message, queues);
            producer.send(message);
            for (int queue : queues) {
                expected.computeIfAbsent(queue, q -> new TreeMap<>()).put(number, sample);
            }
        }
    }

    private boolean same(String check, Inbox inbox, int queue) {
        boolean same = inbox.received.keySet().equals(expected.get(queue).keySet());
        for (Map.Entry<Integer, Sample> entry : expected.get(queue).entrySet()) {
            MessageExt received = inbox.received.get(entry.getKey());
            // The topic is that of the message where it was pulled, that of the queue where it was popped.
            same &= received != null && Arrays.equals(received.getBody(), entry.getValue().body());
        }
        return checks.same(check, "messages of queue " + queue, true, same);
    }

    /** A push consumer of a light queue. */
    private DefaultMQPushConsumer push(DefaultMQAdminExt admin, Inbox inbox, int queue, String group, boolean pulls)
        throws Exception {
        DefaultMQPushConsumer consumer = clients.push(group, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(light(queue), "*");
        consumer.registerMessageListener(inbox);
        consumer.setClientRebalance(pulls);
        consumer.start();
        MQClientInstance instance = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory();
        instance.updateTopicRouteInfoFromNameServer(TOPIC);
        BrokerData broker = admin.examineTopicRouteInfo(TOPIC).getBrokerDatas().get(0);
        TopicRouteData route = new TopicRouteData();
        route.setBrokerDatas(List.of(broker));
        instance.getTopicRouteTable().put(light(queue), route);
        if (pulls) {
            consumer.getDefaultMQPushConsumerImpl().updateTopicSubscribeInfo(light(queue),
                Set.of(new MessageQueue(light(queue), broker.getBrokerName(), 0)));
        }
        instance.doRebalance();
        return consumer;
    }

    private void pulled() throws Exception {
        DefaultMQPullConsumer reader = clients.reader();
        // As in Apache's example: so the client learns the broker's address.
        reader.getDefaultMQPullConsumerImpl().getRebalanceImpl().getmQClientFactory()
            .updateTopicRouteInfoFromNameServer(TOPIC);
        Set<MessageQueue> parents = reader.fetchSubscribeMessageQueues(TOPIC);
        String broker = parents.iterator().next().getBrokerName();
        boolean same = true;
        int count = 0;
        for (int queue = 1; queue < QUEUES; queue++) {
            MessageQueue light = new MessageQueue(light(queue), broker, 0);
            List<Integer> wanted = List.copyOf(expected.get(queue).keySet());
            same &= checks.same("light.pull", "minimum", 0L, reader.minOffset(light));
            same &= checks.same("light.pull", "maximum", (long) wanted.size(), reader.maxOffset(light));
            long offset = 0;
            while (offset < wanted.size()) {
                PullResult result = reader.pull(light, "*", offset, 32);
                if (result.getPullStatus() != PullStatus.FOUND) {
                    same = checks.same("light.pull", "status at " + offset, PullStatus.FOUND, result.getPullStatus());
                    break;
                }
                for (MessageExt message : result.getMsgFoundList()) {
                    same &= (!saysPlaces || checks.same("light.pull", "offset", offset, message.getQueueOffset()))
                        & checks.same("light.pull", "message", wanted.get((int) offset), Sample.numberOf(message));
                    offset++;
                    count++;
                }
            }
        }
        checks.that(same, "light.pull", "messages=" + count);
    }

    private void popped(DefaultMQAdminExt admin) throws Exception {
        String group = "interop-light-pops";
        String broker = Clients.broker(admin);
        SubscriptionGroupConfig config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        admin.createAndUpdateSubscriptionGroupConfig(broker, config);
        admin.setMessageRequestMode(broker, light(1), group, MessageRequestMode.POP, 8, 10_000);
        Inbox inbox = new Inbox();
        push(admin, inbox, 1, group, false);
        boolean complete = inbox.await(expected.get(1).size(), Deadline.seconds(60));
        complete &= same("light.pop", inbox, 1);
        // All of it is acknowledged: nothing comes again.
        checks.that(complete && inbox.deliveries.get() == expected.get(1).size(), "light.pop",
            "deliveries=" + inbox.deliveries);
    }
}
