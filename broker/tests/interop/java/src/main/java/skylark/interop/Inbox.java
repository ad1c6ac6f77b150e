package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.message.MessageExt;

/** Keeps what a push consumer received, by the number of the sample; later copies of one only count. */
final class Inbox implements MessageListenerConcurrently {
    final Map<Integer, MessageExt> received = new ConcurrentHashMap<>();
    final AtomicInteger deliveries = new AtomicInteger();

    @Override
    public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
        for (MessageExt message : messages) {
            received.putIfAbsent(Sample.numberOf(message), message);
            deliveries.incrementAndGet();
        }
        return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
    }

    boolean await(int count, Deadline deadline) throws InterruptedException {
        return deadline.await(() -> received.size() >= count);
    }
}
