"""Connectors as desired state: read from files, compared with a Connect cluster, applied, restarted when they fail.

One file a connector below `include/connectors/<dialect>/`; its name is the connector's. What differs between clusters
(hosts, users, passwords) stands in the files as `${env:NAME}` and is filled in by the Connect workers' own config
provider, so that neither the files nor the Connect API ever hold a secret.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

Config = Mapping[str, str]

# So long a connector that was restarted must run to count as well: on a busy machine it took 20 s from a restart until
# the broker refused the same record again.
STEADY_SECONDS = 30.0


class ConnectorFailed(Exception):
    """A connector could not be applied, or still fails after its restarts; the message carries Connect's reason."""


@dataclass(frozen=True)
class Task:
    id: int
    state: str
    trace: str = ""


@dataclass(frozen=True)
class Status:
    """What Connect says of a connector; state and those of its tasks are RUNNING, FAILED, PAUSED, UNASSIGNED, ..."""

    name: str
    state: str
    trace: str = ""
    tasks: tuple[Task, ...] = ()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """From what Connect's status path answers."""
        tasks = tuple(Task(task["id"], task["state"], task.get("trace", "")) for task in answer["tasks"])
        return cls(answer["name"], answer["connector"]["state"], answer["connector"].get("trace", ""), tasks)

    @property
    def failed(self) -> bool:
        return self.state == "FAILED" or any(task.state == "FAILED" for task in self.tasks)

    @property
    def running(self) -> bool:
        return self.state == "RUNNING" and bool(self.tasks) and all(task.state == "RUNNING" for task in self.tasks)

    @property
    def trouble(self) -> str | None:
        """One line on what is not as it should be; None when all runs."""
        if self.running:
            return None
        traces = [self.trace, *(task.trace for task in self.tasks)]
        cause = next((root_cause(trace) for trace in traces if trace), "")
        states = ", ".join(task.state for task in self.tasks) or "none"
        return f"connector {self.name} is {self.state}, its tasks: {states}" + (f" ({cause})" if cause else "")


def root_cause(trace: str) -> str:
    """The last `Caused by` of a Java stack trace, else its first line."""
    causes = [line for line in trace.splitlines() if line.startswith("Caused by: ")]
    return (causes[-1].removeprefix("Caused by: ") if causes else trace.strip().splitlines()[0])[:300]


@dataclass(frozen=True)
class Step:
    """One thing to do: `create`, `update`, `restart` or `resume` a connector."""

    action: str
    connector: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.connector}" + (f": {self.reason}" if self.reason else "")


