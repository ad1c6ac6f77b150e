package skylark.interop;

import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalLong;
import java.util.TreeMap;
import org.apache.rocketmq.client.exception.OffsetNotFoundException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.header.QueryConsumerOffsetRequestHeader;
import org.apache.rocketmq.remoting.protocol.header.UpdateConsumerOffsetRequestHeader;

/** The offsets a broker keeps for a group, asked for as consumers ask (codes 14 and 15), without being a consumer. */
final class StoredOffsets {
    private static final long TIMEOUT_MS = 5_000;

    private final MQClientInstance client;

    StoredOffsets(DefaultMQProducer producer) {
        this.client = producer.getDefaultMQProducerImpl().getMqClientFactory();
    }

    /** Empty where the broker answers that it knows none (22). */
    OptionalLong of(String group, MessageQueue queue) throws Exception {
        QueryConsumerOffsetRequestHeader header = new QueryConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(queue.getTopic());
        header.setQueueId(queue.getQueueId());
        try {
            return OptionalLong.of(client.getMQClientAPIImpl().queryConsumerOffset(address(queue), header, TIMEOUT_MS));
        } catch (OffsetNotFoundException none) {
            return OptionalLong.empty();
        }
    }

    /** By queue; −1 stands for none. */
    Map<Integer, Long> of(String group, List<MessageQueue> queues) throws Exception {
        Map<Integer, Long> offsets = new TreeMap<>();
        for (MessageQueue queue : queues) {
            offsets.put(queue.getQueueId(), of(group, queue).orElse(-1));
        }
        return offsets;
    }

    /** Returns once the broker has answered. */
    void commit(String group, MessageQueue queue, long offset) throws Exception {
        UpdateConsumerOffsetRequestHeader header = new UpdateConsumerOffsetRequestHeader();
        header.setConsumerGroup(group);
        header.setTopic(queue.getTopic());
        header.setQueueId(queue.getQueueId());
        header.setCommitOffset(offset);
        client.getMQClientAPIImpl().updateConsumerOffset(address(queue), header, TIMEOUT_MS);
    }

    private String address(MessageQueue queue) {
        String address = client.findBrokerAddressInPublish(queue.getBrokerName());
        if (address == null) {
            // A request without an address would go to the name server.
            client.updateTopicRouteInfoFromNameServer(queue.getTopic());
            address = client.findBrokerAddressInPublish(queue.getBrokerName());
        }
        return Objects.requireNonNull(address, "no address of " + queue);
    }
}
