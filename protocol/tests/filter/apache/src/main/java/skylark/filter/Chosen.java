package skylark.filter;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Expressions and properties chosen by hand: every rule of the language, and both sides of each of its edges. */
final class Chosen {
    /** What a property {@code a} may be: every form that Java reads as a number, and its neighbours that it does not. */
    private static final List<String> VALUES = List.of(
        "5", "6", "5.5", "5.0", "x", "", "6L", " 1", "1 ", "\t7\n", "+5", "-5", "--5", "1e3", "NaN", "-NaN", "nan", "Infinity",
        "-Infinity", "0x1p3", "0x10", "5d", "5F", "5dd", ".5", "5.", ".", "2147483647", "2147483648", "-2147483648",
        "-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "007", "\u0663", "\uff15",
        "\ud835\udfd3", "true", "TRUE", "tRuE", "false", "zzz", "-0", "-0.0", "0", "1_0", "1e400", "4.9e-324", "abc", "ABC",
        "\u65e5\u672c\u8a9e", "it's", "10", "9");

    static final List<Map<String, String>> PROPERTIES = properties();

    private static List<Map<String, String>> properties() {
        List<Map<String, String>> all = new ArrayList<>();
        all.add(Map.of());
        VALUES.forEach(value -> all.add(Map.of("a", value)));
        List.of("5", "x", "true").forEach(value -> all.add(Map.of("b", value)));
        String[][] pairs = {
            {"10", "9"}, {"9", "10"}, {"1", "1.0"}, {"1.0", "1.0"}, {"x", "x"}, {"x", "5"}, {"5", "x"}, {"NaN", "NaN"}, {"NaN", "1"},
            {"-0.0", "0.0"}, {"5", "5"}, {"abc", "bc"}, {"true", "TRUE"}, {" 5 ", "5"}, {"Infinity", "1e309"}, {"0x1p3", "8"},
            {"12d", "11.9f"},
        };
        for (String[] pair : pairs) {
            all.add(new TreeMap<>(Map.of("a", pair[0], "b", pair[1])));
        }
        all.add(new TreeMap<>(Map.of("a", "1", "b", "2", "c", "3")));
        all.add(new TreeMap<>(Map.of("A", "5", "$a_1", "x", "_", "y", "TAGS", "TagA", "KEYS", "k1 k2", "nota", "5")));
        return all;
    }