def desired(folder: Path) -> dict[str, dict[str, str]]:
    """Connector name -> configuration, from the JSON files of a folder. Values must be strings, as Connect has them."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        config = json.loads(file.read_text())
        wrong = [key for key, value in config.items() if not isinstance(value, str)]
        if wrong or "connector.class" not in config:
            raise ValueError(f"{file}: " + (f"not strings: {', '.join(wrong)}" if wrong else "no connector.class"))
        found[file.stem] = config
    return found


def plan(wanted: Mapping[str, Config], actual: Mapping[str, Config], statuses: Mapping[str, Status]) -> list[Step]:
    """What makes a cluster (its configurations and statuses by name) run what is wanted. Others are left alone."""
    steps = []
    for name, config in wanted.items():
        if name not in actual:
            steps.append(Step("create", name))
            continue
        have = {key: value for key, value in actual[name].items() if key != "name"}  # Connect adds it
        status = statuses.get(name)
        if have != dict(config):
            changed = sorted(key for key in have.keys() | config.keys() if have.get(key) != config.get(key))
            steps.append(Step("update", name, ", ".join(changed)))
        if status and status.failed:
            steps.append(Step("restart", name, status.trouble or ""))
        if status and status.state in {"PAUSED", "STOPPED"}:
            steps.append(Step("resume", name, f"is {status.state}"))
    return steps


class Connect:
    """The REST API of a Connect cluster. Waits out rebalances (409) and workers that are starting (5xx).

    `credentials`: user and password, for clusters that want them (basic authentication).
    """

    def __init__(
        self,
        url: str,
        credentials: tuple[str, str] | None = None,
        patience_seconds: float = 60,
        **client_options: Any,
    ) -> None:
        self._http = httpx.Client(base_url=url, auth=credentials, timeout=30, trust_env=False, **client_options)
        self._patience_seconds = patience_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def configs(self) -> dict[str, dict[str, str]]:
        answer = self._call("GET", "/connectors?expand=info").json()
        return {name: entry["info"]["config"] for name, entry in answer.items()}

    def status(self, name: str) -> Status:
        response = self._call("GET", f"/connectors/{quote(name)}/status", missing_ok=True)
        if response.status_code == 404:  # created a moment ago, or not at all
            return Status(name, "UNASSIGNED")
        return Status.of(response.json())

    def put(self, name: str, config: Config) -> None:
        """Create or update."""
        self._call("PUT", f"/connectors/{quote(name)}/config", json=dict(config))

    def restart(self, name: str) -> None:
        """Restart the connector and those of its tasks that failed."""
        self._call("POST", f"/connectors/{quote(name)}/restart?includeTasks=true&onlyFailed=true")

    def resume(self, name: str) -> None:
        self._call("PUT", f"/connectors/{quote(name)}/resume")

    def _call(self, method: str, path: str, missing_ok: bool = False, **options: Any) -> httpx.Response:
        give_up = time.monotonic() + self._patience_seconds
        while True:
            try:
                response = self._http.request(method, path, **options)
                if response.status_code < 400 or (missing_ok and response.status_code == 404):
                    return response
                trouble = f"{method} {path.split('?')[0]}: {response.status_code} {_message(response)}"
                lasting = response.status_code < 500 and response.status_code != 409
            except httpx.TransportError as error:
                trouble, lasting = f"{method} {path.split('?')[0]}: {type(error).__name__} {error}", False
            if lasting or time.monotonic() >= give_up:
                raise ConnectorFailed(f"Kafka Connect refused {trouble}")
            time.sleep(0.5)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json().get("message", ""))[:500]
    except ValueError:
        return response.text[:500]


def relapses(before: Mapping[str, Sequence[str]], run: str, failed: Iterable[str], memory: int) -> dict[str, list[str]]:
    """Connector -> the last `memory` runs in a row that found it failed, by id; `run` is the present one.

    `before` is what the run before returned, or an earlier try of this one, whose restarts this one does not see.
    """
    tried = {name for name, runs in before.items() if runs[-1] == run}
    return {
        name: [*(earlier for earlier in before.get(name, ()) if earlier != run), run][-memory:]
        for name in sorted({*failed, *tried})
    }


def reconcile(
    connect: Connect,
    wanted: Mapping[str, Config],
    restart_budget: int = 3,
    patience_seconds: float = 60,
) -> list[Step]:
    """Bring a cluster to the wanted connectors and wait until all run. Returns what was done.

    A failing connector is restarted at most `restart_budget` times, and must then run for STEADY_SECONDS on end: one
    that cannot get past a record is RUNNING after each restart, until it comes to the record again. Raises
    ConnectorFailed when one still fails then, or does not run after `patience_seconds`.
    """
    actual = connect.configs()
    steps = plan(wanted, actual, {name: connect.status(name) for name in wanted.keys() & actual.keys()})
    restarts = dict.fromkeys(wanted, 0)
    for step in steps:
        if step.action in {"create", "update"}:
            connect.put(step.connector, wanted[step.connector])
        elif step.action == "resume":
            connect.resume(step.connector)
        else:
            restarts[step.connector] += 1
            connect.restart(step.connector)
    give_up = time.monotonic() + patience_seconds
    for name in wanted:
        well_since: float | None = None
        while well_since is None or (restarts[name] and time.monotonic() - well_since < STEADY_SECONDS):
            status = connect.status(name)
            if status.running:
                well_since = well_since or time.monotonic()
            else:
                well_since = None
                spent = restarts[name] >= restart_budget
                if time.monotonic() >= give_up or (status.failed and spent):
                    times = f" after {restarts[name]} restarts" if restarts[name] else ""
                    raise ConnectorFailed(f"{status.trouble}{times}")
                if status.failed:
                    restarts[name] += 1
                    steps.append(Step("restart", name, status.trouble or ""))
                    connect.restart(name)
                    time.sleep(2)
            time.sleep(0.3)
    return steps
