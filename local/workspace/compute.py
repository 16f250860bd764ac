"""How a task becomes a process: which file, which environment, which Spark."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from local.home import REPO, Home
from local.services import spark

WORKSPACE_ROOT = "/Workspace/fitness/"
SPARK_USER = "fitness"  # Spark Connect keys its sessions by user and session id
INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "JAVA_HOME")
SECRET = re.compile(r"^\{\{secrets/[\w\-.]+/([\w\-.]+)\}\}$")


class LaunchError(Exception):
    """A task that cannot be started as it is described; the message says why."""


def python_file(location: str, home: Home) -> Path:
    """The local file that `location` names; raises LaunchError when there is none."""
    if location.startswith(WORKSPACE_ROOT):
        file = _below(REPO, location.removeprefix(WORKSPACE_ROOT))
    elif location.startswith("dbfs:/"):
        file = _below(home.path / "dbfs", location.removeprefix("dbfs:/"))
    elif location.startswith("file:"):
        file = Path(unquote(urlsplit(location).path))
    else:
        file = Path(location)
    if file is None or not file.is_absolute() or not _is_file(file):
        raise LaunchError(f"Cannot read the python file {location}: there is no such file in this workspace.")
    return file


def _below(root: Path, relative: str) -> Path | None:
    """The file that `relative` names, links followed; None when it is not below `root`."""
    try:
        file = (root / relative.lstrip("/")).resolve()
    except (OSError, ValueError):  # a circle of links; a NUL
        return None
    return file if file.is_relative_to(root.resolve()) else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def session_url(home: Home, session_id: str) -> str:
    return f"{home.spark_remote}/;user_id={SPARK_USER};session_id={session_id}"


def job_environment(home: Home, inherited: Mapping[str, str]) -> dict[str, str]:
    """What every job finds: the stack's settings and the source database's password, nothing of the server's own."""
    return {
        **{name: inherited[name] for name in INHERITED if name in inherited},
        **home.environment,
        "FITNESS_SQL_PASSWORD": home.secret_environment["FITNESS_SQL_PASSWORD"],
        # marks it as the stack's own, so that `fitness down` also finds what a killed server left
        "FITNESS_PART": "workspace_job",
        "VIRTUAL_ENV": sys.prefix,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
    }


def serverless_environment(home: Home, session_id: str) -> dict[str, str]:
    """For the shared Spark, in a session of the attempt's own."""
    return {"SPARK_REMOTE": session_url(home, session_id), **home.spark_environment}


def cluster_environment(home: Home, cluster: dict[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """For a JVM of its own, with the settings and variables of `new_cluster`.

    `{{secrets/scope/name}}` takes the variable FITNESS_NAME of `secrets`.
    """
    settings = [part for key, value in cluster.get("spark_conf", {}).items() for part in ("--conf", f"{key}={value}")]
    environment = spark.cluster_environment(home, settings)
    for name, value in cluster.get("spark_env_vars", {}).items():
        if match := SECRET.match(str(value)):
            variable = "FITNESS_" + re.sub(r"\W", "_", match.group(1)).upper()
            if variable not in secrets:
                raise LaunchError(f"spark_env_vars.{name}: this workspace has no secret {match.group(1)!r}.")
            value = secrets[variable]
        environment[name] = str(value)
    return environment


def environment_of(home: Home, cluster: dict[str, Any] | None, session_id: str) -> dict[str, str]:
    base = job_environment(home, os.environ)
    if cluster is None:
        return base | serverless_environment(home, session_id)
    return base | cluster_environment(home, cluster, home.secret_environment)
