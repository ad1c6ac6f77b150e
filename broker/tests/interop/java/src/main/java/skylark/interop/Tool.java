package skylark.interop;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * {@code mqadmin} itself, command after command in one JVM, on a port that it prints: starting a JVM takes longer
 * than most commands. A line is a command, its words separated by tabs; the answer is its output, a line each after
 * {@code out } or {@code err }, and {@code end}. Lines that begin with {@code @} are for {@link AdminState}.
 */
final class Tool extends MQAdminStartup {
    /** A hang, not a slow command, is what this bounds. */
    private static final long COMMAND_WITHIN_S = 60;

    private final AdminState state;

    Tool(AdminState state) {
        this.state = state;
    }

    void serve() throws Exception {
        try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            System.out.println("listening " + listener.getLocalPort());
            System.out.flush();
            try (Socket socket = listener.accept()) {
                BufferedReader commands = new BufferedReader(
                    new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
                PrintWriter answers = new PrintWriter(socket.getOutputStream(), false, StandardCharsets.UTF_8);
                for (String line = commands.readLine(); line != null; line = commands.readLine()) {
                    String[] words = line.split("\t");
                    if (words[0].startsWith("@")) {
                        step(words, answers);
                    } else {
                        run(words, answers);
                    }
                    answers.println("end");
                    answers.flush();
                }
            }
        }
    }

    private void step(String[] words, PrintWriter answers) {
        try {
            state.step(words).forEach(said -> answers.println("out " + said));
        } catch (Exception failure) {
            StringWriter trace = new StringWriter();
            failure.printStackTrace(new PrintWriter(trace));
            trace.toString().lines().forEach(line -> answers.println("err " + line));
        }
    }

    /**
     * A client that is shut down waits for a thread of its own, which looks up every three seconds. Whoever is
     * interrupted there goes on with the shutdown; the command has printed what it had to.
     */
    private static void hasten(Thread command) {
        String client = NettyRemotingClient.class.getName();
        for (StackTraceElement frame : command.getStackTrace()) {
            if (frame.getClassName().equals(client) && frame.getMethodName().equals("shutdown")) {
                command.interrupt();
                return;
            }
        }
    }

    private static void run(String[] words, PrintWriter answers) throws InterruptedException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        PrintStream stdout = System.out;
        PrintStream stderr = System.err;
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        // Commands keep clients that they have shut down.
        SUB_COMMANDS.clear();
        Thread command = new Thread(() -> main0(words, null));
        command.start();
        Deadline deadline = Deadline.seconds(COMMAND_WITHIN_S);
        // This one goes on for ever, a row a round.
        boolean endless = words[0].equals("clusterRT");
        deadline.await(() -> {
            hasten(command);
            return !command.isAlive() || endless && out.toString(StandardCharsets.UTF_8).lines().count() > 1;
        });
        String printed = out.toString(StandardCharsets.UTF_8);
        String failed = err.toString(StandardCharsets.UTF_8);
        if (command.isAlive()) {
            if (!endless) {
                failed += "\nExceeded " + COMMAND_WITHIN_S + " s";
            }
            command.interrupt();
            command.join(5_000);
        }
        System.setOut(stdout);
        System.setErr(stderr);
        printed.lines().forEach(line -> answers.println("out " + line));
        failed.lines().forEach(line -> answers.println("err " + line));
    }
}
