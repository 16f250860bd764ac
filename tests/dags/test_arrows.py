"""Who may call whom (docs/architecture.md), read from the import statements."""

import ast
from pathlib import Path

import pytest

from tests.dags.airflow_home import REPO

ROOMS = {"dags", "include", "plugins", "spark_jobs", "local", "tests", "bench", "docs"}
MAY_IMPORT = {"dags": {"include"}, "plugins": {"include"}, "include": {"include"}, "spark_jobs": {"spark_jobs"}}


def imports(source: str) -> set[str]:
    """The top-level names that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else (node.module or "").split(".")[0])
    return found


def sources(room: str) -> list[Path]:
    return sorted((REPO / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room):
    assert sources(room)
    for file in sources(room):
        assert imports(file.read_text()) & (ROOMS | {"."}) <= MAY_IMPORT[room], file


@pytest.mark.parametrize("room", ["dags", "plugins", "include"])
def test_nothing_that_airflow_loads_imports_pyspark(room):
    for file in sources(room):
        assert not imports(file.read_text()) & {"pyspark", "delta"}, file


def test_jobs_import_only_themselves_and_what_every_spark_client_has():
    import sys

    for file in sources("spark_jobs"):
        assert imports(file.read_text()) - sys.stdlib_module_names <= {"spark_jobs", "pyspark", "pyarrow", "delta"}, (
            file
        )


def test_local_imports_nothing_of_the_dags():
    for file in sources("local"):
        assert not imports(file.read_text()) & {"dags", "plugins"}, file


def test_a_wrong_arrow_would_be_seen():
    assert imports("def f():\n    from pyspark.sql import functions\n    import local.home as home") == {
        "pyspark",
        "local",
    }
