package skylark.filter;

import java.io.IOException;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.expression.MQFilterException;

/**
 * {@code Main FILE}: writes what Apache's filter says of every expression for every set of properties.
 *
 * <p>The first line lists the sets. Each further line is an expression with a letter per set: {@code t} true, {@code f}
 * false, {@code n} null, {@code e} an error while evaluating; or null in their place if it does not compile.
 */
public final class Main {
    private static final int RANDOM_EXPRESSIONS = 1500;

    public static void main(String[] arguments) throws IOException {
        Set<String> expressions = new LinkedHashSet<>(Chosen.EXPRESSIONS);
        RandomExpressions random = new RandomExpressions(92);
        while (expressions.size() < Chosen.EXPRESSIONS.size() + RANDOM_EXPRESSIONS) {
            expressions.add(random.next());
        }
        try (Writer out = Files.newBufferedWriter(Path.of(arguments[0]), StandardCharsets.US_ASCII)) {
            out.write("{\"properties\":[");
            String separator = "";
            for (Map<String, String> properties : Chosen.PROPERTIES) {
                out.write(separator + object(properties));
                separator = ",";
            }
            out.write("]}\n");
            for (String expression : expressions) {
                out.write("{\"expression\":" + text(expression) + ",\"verdicts\":" + verdicts(expression) + "}\n");
            }
        }
    }

    private static String verdicts(String expression) {
        Expression compiled;
        try {
            compiled = FilterFactory.INSTANCE.get("SQL92").compile(expression);
        } catch (MQFilterException refused) {
            return "null";
        }
        StringBuilder verdicts = new StringBuilder("\"");
        for (Map<String, String> properties : Chosen.PROPERTIES) {
            verdicts.append(verdict(compiled, properties));
        }
        return verdicts.append('"').toString();
    }

    private static char verdict(Expression compiled, Map<String, String> properties) {
        Object result;
        try {
            result = compiled.evaluate(new Context(properties));
        } catch (Throwable failed) {
            // As the broker does, which takes whatever is thrown for "does not match".
            return 'e';
        }
        if (result == null) {
            return 'n';
        }
        return (Boolean) result ? 't' : 'f';
    }

    private record Context(Map<String, String> properties) implements EvaluationContext {
        @Override
        public Object get(String name) {
            return properties.get(name);
        }

        @Override
        public Map<String, Object> keyValues() {
            return Map.copyOf(properties);
        }
    }

    private static String object(Map<String, String> properties) {
        List<String> fields = properties.entrySet().stream()
            .map(field -> text(field.getKey()) + ":" + text(field.getValue())).toList();
        return "{" + String.join(",", fields) + "}";
    }

    private static String text(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char unit : text.toCharArray()) {
            if (unit == '"' || unit == '\\') {
                json.append('\\').append(unit);
            } else if (unit < ' ' || unit > '~') {
                json.append(String.format("\\u%04x", (int) unit));
            } else {
                json.append(unit);
            }
        }
        return json.append('"').toString();
    }

    private Main() {
    }
}
