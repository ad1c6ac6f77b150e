package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.BoundaryType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageId;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.header.ViewMessageRequestHeader;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** A message that somebody looks for: by its ids, its keys, its time and its place in a queue. */
final class Finding {
    private static final String TOPIC = "InteropFinding";
    private static final String OTHER = "InteropFindingOther";
    private static final int MESSAGES = 40;
    private static final int QUEUES = 2;

    private final Clients clients;
    private final Checks checks;
    private final List<SendResult> sent = new ArrayList<>();
    private DefaultMQAdminExt admin;
    private DefaultMQPullConsumer reader;
    private long halfway;

    Finding(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        admin = clients.admin();
        reader = clients.reader();
        DefaultMQProducer producer = clients.producer("interop-finding");
        List<MessageQueue> queues = clients.createTopic(producer, TOPIC, QUEUES);
        for (int number = 0; number < MESSAGES; number++) {
            if (number == MESSAGES / 2) {
                // Nothing is stored in the same millisecond as this moment.
                Thread.sleep(5);
                halfway = System.currentTimeMillis();
                Thread.sleep(5);
            }
            Message message = sample(number).message();
            message.setKeys(List.of("shared", "half-" + number * 2 / MESSAGES, "only-" + number));
            sent.add(producer.send(message, queues.get(number % QUEUES)));
        }
        // The same key in another topic is another key.
        producer.send(new Message(OTHER, "TagA", "shared", new byte[] {1}),
            clients.createTopic(producer, OTHER, 1).get(0));
        byKey();
        byId();
        byTime(queues);
        byQueueOffset(queues);
        byWrongOffset();
    }

    private void byKey() throws Exception {
        // An index may lag behind the acknowledgement.
        Deadline.seconds(20).await(() -> found("only-" + (MESSAGES - 1), 10, 0, Long.MAX_VALUE).size() == 1);
        for (int number = 0; number < MESSAGES; number += 7) {
            checks.same("find.by-key", "only-" + number, Set.of(number), found("only-" + number, 10, 0, Long.MAX_VALUE));
        }
        Set<Integer> first = new TreeSet<>();
        Set<Integer> second = new TreeSet<>();
        for (int number = 0; number < MESSAGES; number++) {
            (number < MESSAGES / 2 ? first : second).add(number);
        }
        Set<Integer> all = new TreeSet<>(first);
        all.addAll(second);
        checks.same("find.by-key", "shared", all, found("shared", 64, 0, Long.MAX_VALUE));
        checks.same("find.by-key", "half-0", first, found("half-0", 64, 0, Long.MAX_VALUE));
        checks.same("find.by-key", "a key that nobody used", Set.of(), found("nobody", 64, 0, Long.MAX_VALUE));
        Set<Integer> newest = new TreeSet<>();
        for (int number = MESSAGES - 10; number < MESSAGES; number++) {
            newest.add(number);
        }
        checks.same("find.by-key", "the newest ten", newest, found("shared", 10, 0, Long.MAX_VALUE));
        // Index files keep whole seconds at best, so the bounds of a time range are tested from afar.
        checks.same("find.by-key", "long before", Set.of(), found("shared", 64, 0, halfway - 3_600_000));
        checks.same("find.by-key", "long after", Set.of(), found("shared", 64, halfway + 3_600_000, Long.MAX_VALUE));
        if (checks.clean()) {
            checks.ok("find.by-key", "messages=" + MESSAGES);
        }
    }

