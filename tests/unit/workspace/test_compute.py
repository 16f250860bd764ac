"""How a task becomes a process."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from local.home import REPO, Home
from local.workspace import compute


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, 30_000)


def test_workspace_paths_are_files_of_the_repository(home: Home) -> None:
    assert compute.python_file("/Workspace/fitness/local/home.py", home) == REPO / "local" / "home.py"


def test_dbfs_paths_lie_in_the_home(home: Home) -> None:
    file = home.path / "dbfs" / "jobs" / "a.py"
    file.parent.mkdir(parents=True)
    file.touch()
    assert compute.python_file("dbfs:/jobs/a.py", home) == file
    assert compute.python_file(f"file:{file}", home) == file
    assert compute.python_file(str(file), home) == file


@pytest.mark.parametrize(
    "location",
    [
        "/Workspace/fitness/../../etc/hostname",
        "/Workspace/fitness//etc/hostname",
        "dbfs:/../../secrets.json",
        "dbfs:/link.py",
        "dbfs:/folder/hostname",
        "/Workspace/other/a.py",
        "a.py",
        "dbfs:/no.py",
    ],
)
def test_a_file_that_is_not_there_or_not_ours_is_named(location: str, home: Home) -> None:
    (home.path / "dbfs").mkdir()
    (home.path / "dbfs" / "link.py").symlink_to(__file__)
    (home.path / "dbfs" / "folder").symlink_to("/etc")
    with pytest.raises(compute.LaunchError, match="Cannot read the python file"):
        compute.python_file(location, home)


def test_a_job_finds_only_what_it_needs(home: Home) -> None:
    given = {"PATH": "/bin", "AWS_SECRET": "x", "FITNESS_WORKSPACE_TOKEN": "t", "PYTHONSTARTUP": "/evil.py"}
    environment = compute.job_environment(home, given)
    assert environment["PATH"] == "/bin"
    assert environment["FITNESS_SQL_PASSWORD"] == home.secrets["postgres_password"]
    assert not {"AWS_SECRET", "FITNESS_WORKSPACE_TOKEN", "PYTHONSTARTUP"} & environment.keys()


def test_settings_of_a_cluster_arrive_as_they_are_written(home: Home) -> None:
    cluster = {"spark_conf": {"spark.a": "x y", "spark.b": "$(rm -rf /)'\""}, "spark_env_vars": {"N": 5}}
    environment = compute.cluster_environment(home, cluster, {})
    arguments = shlex.split(environment["PYSPARK_SUBMIT_ARGS"])
    assert arguments[-5:] == ["--conf", "spark.a=x y", "--conf", "spark.b=$(rm -rf /)'\"", "pyspark-shell"]
    assert arguments[:2] == ["--properties-file", str(home.path / "spark" / "conf" / "spark-defaults.conf")]
    assert environment["N"] == "5"


def test_a_secret_reference_becomes_the_secret(home: Home) -> None:
    cluster = {"spark_env_vars": {"PASSWORD": "{{secrets/fitness/sql-password}}"}}
    environment = compute.cluster_environment(home, cluster, {"FITNESS_SQL_PASSWORD": "s3cret"})
    assert environment["PASSWORD"] == "s3cret"
    with pytest.raises(compute.LaunchError, match="no secret 'other'"):
        compute.cluster_environment(home, {"spark_env_vars": {"P": "{{secrets/fitness/other}}"}}, {})
