"""Spark: the warm Spark Connect server that batch jobs share, and the settings that every Spark here runs with."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shlex
import sys
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from local.home import Home
from local.jars import jar_folder
from local.services import hadoop_defaults
from local.services.java import archive_flags, common_flags, java_home
from local.services.part import Launch, Part, alone, base_environment, listens, reason

FLAGS = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
# Compiling to the last takes one of two cores from a driver that starts, whose first batch somebody waits for: put off
# until a method was called eight times as often as usual (docs/decisions/0007).
LATE_C2 = (
    "-XX:Tier4InvocationThreshold=40000",
    "-XX:Tier4MinInvocationThreshold=5000",
    "-XX:Tier4CompileThreshold=120000",
    "-XX:Tier4BackEdgeThreshold=320000",
)
CLEAN_STOP_SECONDS = 120  # one that writes an archive of its classes takes half a minute on a slow machine
NATIVE = {"MALLOC_ARENA_MAX": "2"}  # glibc would keep an arena for each of some hundred threads


def spark_home() -> Path:
    """Where pyspark keeps Spark's own jars and scripts."""
    found = importlib.util.find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("pyspark is missing from the environment; delete .venv and run again.")
    return Path(next(iter(found.submodule_search_locations)))


@functools.cache
def archive_name() -> str:
    """What the archive of Spark's classes is called: it fits these jars in this place, as they were installed."""
    folder = spark_home() / "jars"
    found = sorted((jar, jar.stat().st_mtime_ns) for jar in folder.glob("*.jar"))
    fits = (hadoop_defaults.jar(folder), found)
    return f"spark-{hashlib.sha256(repr(fits).encode()).hexdigest()[:12]}"


def settings(home: Home) -> dict[str, str]:
    """Settings of every Spark of the stack: the Connect server's and those of jobs with a JVM of their own."""
    return {
        "spark.master": f"local[{min(max(os.cpu_count() or 2, 2), 8)}]",
        "spark.driver.extraClassPath": f"{hadoop_defaults.jar(spark_home() / 'jars')}:{jar_folder('spark')}/*",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # without a checksum file beside each file: Hadoop starts a process (chmod) for each file that it makes, and a
        # batch of the stream, which makes dozens, takes a sixth longer with twice as many
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
        "spark.hadoop.fs.permissions.umask-mode": "077",  # Hadoop has one of its own beside the process's
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.warehouse.dir": str(home.path / "spark" / "warehouse"),
        "spark.local.dir": str(scratch(home)),
        # two cores: 200 shuffle partitions and 50 snapshot partitions cost seconds in every job
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
        # not Spark's INT96, in which other readers find no years before 1678 or after 2262
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # VACUUM makes so many tasks of one listing; ten thousand unless told
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        # Plans here are large and data is small: compiling code for each, and planning anew between the stages, is half
        # of a job's time (docs/decisions/0006). Databricks, with Photon and large data, keeps its own defaults.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        ),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # each column would be sent with the line of Python that made it, a tenth of what an increment costs (0013)
        "spark.python.sql.dataFrameDebugging.enabled": "false",
    }


def scratch(home: Home) -> Path:
    """Where Sparks put what they need for a moment."""
    return home.path / "spark" / "scratch"


def configuration_folder(home: Home) -> Path:
    """What SPARK_CONF_DIR may name for a process with a JVM of its own; written anew by the launch of the server."""
    return home.path / "spark" / "conf"


def cluster_environment(home: Home, arguments: Sequence[str] = ()) -> dict[str, str]:
    """For a Python process with a JVM of its own: the settings above, `arguments` of spark-submit, and a fast start.

    SPARK_CONF_DIR would do, but comes first on the classpath, and a JVM takes no archive of loaded classes with a
    filled folder there; the archive halves the start (it is the server's: same jars, same order).
    """
    folder = configuration_folder(home)
    # a heap that begins small can become small again, in a driver that only stands by (workspace/warm_driver.py)
    flags = ["-Xms128m", *FLAGS, *LATE_C2, *common_flags(home), *archive_flags(home, archive_name(), write=False)]
    flags.append(f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}")
    submit = ["--properties-file", str(folder / "spark-defaults.conf"), "--driver-java-options", " ".join(flags)]
    return {
        "JAVA_HOME": str(java_home()),
        "SPARK_CONF_DIR": str(home.path / "spark" / "none"),
        "PYSPARK_SUBMIT_ARGS": shlex.join([*submit, *arguments, "pyspark-shell"]),
        **NATIVE,
        "PYSPARK_PYTHON": sys.executable,
    }


