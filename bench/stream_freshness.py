"""How fresh are silver and gold under a steady load: produce -> queryable, at `--rate` readings a second.

    python -m bench.stream_freshness --rate 1000 --seconds 180 [--warm-up 60]

Needs a stack that is up (FITNESS_HOME, FITNESS_PORT_BASE). Readings are of devices that nobody owns and are all
different, so the n-th produced is queryable once the tables count n more than before. The warm-up is left out.

Then the floor, in the same run: the same load onto a topic of its own, which a bare stream (a JVM with the same
settings and trigger, Kafka to one Delta table, nothing parsed) appends as it comes, while the product's stream idles.
"""

from __future__ import annotations

import argparse
import bisect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from include.settings import load
from local.home import Home
from local.services.spark import cluster_environment

FIRST_DEVICE = 9_000_000_000
DEVICES = 1000
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 120


def produce(home: Home, topic: str, rate: int, seconds: float, produced: list[tuple[float, int]]) -> None:
    """Tick by tick; `produced` gets (moment, readings so far)."""
    producer = Producer(
        {
            "bootstrap.servers": home.kafka_bootstrap,
            "linger.ms": 20,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
    )
    begun, sent = time.time(), 0
    while (now := time.time()) < begun + seconds:
        due = int((now - begun) * rate)
        for number in range(sent, due):
            device, read_at = FIRST_DEVICE + number % DEVICES, begun + number / rate
            value = b'{"device_id":%d,"time":%.6f,"heartrate":%.2f}' % (device, read_at, 60 + number % 90)
            producer.produce(topic, key=str(device).encode(), value=value)
        sent = due
        produced.append((now, sent))
        producer.poll(0)
        time.sleep(0.05)
    producer.flush()


def watch(count: Callable[[], int], seen: list[tuple[float, int]], stop: threading.Event) -> None:
    """`seen` gets (moment, rows) at each change."""
    while not stop.is_set():
        rows = count()
        if not seen or rows != seen[-1][1]:
            seen.append((time.time(), rows))
        time.sleep(POLL_SECONDS)


def counted(home: Home, table: str, of_gold: bool) -> Callable[[], int]:
    """Distinct readings that the table stands for; reads only when there is a new version."""
    return counted_at(home.lake / table, of_gold)


def counted_at(path: Path, of_gold: bool = False) -> Callable[[], int]:
    """See `counted`; a table that is not there yet has no rows."""
    state = {"version": -1, "rows": 0}

    def count() -> int:
        try:
            found = DeltaTable(str(path))
        except TableNotFoundError:
            return 0
        if found.version() != state["version"]:
            state["version"] = found.version()
            if of_gold:
                filters = [("device_id", ">=", FIRST_DEVICE)]
                column = found.to_pyarrow_table(columns=["readings"], filters=filters)["readings"]
                state["rows"] = int(column.to_numpy().sum()) if len(column) else 0
            else:
                state["rows"] = sum(pa.table(found.get_add_actions(flatten=True))["num_records"].to_pylist())
        return state["rows"]

    return count


def delays(produced: list[tuple[float, int]], seen: list[tuple[float, int]], base: int, after: int) -> np.ndarray:
    """Seconds from produced to seen for every reading whose number is above `after`."""
    moments, numbers = [moment for moment, _ in produced], [number for _, number in produced]
    rows = [count - base for _, count in seen]
    wanted = np.arange(after + 1, numbers[-1] + 1)
    made = np.array([moments[bisect.bisect_left(numbers, number)] for number in wanted])
    shown = np.array([seen[bisect.bisect_left(rows, number)][0] for number in wanted])
    return shown - made


BARE = """
import sys
from pyspark.sql import SparkSession
brokers, topic, folder, trigger = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()
records = spark.readStream.format("kafka").option("kafka.bootstrap.servers", brokers).option("subscribe", topic)
query = records.option("startingOffsets", "earliest").load().writeStream.format("delta")
query = query.option("checkpointLocation", f"{folder}/checkpoint").trigger(processingTime=f"{trigger} seconds")
query.start(f"{folder}/table").awaitTermination()
"""


@contextmanager
def bare_stream(home: Home, topic: str, trigger_seconds: int) -> Iterator[Path]:
    """The folder of the table that a bare stream fills from a new topic; all three are gone afterwards."""
    admin = AdminClient({"bootstrap.servers": home.kafka_bootstrap})
    folder = Path(tempfile.mkdtemp(prefix="bare-", dir=home.path))
    admin.create_topics([NewTopic(topic, 6, 1)])[topic].result()
    environment = {name: os.environ[name] for name in ("PATH", "HOME")} | home.environment | cluster_environment(home)
    arguments = [sys.executable, "-c", BARE, home.kafka_bootstrap, topic, str(folder), str(trigger_seconds)]
    with (folder / "log").open("w") as log:
        stream = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield folder / "table"
    finally:
        os.killpg(stream.pid, signal.SIGKILL)
        stream.wait()
        admin.delete_topics([topic])[topic].result()
        shutil.rmtree(folder)


def measure(home: Home, topic: str, counts: dict[str, Callable[[], int]], given: argparse.Namespace) -> None:
    """Produce, watch and print one row a table."""
    bases = {name: count() for name, count in counts.items()}
    seen: dict[str, list[tuple[float, int]]] = {name: [] for name in counts}
    stop = threading.Event()
    watchers = [threading.Thread(target=watch, args=(counts[name], seen[name], stop)) for name in counts]
    for watcher in watchers:
        watcher.start()
    produced: list[tuple[float, int]] = []
    produce(home, topic, given.rate, given.seconds, produced)
    total = produced[-1][1]
    deadline = time.time() + PATIENCE_SECONDS
    while time.time() < deadline and any(not s or s[-1][1] - bases[n] < total for n, s in seen.items()):
        time.sleep(POLL_SECONDS)
    stop.set()
    for watcher in watchers:
        watcher.join()
    for name, moments in seen.items():
        if moments[-1][1] - bases[name] != total:
            print(f"| {name} | has {moments[-1][1] - bases[name]} of {total} | | | |")
            continue
        found = delays(produced, moments, bases[name], int(given.warm_up * given.rate))
        p50, p95, p99 = np.percentile(found, [50, 95, 99])
        print(f"| {name} | {p50:.1f} | {p95:.1f} | {p99:.1f} | {found.max():.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--warm-up", type=float, default=60)
    given = parser.parse_args()
    home = Home.from_environment()
    try:
        AdminClient({"bootstrap.servers": home.kafka_bootstrap, "log_level": 0}).list_topics(timeout=10)
    except KafkaException:
        sys.exit(f"No Kafka at {home.kafka_bootstrap}: start the stack, give its FITNESS_HOME and FITNESS_PORT_BASE.")
    print(f"{given.rate} readings/s for {given.seconds:.0f} s, of which the first {given.warm_up:.0f} are left out.")
    print("Seconds from produced to queryable:\n\n| table | p50 | p95 | p99 | most |\n|---|---|---|---|---|")
    tables = {"silver.heart_rate": ("silver/heart_rate", False), "gold.bpm_trends": ("gold/bpm_trends", True)}
    measure(home, "bpm", {name: counted(home, *table) for name, table in tables.items()}, given)
    trigger = load("local", home.environment).stream.trigger_seconds
    with bare_stream(home, f"freshness-floor-{os.getpid()}", trigger) as table:
        measure(home, f"freshness-floor-{os.getpid()}", {"bare stream": counted_at(table)}, given)


if __name__ == "__main__":
    main()
