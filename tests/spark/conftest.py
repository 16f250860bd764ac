"""One Spark for all tests here: a Spark Connect server with the settings of the stack's, as batch jobs have it.

Settings reach the server's JVM only through its environment, so they are set before it starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from local.home import Home
from local.services.spark import settings as stack_settings
from tests.spark.pipeline import Pipeline

OWN = {
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -Duser.timezone=UTC",
    "spark.connect.grpc.binding.address": "127.0.0.1",
}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("spark")
    settings = stack_settings(Home(folder, 0)) | OWN
    (folder / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    os.environ |= {
        "SPARK_CONF_DIR": str(folder),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "SPARK_TESTING": "1",  # the server takes a free port, so that several runs of the tests do not meet
    }
    os.environ.pop("SPARK_REMOTE", None)
    session = SparkSession.builder.remote("local[2]").getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def pipeline(spark: SparkSession, tmp_path: Path) -> Iterator[Pipeline]:
    """All batch jobs over an empty lake of their own."""
    lake = Pipeline(spark, tmp_path)
    yield lake
    lake.forget()
