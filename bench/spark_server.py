"""A Spark Connect server as the stack starts it, alone, for a benchmark."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from local.home import Home
from local.jars import resolve
from local.services import spark

PATIENCE_SECONDS = 120


@contextmanager
def spark_server(port_base: int = 36000) -> Iterator[tuple[SparkSession, Path]]:
    """A session of the server and an empty folder for its tables; both are gone afterwards."""
    resolve(print)
    home = Home(Path(tempfile.mkdtemp(prefix="fitness-bench-")), port_base)
    launch = spark.PART.prepare(home)
    with (home.path / "spark.log").open("w") as log:
        server = subprocess.Popen(
            launch.arguments,
            env=dict(launch.environment),
            cwd=launch.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while why := spark.PART.ready(home, 0):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Spark did not start: {why}; see {home.path}/spark.log")
            time.sleep(0.2)
        os.environ |= {"SPARK_REMOTE": home.spark_remote, **home.spark_environment}  # as the workspace tells jobs
        session = SparkSession.builder.getOrCreate()
        yield session, home.path
        session.stop()
        shutil.rmtree(home.path, ignore_errors=True)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
