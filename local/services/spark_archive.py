"""Java's archive of the classes that Spark loads, made once an environment: a driver starts in half the time with it.

A stack's first `up` lets a server do a little of everything that the jobs do, and stops it: Java then writes the
classes it has loaded into an archive. The Spark Connect server and the stream's driver read it at each start.
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from local.home import REPO, Home
from local.services import java, spark
from local.services.part import PartFailed, base_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PATIENCE_SECONDS = 600
JOBS = ("silver.users", "silver.workout_sessions", "gold.workout_summary", "gold.gym_activity", "gold.user_activity")
MESSAGES = (
    '{"device_id": 1, "time": 1709287201.5, "heartrate": 71.5}',
    '{"heartrate": 72, "time": 1709287202, "device_id": 1}',
    "rubbish",
)
BULK_MESSAGE = """
    format_string('{"device_id":%d,"time":%d,"heartrate":%d.5}', 2 + id % 500, 1709287201 + id div 500, 60 + id % 100)
"""


def ensure(home: Home, say: Callable[[str], None]) -> None:
    """Make the archive if there is none. Takes the stack's Spark port meanwhile.

    That it cannot be made stops nothing: all works without, and slower.
    """
    if java.has_archive(spark.archive_name()):
        return
    say("making an archive of Spark's classes, so that Spark starts in half the time (once; a minute or two)")
    home.temporary.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="archive-", dir=home.temporary))
    environment = base_environment(home) | home.spark_environment | {"SPARK_REMOTE": home.spark_remote}
    try:
        with spark.server_alone(home), (home.logs / "spark-archive.log").open("wb") as log:
            command = [sys.executable, "-m", __spec__.name, str(folder)]
            subprocess.run(
                command, env=environment, cwd=REPO, stdout=log, stderr=log, timeout=PATIENCE_SECONDS, check=True
            )
        java.keep_archive(home, spark.archive_name())
    except (PartFailed, OSError, subprocess.SubprocessError) as error:
        say(f"no archive of Spark's classes was made, each start takes longer: {error} (see {home.logs})")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def train(session: SparkSession, folder: Path) -> None:
    """Do a little of what the stream and the batch jobs do, with tables below `folder`."""
    from pyspark.errors import PySparkException

    from spark_jobs.streaming import bpm

    train_stream(session, folder, batches=2)
    for table in bpm.TABLES:
        session.sql(f"OPTIMIZE spark_catalog.{table}").collect()
    for job in JOBS:
        arguments = ["--catalog", "spark_catalog", "--storage-root", str(folder / "lake"), "--full"]
        importlib.import_module(f"spark_jobs.{job}").main(arguments)
    query = (
        session.readStream.format("rate")
        .load()
        .writeStream.format("noop")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .start()
    )
    query.awaitTermination(3)
    query.stop()
    topic = {
        "kafka.bootstrap.servers": "127.0.0.1:1",
        "kafka.default.api.timeout.ms": "1500",
        "kafka.request.timeout.ms": "1000",
        "subscribe": "bpm",
    }
    with contextlib.suppress(PySparkException):  # there is no Kafka yet; its client was loaded
        session.read.format("kafka").options(**topic).load().count()


def train_stream(session: SparkSession, folder: Path, batches: int, bulk: int = 0) -> None:
    """Do what the stream does with a batch, so often, and with one of `bulk` records, in tables below `folder`."""
    import pyarrow as pa

    from spark_jobs.declarations import register
    from spark_jobs.platform import Platform
    from spark_jobs.streaming import batch, bpm, readings

    register(session, Platform(str(folder / "lake")), "spark_catalog", *bpm.TABLES, "ops.quarantine")
    columns = (
        "'bpm' AS topic",
        "0 AS partition",
        "offset",
        "timestamp_seconds(1709287300 + offset) AS kafka_timestamp",
        "CAST(NULL AS BINARY) AS key",
        "CAST(value AS BINARY) AS value",
        "CAST(NULL AS ARRAY<STRUCT<key: STRING, value: BINARY>>) AS headers",
    )
    writer = batch.Batch("spark_catalog", transaction="training")
    for number in range(batches):
        offsets = range(number * len(MESSAGES), (number + 1) * len(MESSAGES))
        # an Arrow table: to read Python's rows Spark would start processes of Python
        records = session.createDataFrame(pa.table({"offset": list(offsets), "value": list(MESSAGES)}))
        writer.write(readings.parsed(records.selectExpr(*columns)), number)
    if bulk:
        first = batches * len(MESSAGES)
        records = session.range(first, first + bulk).selectExpr("id AS offset", f"{BULK_MESSAGE} AS value")
        writer.write(readings.parsed(records.selectExpr(*columns)), batches)
    bpm.newest_batch(session, "spark_catalog", writer.transaction)


if __name__ == "__main__":
    from pyspark.sql import SparkSession

    train(SparkSession.builder.getOrCreate(), Path(sys.argv[1]))
