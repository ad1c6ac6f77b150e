package skylark.interop;

import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;

/** What a group's dead letter queue keeps of a message: everything, and where it came from. */
record OlderDeadLetter(String check, Checks checks, Sample sample, MessageExt message) {
    void matches(String group, int reconsumeTimes) {
        String who = "dead letter " + sample.number() + " ";
        Sample moved = new Sample("%DLQ%" + group, sample.number(), sample.bodyBytes(), sample.compressible());
        moved.matches(checks, check, message);
        checks.same(check, who + "queue", 0, message.getQueueId());
        checks.same(check, who + "RETRY_TOPIC", sample.topic(), message.getProperty("RETRY_TOPIC"));
        checks.same(check, who + "reconsume times", reconsumeTimes, message.getReconsumeTimes());
    }

    /** The broker names the first delivery; of a message that the client sent again itself it knows none. */
    void comesFrom(MessageExt first) {
        checks.same(check, "dead letter " + sample.number() + " ORIGIN_MESSAGE_ID", offsetId(first),
            message.getProperty("ORIGIN_MESSAGE_ID"));
    }

    /** Where a delivery was read: the id by which the broker finds it. */
    static String offsetId(MessageExt message) {
        return ((MessageClientExt) message).getOffsetMsgId();
    }
}