    private Set<Integer> found(String key, int max, long begin, long end) {
        try {
            QueryResult result = admin.queryMessage(TOPIC, key, max, begin, end);
            Set<Integer> numbers = new TreeSet<>();
            for (MessageExt message : result.getMessageList()) {
                int number = Sample.numberOf(message);
                checks.same("find.by-key", "body of " + number, List.of(), differences(number, message));
                checks.same("find.by-key", key + " finds " + number + " once", true, numbers.add(number));
            }
            return numbers;
        } catch (MQClientException nothing) {
            checks.same("find.by-key", "code for " + key, ResponseCode.NO_MESSAGE, nothing.getResponseCode());
            return Set.of();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }

    private void byId() throws Exception {
        for (int number = 0; number < MESSAGES; number += 9) {
            SendResult answer = sent.get(number);
            MessageExt byOffset = admin.viewMessage(TOPIC, answer.getOffsetMsgId());
            checks.same("find.by-id", "by offset id " + number, List.of(), differences(number, byOffset));
            checks.same("find.by-id", "place of " + number, answer.getQueueOffset(), byOffset.getQueueOffset());
            MessageExt byUnique = admin.queryMessage("DefaultCluster", TOPIC, answer.getMsgId());
            checks.same("find.by-id", "by unique id " + number, List.of(), differences(number, byUnique));
            checks.same("find.by-id", "the same one", byOffset.getCommitLogOffset(), byUnique.getCommitLogOffset());
            QueryResult unique = admin.queryMessageByUniqKey("DefaultCluster", TOPIC, answer.getMsgId(), 32, 0, Long.MAX_VALUE);
            checks.same("find.by-id", "of that unique id", 1, unique.getMessageList().size());
        }
        if (checks.clean()) {
            checks.ok("find.by-id", "offset and unique");
        }
    }

    private void byTime(List<MessageQueue> queues) throws Exception {
        for (MessageQueue queue : queues) {
            String who = " of queue " + queue.getQueueId();
            int half = MESSAGES / 2 / QUEUES;
            checks.same("find.by-time", "halfway" + who, (long) half, admin.searchOffset(queue, halfway));
            checks.same("find.by-time", "before the first" + who, 0L, admin.searchOffset(queue, halfway - 3_600_000));
            checks.same("find.by-time", "after the last" + who, (long) half * 2,
                admin.searchOffset(queue, halfway + 3_600_000));
            checks.same("find.by-time", "last before halfway" + who, (long) half - 1,
                admin.searchUpperBoundaryOffset(queue, halfway));
        }
        if (checks.clean()) {
            checks.ok("find.by-time", "queues=" + QUEUES);
        }
    }

    private void byQueueOffset(List<MessageQueue> queues) throws Exception {
        for (int number = 0; number < MESSAGES; number += 11) {
            PullResult pulled = reader.pull(queues.get(number % QUEUES), "*", number / QUEUES, 1);
            checks.same("find.by-queue-offset", "status of " + number, PullStatus.FOUND, pulled.getPullStatus());
            checks.same("find.by-queue-offset", "message " + number, List.of(),
                differences(number, pulled.getMsgFoundList().get(0)));
        }
        if (checks.clean()) {
            checks.ok("find.by-queue-offset", "messages=" + MESSAGES);
        }
    }

    /** An offset that is no message's is an error. Bytes in its place could be anybody's. */
    private void byWrongOffset() throws Exception {
        MessageId last = MessageDecoder.decodeMessageId(sent.get(MESSAGES - 1).getOffsetMsgId());
        MessageId first = MessageDecoder.decodeMessageId(sent.get(0).getOffsetMsgId());
        long[] wrong = {first.getOffset() + 1, first.getOffset() + 4, first.getOffset() + 50, first.getOffset() + 100,
            last.getOffset() + 7, last.getOffset() + (1 << 20), Long.MAX_VALUE - 1_000, -1};
        for (long offset : wrong) {
            ViewMessageRequestHeader header = new ViewMessageRequestHeader();
            header.setTopic(TOPIC);
            header.setOffset(offset);
            RemotingCommand answer = admin.getDefaultMQAdminExtImpl().getMqClientInstance().getMQClientAPIImpl()
                .getRemotingClient().invokeSync(Clients.broker(admin),
                    RemotingCommand.createRequestCommand(RequestCode.VIEW_MESSAGE_BY_ID, header), 5_000);
            checks.same("find.by-wrong-offset", "code for " + offset, ResponseCode.SYSTEM_ERROR, answer.getCode());
        }
        try {
            MessageExt found = admin.viewMessage(TOPIC,
                MessageDecoder.createMessageId(first.getAddress(), first.getOffset() + 1));
            checks.fail("find.by-wrong-offset", "the client got " + found);
        } catch (MQBrokerException | MQClientException refused) {
            checks.ok("find.by-wrong-offset", "offsets=" + wrong.length);
        }
    }

    private List<String> differences(int number, MessageExt message) {
        Sample expected = sample(number);
        boolean same = Sample.numberOf(message) == number && TOPIC.equals(message.getTopic())
            && java.util.Arrays.equals(expected.body(), message.getBody()) && expected.tag().equals(message.getTags())
            && sent.get(number).getMsgId().equals(message.getMsgId());
        return same ? List.of() : List.of(message.toString());
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 50 + number * 13, false);
    }
}
