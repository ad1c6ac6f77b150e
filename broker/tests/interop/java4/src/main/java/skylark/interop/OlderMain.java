package skylark.interop;

import java.util.HashMap;
import java.util.Map;

/**
 * {@code OlderMain SCENARIO key=value...}: runs one scenario of a 4.x client against the name server in
 * {@code namesrv=HOST:PORT}, prints a line per check and ends with 0 only when every check held.
 */
public final class OlderMain {
    public static void main(String[] arguments) {
        Checks checks = new Checks();
        try {
            run(arguments[0], options(arguments), checks);
        } catch (Throwable failure) {
            failure.printStackTrace();
            checks.fail(arguments.length == 0 ? "usage" : arguments[0], failure.toString());
        }
        // The client leaves threads that are no daemons behind; the verdict must not wait for them.
        Runtime.getRuntime().halt(checks.finish());
    }

    private static void run(String scenario, Map<String, String> options, Checks checks) throws Exception {
        try (OlderClients clients = new OlderClients(options.get("namesrv"))) {
            switch (scenario) {
                case "send-push" -> new OlderSends(clients, checks).run(number(options, "messages"));
                case "retry" -> new OlderRetries(clients, checks).run(number(options, "retries"));
                case "orderly" -> new OlderOrder(clients, checks).run(number(options, "messages"));
                case "delay" -> new OlderDelays(clients, checks).run();
                default -> throw new IllegalArgumentException("no such scenario: " + scenario);
            }
        }
    }

    private static int number(Map<String, String> options, String key) {
        return Integer.parseInt(options.get(key));
    }

    private static Map<String, String> options(String[] arguments) {
        Map<String, String> values = new HashMap<>();
        for (int at = 1; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            values.put(pair[0], pair[1]);
        }
        return values;
    }

    private OlderMain() {
    }
}
