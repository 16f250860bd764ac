"""Everything that differs between one machine and Azure, read once from `include/environments/<FITNESS_ENV>.yaml`.

A value may name an environment variable as `${NAME}`; one that is not set is an error, never an empty string.
Durations are written `30s`, `10m` or `3h`. Secrets are not here: they are in Airflow connections, in the environment of
the processes that need them, or in the platform's secret store.

`python -m include.settings` checks all three files without any of their variables being set.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

ENVIRONMENTS = Path(__file__).parent / "environments"
REFERENCE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
DURATION = re.compile(r"(\d+)([smh])")
SECONDS = {"s": 1, "m": 60, "h": 3600}


class SettingsError(Exception):
    """A settings file that cannot be used; the message names the file, the field and what to do."""


def _duration(value: Any) -> timedelta:
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a duration as a whole number with a unit: 30s, 10m or 3h")
    return timedelta(seconds=int(match[1]) * SECONDS[match[2]])


Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(timedelta.total_seconds)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Databricks(_Part):
    """How the tasks talk to the workspace."""

    connection_id: str
    deferrable: bool = Field(
        description="Wait in the triggerer (frees the worker's slot) or in the task (starts faster)."
    )
    polling_seconds: int = Field(ge=1)
    # When polling fails for good the run goes on without its task: be patient. Waits double up to 2**limit seconds.
    retry_limit: int = Field(ge=10)
    retry_delay_seconds: int = Field(ge=1)
    pool: str
    code_root: str = Field(description="The repository's root as the jobs see it.")


class Batch(_Part):
    """Serverless compute of the batch jobs."""

    environment_version: str
    dependencies: tuple[str, ...] = ()
    performance_target: Literal["STANDARD", "PERFORMANCE_OPTIMIZED"] | None = None
    usage_policy_id: str | None = Field(None, description="Carries the cost tags: a submitted run has none of its own.")


class Cluster(_Part):
    """The stream's own compute: Databricks' `new_cluster`."""

    spark_version: str
    node_type_id: str | None = None
    instance_pool_id: str | None = Field(None, description="Instead of node_type_id: an idle instance starts at once.")
    num_workers: int = Field(ge=0)
    spark_conf: dict[str, str] = {}
    spark_env_vars: dict[str, str] = {}
    custom_tags: dict[str, str] = {}
    data_security_mode: Literal["SINGLE_USER", "DATA_SECURITY_MODE_DEDICATED"] | None = None

    @model_validator(mode="after")
    def _one_kind_of_node(self) -> Cluster:
        if (self.node_type_id is None) == (self.instance_pool_id is None):
            raise ValueError("give node_type_id or instance_pool_id, and not both")
        return self


class Stream(_Part):
    """The BPM stream that is always on."""

    cluster: Cluster
    libraries: tuple[dict[str, str], ...] = ()
    trigger_seconds: int = Field(ge=1)
    heartbeat: str = Field(description="The file that the stream rewrites with every batch, as its job sees it.")
    heartbeat_uri: str | None = Field(None, description="The same file as Airflow sees it, if that differs.")
    refused_share: float = Field(0.5, gt=0, le=1, description="Pause above this share of refused records; 1: never.")

    @model_validator(mode="after")
    def _airflow_is_elsewhere(self) -> Stream:
        if self.heartbeat.startswith("/Volumes/") and not self.heartbeat_uri:
            raise ValueError("give heartbeat_uri: outside of Databricks nobody sees a file below /Volumes")
        return self

    @property
    def heartbeat_for_airflow(self) -> str:
        return self.heartbeat_uri or self.heartbeat


class Kafka(_Part):
    bootstrap_servers: str
    options: dict[str, str] = Field({}, description="Spark's `kafka.*` reader options without secrets.")


class Sql(_Part):
    """The operational database: Azure SQL, locally PostgreSQL."""

    jdbc_url: str
    user: str


class Connect(_Part):
    """Kafka Connect; `dialect` is the folder of include/connectors with the connectors that it should run."""

    url: str
    connection_id: str = Field(description="Airflow connection: user and password of its API; no login: it wants none.")
    dialect: Literal["postgresql", "sqlserver"]


class DagSettings(_Part):
    schedule: str | None = Field(None, description="Cron line in UTC; none for DAGs that assets or people start.")
    deadline: Duration = Field(description="From when a run is due until it must have succeeded; later pages.")
    job_timeout: Duration = Field(description="After this the platform ends a job.")
    retries: int = Field(ge=0)
    retry_delay: Duration
    max_active_tasks: int = Field(16, ge=1)


class FileTarget(_Part):
    """Appends one JSON line an alert: what a person on one machine reads."""

    kind: Literal["file"]
    path: Path


class WebhookTarget(_Part):
    """Posts the alert as JSON to the URL of an Airflow connection (its password, if any, as bearer token)."""

    kind: Literal["webhook"]
    connection_id: str
    severities: tuple[Literal["page", "ticket"], ...] = ("page", "ticket")


AlertTarget = Annotated[FileTarget | WebhookTarget, Field(discriminator="kind")]


class Settings(_Part):
    name: Literal["local", "dev", "prod"]
    catalog: str
    storage_root: str | None = Field(
        description="Tables lie at <root>/<schema>/<table>; none: the catalog manages them."
    )
    checkpoint_root: str
    secret_scope: str | None = Field(description="Where jobs find secrets; none: in their environment.")
    paused_at_creation: bool
    databricks: Databricks
    batch: Batch
    stream: Stream
    kafka: Kafka
    sql: Sql
    connect: Connect
    alerts: tuple[AlertTarget, ...] = Field(min_length=1)
    dags: dict[str, DagSettings]

    def dag(self, dag_id: str) -> DagSettings:
        """The settings of one DAG; raises SettingsError when its environment file has none."""
        if dag_id not in self.dags:
            raise SettingsError(
                f"{ENVIRONMENTS / self.name}.yaml: dags.{dag_id} is missing; add its deadline and retries."
            )
        return self.dags[dag_id]


def load(name: str, environ: Mapping[str, str]) -> Settings:
    """The settings called `name`, with `${VAR}` taken from `environ`. Raises SettingsError."""
    file = ENVIRONMENTS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(found.stem for found in ENVIRONMENTS.glob("*.yaml")))
        raise SettingsError(f"There is no environment {name!r}: set FITNESS_ENV to one of {known}.")
    try:
        document = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not YAML: {error}") from error
    return parse(document, str(file), environ)


def parse(document: Any, file: str, environ: Mapping[str, str]) -> Settings:
    """Resolve and validate a document; every mistake is reported at once, with its field."""
    problems: list[str] = []

    def resolve(value: Any, field: str) -> Any:
        if isinstance(value, dict):
            return {key: resolve(item, f"{field}.{key}".lstrip(".")) for key, item in value.items()}
        if isinstance(value, list):
            return [resolve(item, f"{field}.{index}") for index, item in enumerate(value)]
        if isinstance(value, str):
            for missing in sorted({variable for variable in REFERENCE.findall(value) if not environ.get(variable)}):
                problems.append(f"{field}: set the environment variable {missing} (the value is {value!r})")
            return REFERENCE.sub(lambda match: environ.get(match[1], ""), value)
        return value

    resolved = resolve(document, "")
    if not problems:
        try:
            return Settings.model_validate(resolved)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, entry['loc'])) or 'the file'}: {_advice(entry['type'], entry['msg'])}"
                for entry in error.errors()
            ]
    raise SettingsError(f"{file} cannot be used:\n" + "\n".join(f"  {problem}" for problem in problems))


def _advice(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such setting; remove it or correct its name"
    if kind == "missing":
        return "is required; add it"
    return message[0].lower() + message[1:]


def variables(document: Any) -> Iterator[str]:
    """The names of the environment variables that a document refers to."""
    if isinstance(document, dict | list):
        for item in document.values() if isinstance(document, dict) else document:
            yield from variables(item)
    elif isinstance(document, str):
        yield from REFERENCE.findall(document)


def check_offline(name: str) -> Settings:
    """Validate an environment file without its variables being set: each is given a stand-in."""
    return load(name, stand_ins(name))


def stand_ins(name: str) -> dict[str, str]:
    """A value for every variable that an environment file refers to, for where none of them is used."""
    document = yaml.safe_load((ENVIRONMENTS / f"{name}.yaml").read_text())
    return {variable: f"/{variable.lower()}" for variable in variables(document)}


@cache
def settings() -> Settings:
    """The settings of this process, by FITNESS_ENV. Parsed once."""
    name = os.environ.get("FITNESS_ENV")
    if not name:
        raise SettingsError("Set FITNESS_ENV to local, dev or prod.")
    return load(name, os.environ)


if __name__ == "__main__":
    try:
        for path in sorted(ENVIRONMENTS.glob("*.yaml")):
            check_offline(path.stem)
            print(f"{path.name}: valid")
    except SettingsError as problem:
        sys.exit(str(problem))
