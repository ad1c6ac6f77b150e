package skylark.interop;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BooleanSupplier;

/** A moment after which waiting has become a failure. */
record Deadline(long atNanos) {
    /** Only what hangs is to fail: a machine that does something else beside may take this much longer. */
    private static final int PATIENCE = 3;

    /** Three times as long as scenarios expect to wait at most. */
    static Deadline seconds(long seconds) {
        return new Deadline(System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds * PATIENCE));
    }

    boolean passed() {
        return System.nanoTime() - atNanos >= 0;
    }

    /** Waits a moment before the caller looks again; throws once the deadline has passed. */
    void pause(String what) throws InterruptedException, TimeoutException {
        if (passed()) {
            throw new TimeoutException("waited too long for " + what);
        }
        Thread.sleep(10);
    }

    /** False when the deadline passed first: the caller then reports what is missing. */
    boolean await(BooleanSupplier condition) throws InterruptedException {
        while (!condition.getAsBoolean()) {
            if (passed()) {
                return false;
            }
            Thread.sleep(10);
        }
        return true;
    }
}
