package skylark.filter;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** Expressions at random: most are valid, some have a token changed, and a few are tokens in any order. */
final class RandomExpressions {
    private static final String[] NAMES = {"a", "a", "a", "b", "b", "c", "A", "missing"};
    private static final String[] NUMBERS = {
        "0", "1", "5", "6", "9", "10", "5L", "5.0", "5.5", "1e3", ".5", "8.", "2147483647", "2147483648", "9223372036854775807",
        "0.0", "9223372036854775808", "1e309"};
    private static final String[] TEXTS = {"'x'", "'5'", "'abc'", "'bc'", "''", "'it''s'", "'true'", "'5.0'", "'\u65e5'"};
    private static final String[] ORDERS = {">", ">=", "<", "<="};
    private static final String[] SEARCHES = {"CONTAINS", "STARTSWITH", "ENDSWITH"};
    private static final String[] ANY = {
        "a", "b", "5", "5.5", "'x'", "TRUE", "NULL", "NOT", "AND", "OR", "=", "<>", ">", "<=", "(", ")", ",", "IS", "IN", "BETWEEN",
        "CONTAINS", "+", "-", "/* c */", "-- c\n", "--", ";", "'", "."};

    private final Random random;

    RandomExpressions(long seed) {
        random = new Random(seed);
    }

    String next() {
        List<String> tokens = new ArrayList<>();
        int kind = random.nextInt(20);
        if (kind == 0) {
            for (int count = 1 + random.nextInt(8); count > 0; count--) {
                tokens.add(one(ANY));
            }
        } else {
            condition(tokens, 3);
        }
        if (kind == 1 || kind == 2) {
            tokens.set(random.nextInt(tokens.size()), one(ANY));
        } else if (kind == 3) {
            tokens.remove(random.nextInt(tokens.size()));
        } else if (kind == 4) {
            tokens.add(random.nextInt(tokens.size() + 1), one(ANY));
        }
        return joined(tokens);
    }

    private void condition(List<String> out, int depth) {
        switch (random.nextInt(depth > 0 ? 16 : 9)) {
            case 0, 1 -> {
                comparable(out, depth);
                out.add(one(ORDERS));
                comparable(out, depth);
            }
            case 2, 3 -> {
                operand(out, depth);
                out.add(random.nextBoolean() ? "=" : "<>");
                operand(out, depth);
            }
            case 4 -> {
                operand(out, depth);
                out.add("IS");
                maybe(out, "NOT");
                out.add("NULL");
            }
            case 5 -> {
                out.add(one(NAMES));
                maybe(out, "NOT");
                out.add("IN");
                out.add("(");
                out.add(one(TEXTS));
                for (int more = random.nextInt(7); more > 0; more--) {
                    out.add(",");
                    out.add(one(TEXTS));
                }
                out.add(")");
            }
            case 6 -> {
                operand(out, depth);
                maybe(out, "NOT");
                out.add(one(SEARCHES));
                out.add(one(TEXTS));
            }
            case 7 -> {
                comparable(out, depth);
                maybe(out, "NOT");
                out.add("BETWEEN");
                comparable(out, depth);
                out.add("AND");
                comparable(out, depth);
            }
            case 8 -> out.add(one(new String[] {"a", "b", "TRUE", "FALSE", "NULL"}));
            case 9, 10, 11 -> {
                condition(out, depth - 1);
                out.add("AND");
                condition(out, depth - 1);
            }
            case 12, 13 -> {
                condition(out, depth - 1);
                out.add("OR");
                condition(out, depth - 1);
            }
            case 14 -> {
                out.add("NOT");
                inside(out, depth);
            }
            default -> inside(out, depth);
        }
    }

    private void inside(List<String> out, int depth) {
        out.add("(");
        condition(out, depth - 1);
        out.add(")");
    }

    private void operand(List<String> out, int depth) {
        switch (random.nextInt(depth > 0 ? 10 : 8)) {
            case 0, 1 -> out.add(one(TEXTS));
            case 2 -> out.add(one(new String[] {"TRUE", "FALSE", "TRUE", "FALSE", "NULL"}));
            case 8, 9 -> inside(out, depth);
            default -> comparable(out, depth);
        }
    }

    private void comparable(List<String> out, int depth) {
        switch (random.nextInt(12)) {
            case 0, 1, 2, 3, 4 -> out.add(one(NAMES));
            case 5 -> {
                out.add("-");
                operand(out, depth - 1);
            }
            case 6 -> {
                out.add("+");
                comparable(out, depth - 1);
            }
            default -> out.add(one(NUMBERS));
        }
    }

    private String joined(List<String> tokens) {
        StringBuilder text = new StringBuilder();
        for (String token : tokens) {
            text.append(random.nextInt(8) == 0 ? token.toLowerCase() : token);
            text.append(switch (random.nextInt(30)) {
                case 0 -> "\t";
                case 1 -> " /* c */ ";
                case 2 -> " -- c\n";
                case 3 -> "\r\n";
                default -> " ";
            });
        }
        return text.toString();
    }

    private void maybe(List<String> out, String token) {
        if (random.nextBoolean()) {
            out.add(token);
        }
    }

    private String one(String[] choices) {
        return choices[random.nextInt(choices.length)];
    }
}
