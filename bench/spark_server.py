"""A Spark Connect server as the stack starts it, alone, for a benchmark."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from local.home import Home
from local.jars import resolve
from local.services import spark, spark_archive


@contextmanager
def spark_server(port_base: int = 36000) -> Iterator[tuple[SparkSession, Path]]:
    """A session of the server and an empty folder for its tables; both go afterwards, the logs of a failure stay."""
    resolve(print)
    home = Home(Path(tempfile.mkdtemp(prefix="fitness-bench-")), port_base)
    spark_archive.ensure(home, print)  # as the stack has it
    with spark.server_alone(home):
        os.environ |= {"SPARK_REMOTE": home.spark_remote, **home.spark_environment}  # as the workspace tells jobs
        session = SparkSession.builder.getOrCreate()
        yield session, home.path
        session.stop()
    shutil.rmtree(home.path, ignore_errors=True)
