package skylark.interop;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.common.message.MessageExt;

/** Every delivery of every sample, in the order of arrival: what an application could have seen, and when. */
final class Deliveries {
    /** One arrival at a listener. */
    record Delivery(long atMs, int attempt, MessageExt message) {
    }

    private final Map<Integer, List<Delivery>> byNumber = new ConcurrentHashMap<>();

    /** The delivery, and by that how often the sample has come by now. */
    Delivery add(MessageExt message) {
        Delivery delivery = new Delivery(System.currentTimeMillis(), message.getReconsumeTimes(), message);
        byNumber.compute(Sample.numberOf(message), (number, before) -> {
            List<Delivery> all = before == null ? new ArrayList<>() : new ArrayList<>(before);
            all.add(delivery);
            return all;
        });
        return delivery;
    }

    List<Delivery> of(int number) {
        return byNumber.getOrDefault(number, List.of());
    }

    int samples() {
        return byNumber.size();
    }

    /** How many different places in queues the deliveries came from. */
    long places() {
        return byNumber.values().stream().flatMap(List::stream).map(Delivery::message)
            .map(message -> message.getQueueId() + ":" + message.getQueueOffset()).distinct().count();
    }

    int total() {
        return byNumber.values().stream().mapToInt(List::size).sum();
    }
}
