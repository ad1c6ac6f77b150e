package skylark.interop;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Transactions: what was committed comes once and whole, what was not never comes, and who does not say is asked.
 * The broker asks after two seconds, then every three, five times at most.
 */
final class Transactions {
    private static final String TOPIC = "InteropTransactions";
    private static final String GROUP = "interop-transactions";
    private static final String HALF = "RMQ_SYS_TRANS_HALF_TOPIC";
    private static final String GIVEN_UP = "TRANS_CHECK_MAX_TIME_TOPIC";
    private static final int QUEUES = 4;
    private static final int CHECKS_MAX = 5;
    private static final int MIXED = 200;
    private static final int FEW = 10;

    private final Clients clients;
    private final Checks checks;
    private final Deliveries deliveries = new Deliveries();
    private final Map<Integer, TransactionSendResult> sent = new ConcurrentHashMap<>();
    private DefaultMQAdminExt admin;

    Transactions(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        admin = clients.admin();
        clients.createTopic(clients.producer("interop-transactions-setup"), TOPIC, QUEUES);
        consume();
        DefaultMQPullConsumer reader = clients.reader();

        Participant first = participant();
        mixed(first);
        otherProducer(first);
        Participant second = participant();
        introduce(second);
        arrive("transaction.other-producer", unsettled(), FEW);
        overKill(second);
        checkLimit(second, reader);
        refused(reader);
        // Whatever comes twice, or should not come, comes at once.
        Thread.sleep(3_000);
        long committed = sent.keySet().stream().filter(Transactions::isCommitted).count();
        checks.that(deliveries.samples() == committed && deliveries.places() == committed, "transaction.once",
            "committed=" + committed + " stored=" + deliveries.places() + " deliveries=" + deliveries.total());
    }

    /** What is to become of a sample; its number says so. */
    private enum Plan {
        COMMIT, ROLLBACK, ASK_AND_COMMIT, ASK_AND_ROLLBACK, FAIL, NEVER, LATER;

        private static final Plan[] MIX = {COMMIT, ROLLBACK, ASK_AND_COMMIT, ASK_AND_ROLLBACK, FAIL};

        static Plan of(int number) {
            return switch (number / 1_000) {
                case 0 -> MIX[number % MIX.length];
                case 1, 2 -> LATER;
                case 3 -> NEVER;
                default -> COMMIT;
            };
        }
    }

    private static boolean isCommitted(int number) {
        return switch (Plan.of(number)) {
            case COMMIT, ASK_AND_COMMIT, LATER -> true;
            default -> false;
        };
    }

    private final class Participant implements TransactionListener {
        final TransactionMQProducer producer;
        /** How often it was asked about a sample. */
        final Map<Integer, AtomicInteger> asked = new ConcurrentHashMap<>();
        /** Whether it knows by now how the later ones ended. */
        final AtomicBoolean knows = new AtomicBoolean();

        Participant(TransactionMQProducer producer) {
            this.producer = producer;
        }

        @Override
        public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
            return switch (Plan.of((Integer) argument)) {
                case COMMIT -> LocalTransactionState.COMMIT_MESSAGE;
                case ROLLBACK -> LocalTransactionState.ROLLBACK_MESSAGE;
                case FAIL -> throw new IllegalStateException("the local transaction fails on purpose");
                default -> LocalTransactionState.UNKNOW;
            };
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt message) {
            int number = Sample.numberOf(message);
            int times = asked.computeIfAbsent(number, none -> new AtomicInteger()).incrementAndGet();
            sample(number).matches(checks, "transaction.question", message);
            TransactionSendResult known = sent.get(number);
            if (known != null) {
                checks.same("transaction.question", "id of " + number, known.getTransactionId(), message.getTransactionId());
                checks.same("transaction.question", "queue of " + number, known.getMessageQueue().getQueueId(),
                    message.getQueueId());
            }
            if (Plan.of(number) == Plan.NEVER) {
                checks.same("transaction.question", "count of " + number, String.valueOf(times),
                    message.getProperty(MessageConst.PROPERTY_TRANSACTION_CHECK_TIMES));
            }
            return switch (Plan.of(number)) {
                case ASK_AND_COMMIT -> LocalTransactionState.COMMIT_MESSAGE;
                case ASK_AND_ROLLBACK, FAIL -> LocalTransactionState.ROLLBACK_MESSAGE;
                case LATER -> knows.get() ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.UNKNOW;
                default -> LocalTransactionState.UNKNOW;
            };
        }

