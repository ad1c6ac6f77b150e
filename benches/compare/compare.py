#!/usr/bin/env python3
"""Skylark beside Apache RocketMQ on this machine, under the same load generator.

    compare.py load    throughput, latency, CPU per message and memory of both, in interleaved rounds
    compare.py idle    how long a start on an empty directory takes, and what the idle process holds
    compare.py duplicates what the suppression of duplicates costs Skylark's producers, in interleaved pairs
    compare.py restart how long Skylark takes after kill -9 until it acknowledges and serves, with a short log and a long one
    compare.py timers  what delayed messages cost Skylark while they wait for up to a year, how late they come, how long a
                       start takes with them

Every measurement starts a server on an empty directory and is printed as a line of JSON (and kept in a file); the
tables of medians follow. Only one server runs at a time. `run.sh`, `idle.sh`, `duplicates.sh`, `restart.sh` and
`timers.sh` build what is measured first.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
SKYLARK = TARGET / "release" / "skylark"
APACHE = TARGET / "tmp" / "apache-rocketmq"
CELLS = [(1, 1), (1, 16), (16, 16)]
START_SECONDS = 120
STOP_SECONDS = 120
# The broker's default.
SEGMENT_BYTES = 256 << 20


class Server:
    """A server process (and what it needs beside it) on an empty directory; a context that ends it."""

    name = ""

    def __init__(self, parent):
        self.home = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=parent))
        self.children = []

    def __enter__(self):
        try:
            self.begun = time.monotonic()
            self.start()
            await_open(self.port, self.children[-1])
            self.accepting = time.monotonic() - self.begun
            self.await_ready()
            self.ready = time.monotonic() - self.begun
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def spawn(self, name, command, **options):
        output = open(self.home / f"{name}.out", "w+")
        child = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
        child.output = Path(output.name)
        self.children.append(child)
        return child

    @property
    def pid(self):
        """The process that serves clients; what stands beside it is not measured."""
        return self.children[-1].pid

    def await_printed(self, child, word):
        deadline = time.monotonic() + START_SECONDS
        while word not in child.output.read_text(errors="replace"):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.name} does not start:\n{child.output.read_text(errors='replace')[-4000:]}")
            time.sleep(0.001)


class Skylark(Server):
    """The broker with its nameserver, defaults throughout: every acknowledgement waits for a flush."""

    name = "skylark"

    def start(self):
        self.port, self.namesrv = free_port(), free_port()
        self.serve()

    def serve(self):
        self.spawn("skylark", [
            SKYLARK, "serve", "--data", self.home / "data",
            "--listen", f"127.0.0.1:{self.port}", "--namesrv-listen", f"127.0.0.1:{self.namesrv}",
        ])

    def kill(self):
        """No chance to tidy up."""
        self.children[-1].kill()
        self.children.pop().wait()

    def await_ready(self):
        self.await_printed(self.children[-1], "\nready")


class Apache(Server):
    """Apache's name server and broker with SYNC_FLUSH. Only the broker is measured."""

    name = "apache"

    def start(self):
        self.port, namesrv = free_port(), free_port()
        (self.home / "namesrv.conf").write_text(f"listenPort={namesrv}\nbindAddress=127.0.0.1\n")
        conf = (HERE / "apache" / "broker.conf").read_text() + "".join(f"{line}\n" for line in [
            "flushDiskType=SYNC_FLUSH",
            f"namesrvAddr=127.0.0.1:{namesrv}",
            f"listenPort={self.port}",
            f"haListenPort={free_port()}",
            f"storePathRootDir={self.home / 'store'}",
        ])
        (self.home / "broker.conf").write_text(conf)
        nameserver = self.java("namesrv", ["-Xms256m", "-Xmx256m"], "namesrv.NamesrvStartup", "namesrv.conf")
        self.await_printed(nameserver, "boot success")
        self.java(
            "broker",
            ["-server", "-Xms2g", "-Xmx2g", "-XX:MaxDirectMemorySize=2g", "-XX:+UseG1GC", "-XX:G1HeapRegionSize=8m",
             "-XX:G1ReservePercent=25", "-XX:InitiatingHeapOccupancyPercent=30"],
            "broker.BrokerStartup",
            "broker.conf",
        )

    def java(self, name, options, main, conf):
        opens = [
            f"--add-{how}=java.base/{package}=ALL-UNNAMED"
            for how in ("opens", "exports")
            for package in ("java.nio", "sun.nio.ch", "jdk.internal.ref")
        ]
        command = ["java", *options, *opens, f"-Duser.home={self.home}", "-cp", f"{APACHE}/lib/*",
                   f"org.apache.rocketmq.{main}", "-c", self.home / conf]
        return self.spawn(name, command, env={**os.environ, "ROCKETMQ_HOME": str(self.home)})

    def await_ready(self):
        self.await_printed(self.children[-1], "boot success")