    static final List<String> EXPRESSIONS = List.of(
        // Comparison with numbers.
        "a > 5", "a >= 5", "a < 5", "a <= 5", "5 > a", "5 >= a", "5 < a", "5 <= a", "a > 5.5", "a >= 5.5", "5.5 < a", "a > 5.0",
        "a > -1", "a > - 1", "a > +1", "a < -1", "a > 2147483647", "a > 2147483648", "a > 2147483648L", "a > 5L", "a > 5l",
        "a <= 9223372036854775807", "a > 9223372036854775808", "a > -9223372036854775808", "a > -9223372036854775807",
        "a > -2147483648", "a > 2147483647.0", "a > 1e3", "a > 1E3", "a >= 1e+3", "a >= 1e-3", "a > .5", "a > 1.", "a > 1.e2",
        "a > 0", "a > 0.0", "a > 0.0e5", "a > 00.5", "a > 1e400", "a > 1e-400", "a > 4.9E-324", "a > 2e-324",
        "a > 1.7976931348623157E308", "a > 1.7976931348623159E308", "a > 010", "a > 0L", "a > 0x10", "a > 1e", "a > 1e+",
        "a > 1.5e", "a > 1a", "a > 1.2.3", "a > 1..2", "a > 5 > 3", "a > (5)", "(a) > (5)", "a > b", "a >= b", "a < b", "a <= b",
        "b > a", "a > a", "a >= a", "+a > 5", "-a > 5", "- a > -5", "-a = -5", "-(-5) = 5", "- -5 = 5", "--5 = 5", "-+5 < a",
        "a > -b", "a >= - - 5", "5 > 3", "3 > 5", "5 > 3.0", "3.0 > 5", "2147483648 > 1", "1 < 2147483648", "2147483648 > 1.5",
        "1.5 < 9223372036854775807", "9223372036854775807 = 9223372036854775806", "9223372036854775807 = 9.223372036854775807e18",
        // Operands that cannot be compared by size.
        "a > 'x'", "'x' > a", "a > TRUE", "a > FALSE", "a > NULL", "NULL > a", "TRUE < a", "a > (b = 5)", "(a = 5) > 3",
        "a > NOT b", "NOT a > 5", "(NOT a) > 5", "a > (NOT b)", "a > (b)", "a > -(b = 5)", "-(b = 5) > a", "-(a > 5) > 5",
        // Equality.
        "a = 5", "a <> 5", "5 = a", "5 <> a", "a = 5.0", "a <> 5.0", "5.0 = a", "a = 5.5", "a = '5'", "a <> '5'", "'5' = a", "a = 'x'",
        "a <> 'x'", "a = ''", "a = 'it''s'", "a = ''''", "a = '\u65e5\u672c\u8a9e'", "a = TRUE", "a = true", "a = FALSE", "a <> TRUE", "a <> FALSE",
        "TRUE = a", "FALSE = a", "TRUE <> a", "a = NULL", "a <> NULL", "NULL = a", "NULL <> a", "NULL = NULL", "a = b", "a <> b",
        "b = a", "a = a", "a <> a", "1 = 1", "1 = 1.0", "1.0 = 1", "1 = 2", "1 <> 2", "1 = '1'", "'1' = 1", "'x' = 1", "1 = 'x'",
        "1.0 = '1'", "1.0 = '1d'", "2147483648 = '1'", "'a' = 'a'", "'a' = 'b'", "'a' <> 'b'", "TRUE = TRUE", "TRUE = FALSE",
        "FALSE = FALSE", "TRUE <> FALSE", "TRUE = 1", "1 = TRUE", "TRUE = 'TRUE'", "'TRUE' = TRUE", "'true' = TRUE", "'x' = FALSE",
        "1.5 = FALSE", "1 = TRUE = FALSE", "a = 5 = TRUE", "(a = 5) = TRUE", "TRUE = (a = 5)", "a = b = TRUE", "a = 5 = 5",
        "a = (b = 5)", "(a = 5) = (b = 5)", "(a = 5) = b", "b = (a = 5)", "(a > 5) = FALSE", "(a > 5) <> FALSE", "5 = (a = 5)",
        "(a = 5) = 5", "(a = 5) = 'x'", "a = -5", "a = +5", "a = - -5", "a = 5 <> b", "a <> 5 = b", "a = 5 <> TRUE", "a = -b", "-a = b",
        "-a = -b", "-'x' = a", "a = -'x'", "a = -TRUE", "a = +'5'", "a = +TRUE", "+TRUE = a", "a = 9223372036854775807",
        "a = 2147483648", "a = 0", "a = 1000", "a = 1e3", "a = 8.0", "a = 1.7976931348623157E308",
        // Missing properties.
        "a IS NULL", "a IS NOT NULL", "a is null", "a Is nOt NuLl", "NOT a IS NULL", "NOT (a IS NULL)", "NOT a IS NOT NULL", "5 IS NULL",
        "5 IS NOT NULL", "'x' IS NULL", "NULL IS NULL", "NULL IS NOT NULL", "TRUE IS NULL", "-a IS NULL", "-a IS NOT NULL", "(a > 5) IS NULL",
        "(a > 5) IS NOT NULL", "a > 5 IS NULL", "a = 5 IS NULL", "a IS NULL IS NULL", "a IS NULL = TRUE", "a IS NULL IS NOT NULL",
        "(a = b) IS NULL", "(b = a) IS NULL", "(a <> b) IS NULL", "a IS", "a IS NOT", "a IS 5", "a IS TRUE", "a IS NOT TRUE", "IS NULL",
        "a IS NULL NULL", "a IS NOT NOT NULL", "missing IS NULL AND a = 5", "(a AND b) IS NULL", "(a OR b) IS NULL", "a IS NULL b",
        // Logic.
        "a", "NOT a", "NOT NOT a", "NOT (NOT a)", "(a)", "((a))", "+a", "-a", "TRUE", "FALSE", "NULL", "true", "nUlL", "NOT TRUE",
        "NOT FALSE", "NOT NULL", "NOT 5", "NOT 'x'", "NOT -a", "NOT +a", "+NOT a", "-NOT a", "5", "'x'", "5.5", "(5)", "a AND b", "a OR b",
        "a AND 5", "5 AND a", "a OR 'x'", "a = 5 AND b = 5", "a = 5 OR b = 5", "a = 5 AND b = 5 OR a = 6", "a = 6 OR a = 5 AND b = 5",
        "(a = 6 OR a = 5) AND b = 5", "a > 5 AND FALSE", "FALSE AND a > 5", "a > 5 AND TRUE", "TRUE AND a > 5", "a > 5 OR TRUE",
        "TRUE OR a > 5", "a > 5 OR FALSE", "FALSE OR a > 5", "a > 5 AND NULL", "NULL AND a > 5", "NULL AND FALSE", "FALSE AND NULL",
        "NULL OR TRUE", "TRUE OR NULL", "NULL OR FALSE", "NULL AND TRUE", "NULL AND NULL", "NULL OR NULL", "NOT (a > 5)", "NOT (a > 5 AND b > 5)",
        "NOT (a > 5 OR b > 5)", "b = 'x' OR a > 5", "a > 5 OR b = 'x'", "b = 'x' AND a > 5", "a > 5 AND b = 'x'", "NOT a = 1", "NOT a = TRUE",
        "NOT a = 'x'", "NOT (a = 1)", "NOT a AND b", "NOT a OR TRUE", "NOT a IN ('x')", "NOT a CONTAINS 'x'", "NOT a BETWEEN 1 AND 2",
        "a = 5 and b = 5", "a = 5 And b = 5", "a = 5 oR b = 5", "a IS NULL OR a = 'x'", "a IS NOT NULL AND a > 5", "a AND b AND c",
        "a = 1 AND b = 2 AND c = 3", "a = 9 OR b = 9 OR c = 3", "a = 1 AND (b = 9 OR (c = 3 AND (a = 1)))",
        // Ranges.
        "a BETWEEN 5 AND 10", "a NOT BETWEEN 5 AND 10", "a between 5 and 10", "a BETWEEN 5.0 AND 10", "a BETWEEN 5 AND 10.5",
        "a BETWEEN 5 AND 5", "a BETWEEN 10 AND 5", "a NOT BETWEEN 10 AND 5", "a BETWEEN -5 AND 5", "a BETWEEN 5 AND -5", "a BETWEEN -5 AND -10",
        "a BETWEEN 5 AND b", "a BETWEEN b AND 10", "b BETWEEN a AND 10", "a NOT BETWEEN b AND 10", "a BETWEEN a AND a", "5 BETWEEN 1 AND 10",
        "5 BETWEEN a AND b", "5 NOT BETWEEN a AND b", "5 BETWEEN a AND 10", "5 BETWEEN 1 AND a", "5 NOT BETWEEN a AND 10", "5 NOT BETWEEN 10 AND a",
        "a BETWEEN 'x' AND 'y'", "a BETWEEN 5 AND 'y'", "a BETWEEN '5' AND 10", "a BETWEEN NULL AND 5", "a BETWEEN 5 AND NULL", "a BETWEEN TRUE AND 5",
        "'x' BETWEEN 1 AND 2", "TRUE BETWEEN 1 AND 2", "NULL BETWEEN 1 AND 2", "a BETWEEN 1 AND 2 AND b = 5", "a BETWEEN 1 AND 2 OR b = 5",
        "a BETWEEN 1 AND 2 BETWEEN 1 AND 2", "a BETWEEN 1", "a BETWEEN 1 AND", "a BETWEEN AND 2", "a BETWEEN 1 OR 2", "a BETWEEN (1) AND (2)",
        "a BETWEEN (1 AND 2)", "a BETWEEN 1 AND 2 = TRUE", "-a BETWEEN 1 AND 2", "a BETWEEN -b AND 7", "a BETWEEN -(b > 5) AND 7",
        "(a BETWEEN -(b > 5) AND 7) IS NULL", "(a NOT BETWEEN -(b > 5) AND 7) IS NULL", "(a > -(b > 5)) IS NULL", "(-(b > 5) > a) IS NULL",
        "a BETWEEN 2147483648 AND 9223372036854775807", "a BETWEEN 1 AND 9223372036854775807", "a BETWEEN 1.5 AND 2147483648",
        "(a BETWEEN 5 AND b) IS NULL", "(5 BETWEEN a AND 1) IS NULL", "(5 BETWEEN 6 AND a) IS NULL", "5 BETWEEN 6 AND -(a > 5)",
        // Lists.
        "a IN ('x')", "a IN ('x', '5', 'abc')", "a NOT IN ('x', '5')", "a in ('x')", "a IN ('X')", "a IN ('')", "a IN ('it''s')",
        "a IN ('5.0', '5', '6', '10', '9', 'x', 'x')", "a NOT IN ('5.0', '5', '6', '10', '9', 'x', 'x')", "a IN ()", "a IN", "a IN 'x'", "a IN ('x'",
        "a IN ('x',)", "a IN (,'x')", "a IN (5)", "a IN (5, 6)", "a IN ('x', 5)", "a IN (a)", "a IN (NULL)", "a IN (TRUE)", "a IN ('x' 'y')",
        "'x' IN ('x')", "5 IN ('5')", "TRUE IN ('x')", "NULL IN ('x')", "-a IN ('x')", "+a IN ('x')", "(a) IN ('x')", "(a = 5) IN ('x')",
        "NOT a IN ('x', 'y')", "NOT (a IN ('x', 'y'))", "a IN ('x') = TRUE", "a IN ('x') AND b = 5", "a IN ('x') IN ('y')", "a IN (('x'))",
        // Parts of texts.
        "a CONTAINS 'b'", "a NOT CONTAINS 'b'", "a contains 'b'", "a CONTAINS ''", "a NOT CONTAINS ''", "a CONTAINS 'B'", "a CONTAINS 'abc'",
        "a CONTAINS 'abcd'", "a CONTAINS ''''", "a CONTAINS '\u672c'", "a CONTAINS b", "a CONTAINS 5", "a CONTAINS", "a CONTAINS TRUE", "a CONTAINS ('b')",
        "a STARTSWITH 'a'", "a NOT STARTSWITH 'a'", "a StartsWith 'a'", "a STARTSWITH ''", "a NOT STARTSWITH ''", "a STARTSWITH 'b'", "a STARTSWITH b",
        "a ENDSWITH 'c'", "a NOT ENDSWITH 'c'", "a endswith 'c'", "a ENDSWITH ''", "a NOT ENDSWITH ''", "a ENDSWITH 'a'", "a ENDSWITH",
        "'abc' CONTAINS 'b'", "'abc' NOT CONTAINS 'b'", "'abc' STARTSWITH 'a'", "'abc' ENDSWITH 'c'", "5 CONTAINS '5'", "5 NOT CONTAINS '5'",
        "TRUE CONTAINS 'T'", "NULL CONTAINS 'x'", "NULL NOT CONTAINS 'x'", "-a CONTAINS 'x'", "-a NOT CONTAINS 'x'", "(a = 5) CONTAINS 'x'",
        "(a > 5) CONTAINS ''", "(a > 5) NOT CONTAINS ''", "(a > 5) CONTAINS 'x'", "-(a > 5) STARTSWITH ''", "a CONTAINS 'x' = FALSE",
        "a CONTAINS 'x' CONTAINS 'y'", "a NOT 'x'", "a NOT = 5", "a NOT > 5", "a NOT", "a NOT b", "a NOT NULL", "a NOT NOT IN ('x')", "a NOT LIKE 'x'",
        "(a CONTAINS 'x') IS NULL", "a CONTAINS 'x' OR b = 5", "NOT (a CONTAINS 'b')", "a CONTAINS 'b' AND a STARTSWITH 'a' AND a ENDSWITH 'c'",
        // Where an expression ends.
        "a = 1 b = 2", "a = 1 )", "a = 1 ;", "a = 1;", "a LIKE 'x%'", "a = 1 AND", "a = 1 OR", "AND a = 1", "a = ", "= 1", "a =", "", " ", "()", "(", ")",
        "(a = 1", "a = 1)", "a = 1) AND b =", "a = 1 b ;", "a = 1 ; b", "a = 1 b '", "a = 1 '", "a = '", "a = 'x", "a = 'x''", "a = 'x'''", "a = 'x' 'y'",
        "a = 'x''y'", "a != 1", "a == 1", "a = = 1", "a <= = 1", "a => 1", "a =< 1", "a < > 1", "a > = 1", "a + 1 = 2", "a - 1 = 2", "a * 2 = 4", "a / 2 = 1",
        "a = 1 - 1", "a = 1 + 1", "a = 1 * 1", "a || b", "a && b", "!a", "a % 2 = 1", "\"a\" = 1", "`a` = 1", "a = \"x\"", "a.b = 1", "a.5", "a[0] = 1", "?a",
        ":a = 1", "@a = 1", "#a", "{a}", "a, b", "a = 1, b", "1 a", "5 5", "5 = 5 5", "5 = 5 .", "5 = 5 ..", "5 = 5 .5", "a 5", "a 'x'", "a TRUE", "a (b)", "a (b", "f(a)",
        "a = now()", "CASE", "EXISTS", "a ESCAPE 'x'", "\u65e5 = 1", "a\u65e5 = 1", "a = 1 \u65e5", "a = 1 b \u65e5", "\u017fa", "\u0000", "a = '\u0000'", "a = '\n'",
        // Names and keywords.
        "A = 5", "A > 4", "$a_1 = 'x'", "_ = 'y'", "TAGS = 'TagA'", "tags = 'TagA'", "KEYS CONTAINS 'k1'", "nota = 5", "NOTa = 5", "a=5", "a>5AND b<5",
        "a>5 ANDb<5", "a=5AND b=5", "a=TRUEAND b=5", "a IN('x')", "a IN('x','y')OR b=5", "NOT(a=5)", "(a=5)AND(b=5)", "AND", "OR", "NOT", "IN", "between", "and = 5",
        "null = 5", "is IS NULL", "like = 5", "escape = 5", "trueish = 5", "a1 = 5", "1a = 5", "a-b = 5", "a - b", "a$ IS NULL", "$ IS NULL", "__ IS NULL",
        // Between tokens.
        "a\t=\n5", "a\r\n=\f5", "a\u000b= 5", "a\u00a0= 5", "a = 5 -- comment", "a = 5 -- comment\n", "a = 5 -- comment\n AND b = 5", "a = 5 -- c\r AND b = 5",
        "a = 5 -- c\r\n AND b = 5", "-- c\na = 5", "--\na = 5", "a = -- c\n 5", "a = --5", "a = - - 5 -- c", "a = 5 AND -- c", "a = 5 AND -- b", "a = 5 AND -- c\n", "a --\n= 5", "--a = 5", "-- a = 5",
        "a = 5 /* comment */", "a = /* c */ 5", "/* c */ a = 5", "a /* c */ = 5 /* d */ AND b = 5", "a = 5 /* c", "a /* c = 5", "a = /**/ 5", "a = /***/ 5",
        "a = /* * */ 5", "a = /* ** */ 5", "a = /*/ 5", "a = /*/*/ 5", "a = /* /* */ 5", "a = /* c */ */ 5", "a = 5 */", "a = 5 /", "a = 5 / b", "a = 5 *", "a /* ' */ = 5",
        "a = '/* c */'", "a = '-- c'", "a = 5 -- '", "a = 5 /* -- */ AND b = 5", "a = 5 -- /*\n AND b = 5", "a = 5 - b", "a = 5 -b", "a > 5 -- 1", "a/**/>/**/4",
        // Depth.
        "((((((((((a = 5))))))))))", "((((((((((a = 5)))))))))", "- - - - - - - -5 < a", "NOT NOT NOT NOT (a = 5)", "(((a)))AND(((b)))", "+ + + a = 5", "+(a = 5)", "+(a", "+(+(+(a) = 5))", "-(a) = 5");

    private Chosen() {
    }
}