        int timesAsked(int number) {
            AtomicInteger times = asked.get(number);
            return times == null ? 0 : times.get();
        }
    }

    private Participant participant() throws MQClientException {
        TransactionMQProducer producer = clients.configured(new TransactionMQProducer(GROUP));
        // The broker asks those whose heartbeat it has heard.
        producer.setHeartbeatBrokerInterval(1_000);
        producer.setSendMsgTimeout(10_000);
        Participant participant = new Participant(producer);
        producer.setTransactionListener(participant);
        producer.start();
        clients.closeLater(producer::shutdown);
        return participant;
    }

    private void consume() throws Exception {
        DefaultMQPushConsumer consumer =
            clients.push("interop-transactions-consumer", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // A tag in the subscription: the index entry of the final message must carry its hash.
        consumer.subscribe(TOPIC, "TagA || TagB || 标签 || étiquette || TagC");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(deliveries::add);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private void send(Participant by, int number) throws Exception {
        TransactionSendResult result = by.producer.sendMessageInTransaction(sample(number).message(), number);
        checks.same("transaction.send", "status of " + number, SendStatus.SEND_OK, result.getSendStatus());
        sent.put(number, result);
    }

    private void mixed(Participant by) throws Exception {
        for (int number = 0; number < MIXED; number++) {
            send(by, number);
        }
        int[] committed = numbers(0, MIXED, Transactions::isCommitted);
        arrive("transaction.commit", committed, committed.length);
        int[] asked = numbers(0, MIXED, number -> Plan.of(number) != Plan.COMMIT && Plan.of(number) != Plan.ROLLBACK);
        boolean all = Deadline.seconds(60).await(() -> Arrays.stream(asked).allMatch(number -> by.timesAsked(number) > 0));
        checks.that(all, "transaction.check", "asked=" + by.asked.size() + " of " + asked.length);
        int[] settled = numbers(0, MIXED, number -> Plan.of(number) == Plan.COMMIT || Plan.of(number) == Plan.ROLLBACK);
        // By now everything has had its turn, and the answers of those asked theirs.
        Thread.sleep(8_000);
        checks.that(Arrays.stream(settled).allMatch(number -> by.timesAsked(number) == 0)
            && Arrays.stream(asked).allMatch(number -> by.timesAsked(number) == 1),
            "transaction.asked-once", "settled=" + settled.length + " asked=" + asked.length);
        checks.that(deliveries.samples() == committed.length, "transaction.rollback",
            "delivered=" + deliveries.samples() + " committed=" + committed.length);
    }

    /** Its producer closes with transactions open; another one of the group is asked in its place. */
    private void otherProducer(Participant first) throws Exception {
        for (int number : unsettled()) {
            send(first, number);
        }
        first.producer.shutdown();
    }

    private static int[] unsettled() {
        return IntStream.range(1_000, 1_000 + FEW).toArray();
    }

    /** Lets the broker know a producer: by sending something. */
    private void introduce(Participant participant) throws Exception {
        participant.knows.set(true);
        send(participant, 9_000);
    }

    /** The driver kills the broker while transactions are open. */
    private void overKill(Participant by) throws Exception {
        by.knows.set(false);
        int[] open = IntStream.range(2_000, 2_000 + FEW).toArray();
        for (int number : open) {
            send(by, number);
        }
        Clients.brokerIsKilled(admin);
        checks.that(Arrays.stream(open).allMatch(number -> deliveries.of(number).isEmpty()), "transaction.open-over-kill",
            "open=" + open.length);
        by.knows.set(true);
        arrive("transaction.over-kill", open, open.length);
    }

    /** What nobody ever settles goes where an operator finds it. */
    private void checkLimit(Participant by, DefaultMQPullConsumer reader) throws Exception {
        int[] never = IntStream.range(3_000, 3_000 + FEW).toArray();
        for (int number : never) {
            send(by, number);
        }
        boolean asked = Deadline.seconds(90).await(
            () -> Arrays.stream(never).allMatch(number -> by.timesAsked(number) >= CHECKS_MAX));
        MessageQueue queue = new MessageQueue(GIVEN_UP, sent.get(0).getMessageQueue().getBrokerName(), 0);
        boolean kept = Deadline.seconds(30).await(() -> end(reader, queue) >= FEW);
        Thread.sleep(4_000);
        checks.that(asked && Arrays.stream(never).allMatch(number -> by.timesAsked(number) == CHECKS_MAX),
            "transaction.check-limit", "asked=" + by.timesAsked(never[0]));
        int found = 0;
        PullResult pulled = reader.pull(queue, "*", 0, 32);
        if (checks.same("transaction.given-up", "pulling it", PullStatus.FOUND, pulled.getPullStatus())) {
            for (MessageExt message : pulled.getMsgFoundList()) {
                int number = Sample.numberOf(message);
                found += Arrays.equals(sample(number).body(), message.getBody())
                    && TOPIC.equals(message.getProperty(MessageConst.PROPERTY_REAL_TOPIC)) ? 1 : 0;
            }
        }
        checks.that(kept && found == FEW && end(reader, queue) == FEW, "transaction.given-up", "found=" + found);
    }

    private static long end(DefaultMQPullConsumer reader, MessageQueue queue) {
        try {
            return reader.maxOffset(queue);
        } catch (MQClientException notThereYet) {
            return 0;
        }
    }

    /** Half messages lie where Apache's tools look for them, and no client may send there. */
    private void refused(DefaultMQPullConsumer reader) throws Exception {
        MessageQueue queue = new MessageQueue(HALF, sent.get(0).getMessageQueue().getBrokerName(), 0);
        checks.that(end(reader, queue) == sent.size(), "transaction.half-messages", "stored=" + end(reader, queue));
        DefaultMQProducer plain = clients.producer("interop-transactions-refused");
        try {
            plain.send(new Message(HALF, new byte[1]), queue);
            checks.fail("transaction.closed-topic", "it was taken");
        } catch (MQBrokerException refusal) {
            checks.that(refusal.getResponseCode() == 16, "transaction.closed-topic", "code=" + refusal.getResponseCode());
        } catch (MQClientException refusedHere) {
            checks.ok("transaction.closed-topic", refusedHere.getErrorMessage());
        }
    }

    private void arrive(String check, int[] numbers, int count) throws Exception {
        boolean complete = Deadline.seconds(90).await(
            () -> Arrays.stream(numbers).filter(number -> !deliveries.of(number).isEmpty()).count() == count);
        for (int number : numbers) {
            List<Deliveries.Delivery> all = deliveries.of(number);
            if (!all.isEmpty()) {
                matches(check, number, all.get(0).message());
            }
        }
        checks.that(complete, check, "messages=" + count);
    }

    private void matches(String check, int number, MessageExt message) {
        TransactionSendResult known = sent.get(number);
        sample(number).matches(checks, check, message);
        checks.same(check, "queue of " + number, known.getMessageQueue().getQueueId(), message.getQueueId());
        checks.same(check, "id of " + number, known.getTransactionId(), message.getTransactionId());
        checks.same(check, "type of " + number, MessageSysFlag.TRANSACTION_COMMIT_TYPE,
            MessageSysFlag.getTransactionValue(message.getSysFlag()));
        checks.same(check, "mark of " + number, "true",
            message.getProperty(MessageConst.PROPERTY_TRANSACTION_PREPARED));
        checks.same(check, "real topic of " + number, TOPIC, message.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
        checks.same(check, "attempt of " + number, 0, message.getReconsumeTimes());
        long half = message.getPreparedTransactionOffset();
        checks.same(check, "half message of " + number + " lies before it", true,
            half > 0 && half < message.getCommitLogOffset());
    }

    private static int[] numbers(int first, int end, IntPredicate wanted) {
        return IntStream.range(first, end).filter(wanted).toArray();
    }

    private static Sample sample(int number) {
        return new Sample(TOPIC, number, 1 + number * 37 % 3_000, number % 2 == 0);
    }
}
