package skylark.interop;

import java.util.HashMap;
import java.util.Map;

/**
 * {@code Main SCENARIO key=value...}: runs one scenario of the official client against the name server in
 * {@code namesrv=HOST:PORT}, prints a line per check and ends with 0 only when every check held.
 */
public final class Main {
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

    private static void run(String scenario, Options options, Checks checks) throws Exception {
        try (Clients clients = new Clients(options.text("namesrv"))) {
            switch (scenario) {
                case "send" -> new SendModes(clients, checks).run();
                case "soak" -> new Soak(clients, checks).run(options.number("messages", 100_000));
                case "consume-half" -> new Offsets(clients, checks).consumeHalf(options);
                case "consume-rest" -> new Offsets(clients, checks).consumeRest(options);
                case "commit-until-killed" -> new Offsets(clients, checks).commitUntilKilled(options);
                case "read-offsets" -> new Offsets(clients, checks).read(options);
                case "fill" -> new NewGroups(clients, checks).fill(options);
                case "new-groups" -> new NewGroups(clients, checks).run(options);
                case "tags" -> new Features(clients, checks).tags();
                case "filters" -> new Filters(clients, checks).run();
                case "broadcast" -> new Features(clients, checks).broadcast();
                case "lite-pull" -> new PullConsumers(clients, checks).lite();
                case "pull" -> new PullConsumers(clients, checks).plain();
                case "orderly" -> new Features(clients, checks).orderly();
                case "delay" -> new Delays(clients, checks).run(options);
                case "timers" -> new Timers(clients, checks).run(options);
                case "retry" -> new Retries(clients, checks).run(options);
                case "dead-letters" -> new DeadLetters(clients, checks).run();
                case "policies" -> new Policies(clients, checks).run();
                case "find" -> new Finding(clients, checks).run();
                case "reset" -> new Resets(clients, checks).run(options);
                case "recreate" -> new Recreation(clients, checks).run(options);
                case "members" -> new Membership(clients, checks).run();
                case "members-child" -> new Membership(clients, checks).child();
                case "order" -> new OrderOverChanges(clients, checks).run();
                case "order-child" -> new OrderOverChanges(clients, checks).child();
                case "mqadmin" -> new Tool(new AdminState(checks)).serve();
                case "start" -> new StartingPoints(clients, checks).run();
                case "transactions" -> new Transactions(clients, checks).run();
                case "pop" -> new Pops(clients, checks).run();
                case "pop-child" -> new Pops(clients, checks).child();
                case "suppression" -> new Suppression(clients, checks).run(options);
                case "suppression-cost" -> new SuppressionCost(clients, checks).run(options);
                case "kinds" -> new Kinds(clients, checks).run();
                case "light" -> new LightQueues(clients, checks).run(options);
                case "quotas" -> new Quotas(clients, checks).run();
                case "request" -> new RequestReply(clients, checks).run();
                case "stuck" -> new Stuck(clients, checks).run(options);
                default -> throw new IllegalArgumentException("no such scenario: " + scenario);
            }
        }
    }

    private static Options options(String[] arguments) {
        Map<String, String> values = new HashMap<>();
        for (int at = 1; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            values.put(pair[0], pair[1]);
        }
        return new Options(values);
    }

    /** What stood on the command line as {@code key=value}. */
    record Options(Map<String, String> values) {
        String text(String key) {
            String value = values.get(key);
            if (value == null) {
                throw new IllegalArgumentException("missing " + key + "=");
            }
            return value;
        }

        int number(String key, int otherwise) {
            String value = values.get(key);
            return value == null ? otherwise : Integer.parseInt(value);
        }
    }

    private Main() {
    }
}