def free_port():
    """Below the range of outgoing connections, or a client could be given the port it wants to reach."""
    for port in range(15000 + os.getpid() * 7 % 16000, 32000):
        if port in free_port.taken:
            continue
        # The brokers listen two below their port as well.
        if all(can_bind(candidate) for candidate in (port - 2, port)):
            free_port.taken.update(range(port - 2, port + 3))
            return port
    sys.exit("no free port")


free_port.taken = set()


def can_bind(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def await_open(port, child):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"nobody listens on {port}:\n{child.output.read_text(errors='replace')[-4000:]}")
            time.sleep(0.0005)


def cpu_seconds(pid):
    """User and system time of the process so far, all threads."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid):
    """Anonymous and file-backed resident memory in MB: mapped logs are page cache that the system can take back."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kilobytes = {name: int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")}
    return kilobytes["RssAnon"] * 1024 / 1e6, kilobytes["RssFile"] * 1024 / 1e6


def bench(server, connections, in_flight, seconds, size, more=(), topic=None):
    command = [
        SKYLARK, "bench", "produce", "--broker", f"127.0.0.1:{server.port}",
        "--topic", topic or f"bench_{connections}x{in_flight}",
        "--connections", connections, "--in-flight", in_flight, "--size", size,
        "--duration", seconds, "--warmup", 0, "--json", *more,
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds + 120)
    if done.returncode != 0:
        sys.exit(f"the load generator failed: {done.stderr or done.stdout}")
    return json.loads(done.stdout)


def load(options):
    if options.rounds < 5:
        print("fewer than 5 rounds: the medians are for a first look only", file=sys.stderr)
    results = []
    with tempfile.TemporaryDirectory(prefix="compare-", dir=options.directory) as parent, open(options.output, "w") as raw:
        for turn in range(options.rounds):
            # Who goes first alternates, so that a machine that slows down harms both alike.
            for kind in [Skylark, Apache] if turn % 2 == 0 else [Apache, Skylark]:
                with kind(parent) as server:
                    # The JIT of one and the page cache of both are warm before anything counts.
                    bench(server, 16, 16, options.warmup, options.size)
                    for connections, in_flight in CELLS:
                        bench(server, connections, in_flight, 2, options.size)
                        before = cpu_seconds(server.pid)
                        report = bench(server, connections, in_flight, options.duration, options.size)
                        spent = cpu_seconds(server.pid) - before
                        anonymous, file = resident_mb(server.pid)
                        result = {
                            "round": turn, "server": server.name, "cell": f"{connections}x{in_flight}",
                            "per_second": report["messages_per_second"], "latency_us": report["latency_us"],
                            "cpu_us_per_message": spent * 1e6 / max(report["messages"], 1),
                            "rss_anon_mb": anonymous, "rss_file_mb": file,
                            "messages": report["messages"], "errors": report["errors"],
                        }
                        results.append(result)
                        for out in (sys.stderr, raw):
                            print(json.dumps(result), file=out, flush=True)
    print(load_table(results, options))


