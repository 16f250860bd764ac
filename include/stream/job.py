"""What the stream's job should be: its settings for `jobs/create`, and the version that names them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from include.payloads import common_arguments, kafka_arguments, python_file, stream_cluster
from include.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = REPOSITORY / "spark_jobs"
TABLES = ("bronze/kafka_multiplex", "silver/heart_rate", "gold/bpm_trends", "ops/quarantine", "ops/stream_progress")

TOPIC = "bpm"
TASK = "bpm"


@cache
def checkpoint_reads() -> frozenset[int]:
    """The checkpoint versions that the code at hand can take over."""
    return frozenset(json.loads((CODE / "streaming" / "checkpoint.json").read_text())["reads"])


@cache
def code_digest() -> str:
    """Of the code that the stream runs: its package, the shared modules, its tables' declarations."""
    files = [
        *CODE.glob("*.py"),
        *(CODE / "streaming").iterdir(),
        *(CODE / "tables" / f"{table}.sql" for table in TABLES),
    ]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file()):
        digest.update(file.relative_to(CODE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def job_name(settings: Settings) -> str:
    return f"fitness bpm stream ({settings.name})"


def job_settings(settings: Settings) -> dict[str, Any]:
    """The body of `jobs/create`. At most one run; the platform restarts it after a crash within seconds, for ever."""
    definition = _definition(settings)
    version = hashlib.sha256((code_digest() + json.dumps(definition, sort_keys=True)).encode()).hexdigest()[:12]
    definition["tags"]["version"] = version
    definition["tasks"][0]["spark_python_task"]["parameters"] += ["--version", version]
    return definition


def version_of(definition: dict[str, Any]) -> str:
    return str(definition["tags"]["version"])


def _definition(settings: Settings) -> dict[str, Any]:
    stream = settings.stream
    parameters = [
        *common_arguments(settings, "{{job.run_id}}"),
        *kafka_arguments(settings, [TOPIC]),
        *("--heartbeat", stream.heartbeat),
        *("--trigger-seconds", str(stream.trigger_seconds)),
        *("--refused-share", str(stream.refused_share)),
    ]
    task = {
        "task_key": TASK,
        "spark_python_task": {
            "python_file": python_file(settings, "streaming.bpm"),
            "parameters": parameters,
        },
        "new_cluster": stream_cluster(settings),
        "max_retries": -1,
        "min_retry_interval_millis": 1000,
        "retry_on_timeout": True,
        "timeout_seconds": 0,
    }
    if stream.libraries:
        task["libraries"] = [dict(library) for library in stream.libraries]
    return {
        "name": job_name(settings),
        "max_concurrent_runs": 1,
        "queue": {"enabled": False},
        "tags": {"project": "fitness", "environment": settings.name},
        "tasks": [task],
    }
