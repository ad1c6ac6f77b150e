package skylark.interop;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/** Members of a group that live in a process of their own, because only a process can be killed. */
final class Children {
    /** Starts a scenario of this program; {@code each} gets its lines. The caller kills it. */
    static Process start(String scenario, String namesrv, Consumer<String> each) throws IOException {
        List<String> command = new ArrayList<>(List.of(
            System.getProperty("java.home") + "/bin/java", "-Xmx256m",
            "-cp", System.getProperty("java.class.path")));
        for (String property : List.of("user.home", "rocketmq.client.logRoot")) {
            command.add("-D" + property + "=" + System.getProperty(property));
        }
        command.addAll(List.of("skylark.interop.Main", scenario, "namesrv=" + namesrv));
        Process child = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
        // A test that fails must not leave it behind.
        Runtime.getRuntime().addShutdownHook(new Thread(child::destroyForcibly));
        Thread reader = new Thread(() -> {
            try (BufferedReader lines = new BufferedReader(
                new InputStreamReader(child.getInputStream(), StandardCharsets.UTF_8))) {
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    each.accept(line);
                }
            } catch (IOException killed) {
                // The stream of a killed process ends anywhere.
            }
        });
        reader.setDaemon(true);
        reader.start();
        return child;
    }

    private Children() {
    }
}