def load_table(results, options):
    def median(server, cell, value):
        return statistics.median(value(r) for r in results if (r["server"], r["cell"]) == (server, cell))

    lines = [
        f"{machine()}; {options.rounds} interleaved rounds of {options.duration} s, {options.size} B bodies; medians.",
        "",
        "| connections × in flight | server | messages/s | ratio | p50 µs | p99 µs | server CPU µs a message "
        "| RSS anonymous MB | RSS file MB | errors |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for connections, in_flight in CELLS:
        cell = f"{connections}x{in_flight}"
        apache = median("apache", cell, lambda r: r["per_second"])
        for server in ("skylark", "apache"):
            rate = median(server, cell, lambda r: r["per_second"])
            errors = sum(sum(r["errors"].values()) for r in results if (r["server"], r["cell"]) == (server, cell))
            lines.append(
                f"| {connections}×{in_flight} | {server} | {rate:,.0f} | {rate / apache:.1f} "
                f"| {median(server, cell, lambda r: r['latency_us']['p50']):,.0f} "
                f"| {median(server, cell, lambda r: r['latency_us']['p99']):,.0f} "
                f"| {median(server, cell, lambda r: r['cpu_us_per_message']):.1f} "
                f"| {median(server, cell, lambda r: r['rss_anon_mb']):,.0f} "
                f"| {median(server, cell, lambda r: r['rss_file_mb']):,.0f} | {errors} |"
            )
    return "\n".join(lines)


def idle(options):
    kinds = [Skylark, Apache] if options.apache else [Skylark]
    results = []
    with tempfile.TemporaryDirectory(prefix="compare-", dir=options.directory) as parent:
        for turn in range(options.rounds):
            for kind in kinds:
                with kind(parent) as server:
                    time.sleep(options.settle)
                    anonymous, file = resident_mb(server.pid)
                    results.append({
                        "round": turn, "server": server.name, "accepting_ms": server.accepting * 1e3,
                        "ready_ms": server.ready * 1e3, "rss_anon_mb": anonymous, "rss_file_mb": file,
                    })
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(f"{machine()}; {options.rounds} starts on an empty directory, memory after {options.settle} s.\n")
    print("| server | accepts after ms, median | max | ready after ms, median | RSS anonymous MB | RSS file MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind in kinds:
        def values(name):
            return [r[name] for r in results if r["server"] == kind.name]
        print(
            f"| {kind.name} | {statistics.median(values('accepting_ms')):,.0f} | {max(values('accepting_ms')):,.0f} "
            f"| {statistics.median(values('ready_ms')):,.0f} | {statistics.median(values('rss_anon_mb')):.1f} "
            f"| {statistics.median(values('rss_file_mb')):.1f} |"
        )


class Connection:
    """Requests one after the other, or a window of them: enough to fill a log to the byte, and to time one answer."""

    def __init__(self, port):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), START_SECONDS)
                break
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit(f"nobody listens on {port}")
                time.sleep(0.0005)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opaque = 0

    def say(self, code, fields, body=b""):
        self.opaque += 1
        header = json.dumps({
            "code": code, "language": "OTHER", "version": 0, "opaque": self.opaque, "flag": 0,
            "extFields": {name: str(value) for name, value in fields.items()},
        }).encode()
        self.socket.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)

    def hear_body(self):
        (length,) = struct.unpack(">I", self.read(4))
        frame = self.read(length)
        (header_bytes,) = struct.unpack(">I", frame[:4])
        return frame[4 + (header_bytes & 0xFFFFFF):]

    def hear(self):
        (length,) = struct.unpack(">I", self.read(4))
        frame = self.read(length)
        (header_bytes,) = struct.unpack(">I", frame[:4])
        return json.loads(frame[4:4 + (header_bytes & 0xFFFFFF)])

    def read(self, count):
        pieces = []
        while count > 0:
            piece = self.socket.recv(min(count, 1 << 20))
            if not piece:
                sys.exit("the broker closed the connection")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def send(self, body):
        self.say(310, {
            "a": "PG", "b": "restart", "c": "TBW102", "d": 4, "e": 0, "f": 0, "g": 0, "h": 0, "i": "", "j": 0, "k": "false",
            "m": "false",
        }, body)

    def pull(self, offset):
        self.say(11, {
            "consumerGroup": "restart", "topic": "restart", "queueId": 0, "queueOffset": offset, "maxMsgNums": 32,
            "sysFlag": 4, "commitOffset": 0, "suspendTimeoutMillis": 0, "subscription": "*", "subVersion": 0,
        })