def write_configuration(home: Home) -> Path:
    """Write spark-defaults.conf and log4j2.properties; returns their folder."""
    folder = configuration_folder(home)
    for needed in (folder, scratch(home), home.temporary, home.lake, home.checkpoints):
        needed.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name} {value}\n" for name, value in settings(home).items())
    for name, text in {"spark-defaults.conf": lines, "log4j2.properties": _LOGGING}.items():
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(text)
        draft.replace(folder / name)
    return folder


_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS}{UTC} %-5p %c{1}: %m%n%ex
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
# says once a start that a machine's own library is missing
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
# says that a machine's name resolves to loopback, which is where all of this listens
logger.utils.name = org.apache.spark.util.Utils
logger.utils.level = error
logger.conf.name = org.apache.spark.SparkConf
logger.conf.level = error
# says again what the client of Spark Connect is told anyway
logger.connect.name = org.apache.spark.sql.connect.utils.ErrorUtils
logger.connect.level = off
# a consumer's every configuration with deprecated entries
logger.kafka.name = org.apache.kafka.clients
logger.kafka.level = error
"""


def _prepare(home: Home) -> Launch:
    folder = write_configuration(home)
    environment = base_environment(home) | {
        "JAVA_HOME": str(java_home()),
        "SPARK_HOME": str(spark_home()),
        # an empty folder instead of the real one, which would be first on the classpath: the JVM refuses to archive
        # the classes of a classpath with a filled folder on it
        "SPARK_CONF_DIR": str(home.path / "spark" / "none"),
        # functions that jobs send (foreachBatch, UDFs) are imported by Python processes of the server
        "PYSPARK_PYTHON": sys.executable,
        **NATIVE,
        **home.spark_environment,
    }
    flags = ["-Xms256m", *FLAGS, *common_flags(home), *archive_flags(home, archive_name())]
    flags.append(f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}")
    options = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(home.port("spark")),
        "spark.connect.grpc.maxInboundMessageSize": str(256 * 1024 * 1024),
    }
    arguments = [str(spark_home() / "bin" / "spark-submit"), "--properties-file", str(folder / "spark-defaults.conf")]
    arguments += ["--driver-memory", "1g", "--driver-java-options", " ".join(flags)]
    for name, value in options.items():
        arguments += ["--conf", f"{name}={value}"]
    arguments += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    return Launch(arguments, environment, home.path / "spark", nice=5)  # batches can wait, the stream is read live


def _ready(home: Home, started_at: float) -> str | None:
    """Ready when it plans and runs a query. Speaks the protocol itself: the client would take seconds to import."""
    if not listens(home.port("spark")):
        return "nothing listens on its port yet"
    try:
        import grpc
        from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc, relations_pb2

        session = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{home.path}/health"))  # one session, however often it is asked
        user = base_pb2.UserContext(user_id="fitness", user_name="fitness")
        query = relations_pb2.Relation(sql=relations_pb2.SQL(query="SELECT 1"))
        request = base_pb2.ExecutePlanRequest(session_id=session, user_context=user, plan=base_pb2.Plan(root=query))
        with grpc.insecure_channel(
            f"127.0.0.1:{home.port('spark')}", options=[("grpc.enable_http_proxy", 0)]
        ) as channel:
            stub = base_pb2_grpc.SparkConnectServiceStub(channel)
            for _ in stub.ExecutePlan(request, timeout=10, metadata=home.spark_metadata):
                pass
    except Exception as error:
        detail = error.details() if hasattr(error, "details") else reason(error)
        return f"no answer to a query ({str(detail)[:160]})"
    return None


PART = Part(name="spark", prepare=_prepare, ready=_ready, ports=("spark",), stop_seconds=20)


def server_alone(home: Home) -> AbstractContextManager[None]:
    """The server by itself; it may take its time to end."""
    return alone(PART, home, CLEAN_STOP_SECONDS)
