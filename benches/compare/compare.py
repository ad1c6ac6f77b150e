#!/usr/bin/env python3
"""Skylark beside Apache RocketMQ on this machine, under the same load generator.

    compare.py load    throughput, latency, CPU per message and memory of both, in interleaved rounds
    compare.py idle    how long a start on an empty directory takes, and what the idle process holds

Every measurement starts a server on an empty directory and is printed as a line of JSON (and kept in a file); the
tables of medians follow. Only one server runs at a time. `run.sh` and `idle.sh` build what is measured first.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
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
        self.port = free_port()
        self.spawn("skylark", [
            SKYLARK, "serve", "--data", self.home / "data",
            "--listen", f"127.0.0.1:{self.port}", "--namesrv-listen", f"127.0.0.1:{free_port()}",
        ])

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

    for command in commands.choices.values():
        command.add_argument("--directory", type=Path, default=TARGET, help="the disk to measure")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