def place(answer):
    """Where the message that was acknowledged lies in the log."""
    if answer["code"] != 0:
        sys.exit(f"a send was refused: {answer}")
    return int(answer["extFields"]["msgId"][-16:], 16)


def fill(server, wanted, beyond):
    """Fills the log to `wanted` bytes, and then on to `beyond` bytes behind the beginning of a segment."""
    connection = Connection(server.port)
    body, window = b"x" * (64 << 10), 8
    connection.send(body)
    end = place(connection.hear())
    while end + SEGMENT_BYTES < wanted:
        bench(server, 16, 16, 2, 16 << 10)
        connection.send(body)
        end = place(connection.hear())
    while end < wanted or not 0 <= end % SEGMENT_BYTES - beyond < len(body) * window * 2:
        for _ in range(window):
            connection.send(body)
        end = [place(connection.hear()) for _ in range(window)][-1]
    return end


def duplicates(options):
    """Pairs of runs on the same server, one with suppression; who goes first alternates. Every few pairs a fresh server."""
    results, grown = [], []
    with tempfile.TemporaryDirectory(prefix="duplicates-", dir=options.directory) as parent:
        for _ in range(options.servers):
            with Skylark(parent) as server:
                connection = Connection(server.port)
                for topic in ("plain", "unique"):
                    connection.say(17, {
                        "topic": topic, "defaultTopic": "TBW102", "readQueueNums": 8, "writeQueueNums": 8, "perm": 6,
                        "topicFilterType": "SINGLE_TAG", "order": "false",
                        "attributes": "+skylark.duplicates=suppress" if topic == "unique" else "",
                    })
                    if connection.hear()["code"] != 0:
                        sys.exit("the topic was not made")

                def run(topic, seconds):
                    before = cpu_seconds(server.pid)
                    report = bench(
                        server, options.connections, options.in_flight, seconds, options.size, topic=topic
                    )
                    if report["errors"]:
                        sys.exit(f"sends failed: {report['errors']}")
                    return report, cpu_seconds(server.pid) - before

                run("plain", options.warmup)
                before = resident_mb(server.pid)[0]
                run("unique", options.warmup)
                grown.append(resident_mb(server.pid)[0] - before)
                for turn in range(options.rounds):
                    pair = {}
                    for topic in ["plain", "unique"] if turn % 2 == 0 else ["unique", "plain"]:
                        report, spent = run(topic, options.duration)
                        pair[topic] = {
                            "per_second": report["messages_per_second"], "p99_us": report["latency_us"]["p99"],
                            "cpu_us_per_message": spent * 1e6 / max(report["messages"], 1),
                        }
                    results.append(pair)
                    print(json.dumps(pair), file=sys.stderr, flush=True)
    pairs = sorted(pair["unique"]["per_second"] / pair["plain"]["per_second"] for pair in results)
    print(
        f"{machine()}; {len(pairs)} interleaved pairs of {options.duration} s on {options.servers} servers, "
        f"{options.connections}×{options.in_flight}, {options.size} B bodies.\n"
    )
    print("| suppression | messages/s, median | p99 µs | server CPU µs a message |")
    print("|---|---:|---:|---:|")
    for topic, name in (("plain", "off"), ("unique", "on")):
        def median(value):
            return statistics.median(pair[topic][value] for pair in results)
        print(
            f"| {name} | {median('per_second'):,.0f} | {median('p99_us'):,.0f} | {median('cpu_us_per_message'):.2f} |"
        )
    quarter = len(pairs) // 4
    print(
        f"\nMessages/s with suppression to those without, pair by pair: median {statistics.median(pairs):.3f}, the middle "
        f"half {pairs[quarter]:.3f} to {pairs[-1 - quarter]:.3f}. Memory grows by {statistics.median(grown):,.0f} MB."
    )


