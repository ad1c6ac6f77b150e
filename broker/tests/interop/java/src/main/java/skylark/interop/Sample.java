package skylark.interop;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A message that is a function of its number: whoever receives it can make it again and compare every byte, so
 * nothing has to be remembered however much is sent.
 */
record Sample(String topic, int number, int bodyBytes, boolean compressible) {
    /** The user property that says which sample a message is. */
    static final String NUMBER = "number";

    private static final String[] TAGS = {"TagA", "TagB", "标签", "étiquette", "TagC"};

    String tag() {
        return TAGS[number % TAGS.length];
    }

    String keys() {
        return number % 3 == 0 ? "key-" + number + " 键-" + number : "key-" + number;
    }

    Map<String, String> properties() {
        Map<String, String> properties = new TreeMap<>();
        properties.put(NUMBER, Integer.toString(number));
        properties.put("colour", number % 2 == 0 ? "vert foncé" : "красный");
        if (number % 4 == 0) {
            properties.put("a=b&c", "=\"{}[]\\ \t,;:" + number);
        }
        if (number % 7 == 0) {
            properties.put("long", "0123456789".repeat(number % 50 + 1));
        }
        return properties;
    }

    byte[] body() {
        if (compressible) {
            byte[] text = ("line of sample " + number + "\n").getBytes(StandardCharsets.UTF_8);
            byte[] body = new byte[bodyBytes];
            for (int at = 0; at < body.length; at++) {
                body[at] = text[at % text.length];
            }
            return body;
        }
        byte[] padded = new byte[bodyBytes + Long.BYTES & -Long.BYTES];
        ByteBuffer buffer = ByteBuffer.wrap(padded).order(ByteOrder.LITTLE_ENDIAN);
        long state = scramble(number);
        while (buffer.hasRemaining()) {
            state ^= state << 13;
            state ^= state >>> 7;
            state ^= state << 17;
            buffer.putLong(state);
        }
        return Arrays.copyOf(padded, bodyBytes);
    }

    Message message() {
        Message message = new Message(topic, tag(), keys(), number, body(), true);
        properties().forEach(message::putUserProperty);
        return message;
    }

    static int numberOf(MessageExt received) {
        String number = received.getUserProperty(NUMBER);
        return number == null ? -1 : Integer.parseInt(number);
    }

    /** Whether {@code received} is this sample in every part that an application set. */
    boolean matches(Checks checks, String check, MessageExt received) {
        String who = "message " + number + " ";
        boolean same = checks.same(check, who + "topic", topic, received.getTopic())
            & checks.same(check, who + "tags", tag(), received.getTags())
            & checks.same(check, who + "keys", keys(), received.getKeys())
            & checks.same(check, who + "flag", number, received.getFlag());
        for (Map.Entry<String, String> property : properties().entrySet()) {
            same &= checks.same(check, who + "property " + property.getKey(),
                property.getValue(), received.getUserProperty(property.getKey()));
        }
        byte[] expected = body();
        int differs = Arrays.mismatch(expected, received.getBody());
        if (differs >= 0) {
            checks.fail(check, who + "body of " + expected.length + " bytes differs at " + differs
                + ", received " + received.getBody().length + " bytes");
            return false;
        }
        return same;
    }

    /** Spreads neighbouring numbers over all 64 bits (the finalizer of SplitMix64); never zero for a count of messages. */
    static long scramble(long number) {
        long z = (number + 1) * 0x9E3779B97F4A7C15L;
        z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
        z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
        return z ^ z >>> 31;
    }
}
