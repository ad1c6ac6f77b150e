#!/usr/bin/env python3
"""Skylark beside Apache RocketMQ on this machine, under the same load generator.

    compare.py load    throughput, latency, CPU per message and memory of both, in interleaved rounds
    compare.py idle    how long a start on an empty directory takes, and what the idle process holds
    compare.py restart how long Skylark takes after kill -9 until it acknowledges and serves, with a short log and a long one

Every measurement starts a server on an empty directory and is printed as a line of JSON (and kept in a file); the
tables of medians follow. Only one server runs at a time. `run.sh`, `idle.sh` and `restart.sh` build what is measured first.
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


def bench(server, connections, in_flight, seconds, size):
    command = [
        SKYLARK, "bench", "produce", "--broker", f"127.0.0.1:{server.port}", "--topic", f"bench_{connections}x{in_flight}",
        "--connections", connections, "--in-flight", in_flight, "--size", size,
        "--duration", seconds, "--warmup", 0, "--json",
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

    command = commands.add_parser("restart")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--short", type=int, default=50 << 20, help="bytes of the short log")
    command.add_argument("--long", type=int, default=5 << 30, help="bytes of the long log; as much must be free")
    command.set_defaults(run=restart)

    for command in commands.choices.values():
        command.add_argument("--directory", type=Path, default=TARGET, help="the disk to measure")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