def restart(options):
    results = []
    with tempfile.TemporaryDirectory(prefix="restart-", dir=options.directory) as parent:
        free = shutil.disk_usage(parent).free
        if free < options.long * 1.2 + (1 << 30):
            sys.exit(f"{free / 1e9:.1f} GB are free, which is not enough for a log of {options.long / 1e9:.1f} GB")
        for name, wanted in (("short", options.short), ("long", options.long)):
            with Skylark(parent) as server:
                end = fill(server, wanted, options.short)
                # The last finished segment gets its index file, and its snapshot.
                time.sleep(2)
                for turn in range(options.rounds):
                    server.kill()
                    begun = time.monotonic()
                    server.serve()
                    connection = Connection(server.port)
                    connection.send(b"first")
                    place(connection.hear())
                    acknowledged = time.monotonic() - begun
                    connection.pull(0)
                    answer = connection.hear()
                    served = time.monotonic() - begun
                    if answer["code"] != 0:
                        sys.exit(f"a pull was refused: {answer}")
                    results.append({
                        "log": name, "log_mib": end / 2**20, "round": turn, "acknowledged_ms": acknowledged * 1e3,
                        "served_ms": served * 1e3,
                    })
                    print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(f"{machine()}; {options.rounds} times kill -9 and start, from the start to the answer.\n")
    print("| log | MiB | first acknowledgement ms, median | max | first pull ms, median | max |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in ("short", "long"):
        of = [result for result in results if result["log"] == name]
        acknowledged, served = ([result[key] for result in of] for key in ("acknowledged_ms", "served_ms"))
        print(
            f"| {name} | {of[0]['log_mib']:,.0f} | {statistics.median(acknowledged):,.0f} | {max(acknowledged):,.0f} "
            f"| {statistics.median(served):,.0f} | {max(served):,.0f} |"
        )


def figures(server):
    """What the broker says of itself, as `mqadmin brokerStatus` shows it."""
    connection = Connection(server.port)
    connection.say(28, {})
    return json.loads(connection.hear_body())["table"]


def timers(options):
    """Fills a broker with delayed messages, lets others come due, then kills it; and sends beside plain sends, with nothing
    waiting and with all of it."""
    year, window = 365 * 86_400, options.window
    far = ["--deliver-after", 3600, "--deliver-over", year - 7200]
    with tempfile.TemporaryDirectory(prefix="timers-", dir=options.directory) as parent, Skylark(parent) as server:
        def send(more=()):
            spent = cpu_seconds(server.pid)
            report = bench(server, 16, 16, window, options.size, more)
            cpu_us = (cpu_seconds(server.pid) - spent) * 1e6 / max(report["messages"], 1)
            return report["messages_per_second"], cpu_us

        def pending():
            return int(figures(server)["timerCongestNum"])

        def compared():
            found = []
            for turn in range(options.pairs):
                # Who goes first alternates, so that a machine that slows down harms both alike.
                kinds = [(), far] if turn % 2 == 0 else [far, ()]
                sent = {bool(kind): send(kind) for kind in kinds}
                found.append({
                    "pending": pending(), "plain": sent[False][0], "delayed": sent[True][0],
                    "ratio": sent[True][0] / sent[False][0], "plain_cpu_us": sent[False][1], "delayed_cpu_us": sent[True][1],
                })
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
            return found

        # Both kinds have gone through every buffer before anything counts.
        for kind in ((), far):
            send(kind)
        time.sleep(options.settle)
        before, _ = resident_mb(server.pid)
        pairs = compared()
        while pending() < options.pending:
            send(far)
        pairs += compared()
        time.sleep(options.settle)
        after, _ = resident_mb(server.pid)
        waited = pending()

        # As many as come due together at the wished rate, handed in before the first of them is due.
        due_from, due_over = options.lead, options.due_seconds
        goal, handed_in, begun = options.rate * due_over, 0, time.monotonic()
        while handed_in < goal:
            left = due_from - (time.monotonic() - begun)
            if left < 2:
                sys.exit(f"{handed_in} of {goal} were handed in before the first was due; take a longer --lead")
            report = bench(server, 16, 16, 0.5, options.size, ["--deliver-after", left, "--deliver-over", due_over])
            handed_in += report["messages"]
        waiting = pending()
        time.sleep(max(due_from + due_over + 2 - (time.monotonic() - begun), 0))
        said = figures(server)
        fired = waiting - int(said["timerCongestNum"])

        server.kill()
        begun = time.monotonic()
        server.serve()
        connection = Connection(server.port)
        connection.send(b"first")
        place(connection.hear())
        restarted = time.monotonic() - begun
        still, expected = pending(), int(said["timerCongestNum"])
        if still != expected:
            sys.exit(f"{expected} messages waited before the kill, {still} behind it")
    ratios = sorted(pair["ratio"] for pair in pairs)
    cpu_us = [statistics.median(pair[f"{kind}_cpu_us"] for pair in pairs) for kind in ("plain", "delayed")]
    quarter = len(ratios) // 4
    lines = [
        "# Delayed messages: one whole run",
        "",
        "`benches/compare/timers.sh`, as it was printed. What it says is in [README.md](README.md#delayed-messages).",
        "",
        f"{machine()}; {waited:,} messages with bodies of {options.size} bytes, due over a year.",
        "",
        "| what | found | to be |",
        "|---|---:|---:|",
        f"| resident memory grows by | {after - before:.1f} MB | < 50 MB |",
        f"| rate of delayed sends, of that of plain ones: median of {len(ratios)} pairs | {statistics.median(ratios):.2f} | > 0.90 |",
        f"| the middle half of the pairs | {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f} | |",
        f"| CPU of the broker for a plain send, for a delayed one | {cpu_us[0]:.1f} µs, {cpu_us[1]:.1f} µs | |",
        f"| {fired / due_over:,.0f} due a second: late, 99 of 100 | {said['timerLag99']} ms | < 20 ms |",
        f"| the latest | {said['timerLagMax']} ms | |",
        f"| kill -9, start, first acknowledgement | {restarted * 1e3:,.0f} ms | < 2,000 ms |",
    ]
    options.output.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def machine():
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    return f"{len(os.sched_getaffinity(0))} × {model}, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("load")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--duration", type=int, default=10, help="seconds of each measurement")
    command.add_argument("--warmup", type=int, default=15, help="seconds of load after each start")
    command.add_argument("--size", type=int, default=1024, help="bytes of a body")
    command.add_argument("--output", type=Path, default=TARGET / "compare.jsonl", help="where the raw figures go")
    command.set_defaults(run=load)

    command = commands.add_parser("idle")
    command.add_argument("--rounds", type=int, default=10)
    command.add_argument("--settle", type=float, default=2.0, help="seconds before memory is read")
    command.add_argument("--apache", action="store_true", help="measure Apache RocketMQ too")
    command.set_defaults(run=idle)

    command = commands.add_parser("duplicates")
    command.add_argument("--servers", type=int, default=3)
    command.add_argument("--rounds", type=int, default=8, help="pairs on each server")
    command.add_argument("--duration", type=int, default=2, help="seconds of each measurement")
    command.add_argument("--warmup", type=int, default=3, help="seconds of load on each topic after a start")
    command.add_argument("--size", type=int, default=1024, help="bytes of a body")
    command.add_argument("--connections", type=int, default=16)
    command.add_argument("--in-flight", type=int, default=16, help="requests under way on each connection")
    command.set_defaults(run=duplicates)

    command = commands.add_parser("restart")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--short", type=int, default=50 << 20, help="bytes of the short log")
    command.add_argument("--long", type=int, default=5 << 30, help="bytes of the long log; as much must be free")
    command.set_defaults(run=restart)

    command = commands.add_parser("timers")
    command.add_argument("--pending", type=int, default=10_000_000, help="messages that wait, at least")
    command.add_argument("--size", type=int, default=256, help="bytes of a body; all of them have to lie on the disk")
    command.add_argument("--window", type=float, default=2.0, help="seconds of each run of the load generator")
    command.add_argument("--pairs", type=int, default=8, help="pairs of runs with and without delay, before and behind the filling")
    command.add_argument("--rate", type=int, default=10_000, help="messages that come due in a second")
    command.add_argument("--due-seconds", type=int, default=60, help="for how long they come due")
    command.add_argument("--lead", type=float, default=60.0, help="seconds to hand them in before")
    command.add_argument("--settle", type=float, default=3.0, help="seconds before memory is read")
    command.add_argument("--output", type=Path, default=HERE.parent / "timers-result.md", help="where the table goes")
    command.set_defaults(run=timers)

    for command in commands.choices.values():
        command.add_argument("--directory", type=Path, default=TARGET, help="the disk to measure")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
