package skylark.interop;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** A request that waits for its reply: the broker pushes the reply over the requester's own connection. */
final class RequestReply {
    private static final String TOPIC = "InteropRequests";
    private static final int REQUESTS = 20;
    private static final long TIMEOUT_MS = 15_000;

    private final Clients clients;
    private final Checks checks;

    RequestReply(Clients clients, Checks checks) {
        this.clients = clients;
        this.checks = checks;
    }

    void run() throws Exception {
        DefaultMQProducer requester = clients.producer("interop-requester");
        // Another one, so that a reply pushed to anybody but the requester is lost.
        DefaultMQProducer other = clients.producer("interop-requester");
        clients.createTopic(other, TOPIC, 4);
        answer();
        requester.getDefaultMQProducerImpl().getMqClientFactory().sendHeartbeatToAllBrokerWithLock();

        Map<Integer, String> replies = new ConcurrentHashMap<>();
        AtomicInteger failed = new AtomicInteger();
        for (int number = 0; number < REQUESTS; number++) {
            int request = number;
            // Not the variant that blocks: in this version of the client it returns as soon as the request is sent.
            requester.request(new Message(TOPIC, body("ask", number)), new RequestCallback() {
                @Override
                public void onSuccess(Message reply) {
                    replies.put(request, new String(reply.getBody(), StandardCharsets.UTF_8));
                }

                @Override
                public void onException(Throwable failure) {
                    failed.incrementAndGet();
                    checks.fail("request.reply", "request " + request + ": " + failure);
                }
            }, TIMEOUT_MS);
        }
        Deadline.seconds(30).await(() -> replies.size() + failed.get() >= REQUESTS);
        for (int number = 0; number < REQUESTS; number++) {
            checks.same("request.reply", "reply to " + number, "réponse " + number, replies.get(number));
        }
        checks.that(replies.size() == REQUESTS, "request.reply", "replies=" + replies.size());
    }

    private void answer() throws Exception {
        DefaultMQProducer replier = clients.producer("interop-replier");
        DefaultMQPushConsumer consumer = clients.push("interop-replier", ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                String number = new String(message.getBody(), StandardCharsets.UTF_8).split(" ")[1];
                try {
                    replier.send(MessageUtil.createReplyMessage(message, body("réponse", Integer.parseInt(number))));
                } catch (Exception failure) {
                    checks.fail("request.reply", "sending the reply to " + number + ": " + failure);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private static byte[] body(String word, int number) {
        return (word + " " + number).getBytes(StandardCharsets.UTF_8);
    }
}
