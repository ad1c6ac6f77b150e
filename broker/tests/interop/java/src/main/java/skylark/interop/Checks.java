package skylark.interop;

import java.util.Objects;

/** The machine-readable verdict: {@code ok NAME DETAIL} or {@code FAILED NAME DETAIL}, one line each. */
final class Checks {
    private static final int FAILURES_SHOWN = 20;

    private int failures;

    synchronized void ok(String name, String detail) {
        System.out.println("ok " + name + " " + detail);
    }

    synchronized void fail(String name, String detail) {
        if (failures++ < FAILURES_SHOWN) {
            System.out.println("FAILED " + name + " " + detail);
        }
    }

    /** Says nothing while the values agree: a scenario compares many and reports once. */
    boolean same(String name, String what, Object expected, Object found) {
        if (Objects.equals(expected, found)) {
            return true;
        }
        fail(name, what + ": expected " + expected + ", found " + found);
        return false;
    }

    void that(boolean holds, String name, String detail) {
        if (holds) {
            ok(name, detail);
        } else {
            fail(name, detail);
        }
    }

    synchronized boolean clean() {
        return failures == 0;
    }

    synchronized int finish() {
        System.out.println("end failures=" + failures);
        System.out.flush();
        return failures == 0 ? 0 : 1;
    }
}
