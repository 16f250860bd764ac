"""The whole stack in a temporary home on free ports, and the few things a test does with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, Message, TopicPartition
from deltalake import DeltaTable

from local.home import REPO, Home
from local.simulator import ledger as ledgers
from local.simulator.feed import Clock, tell
from local.simulator.ledger import Ledger
from local.simulator.sources import Sources
from local.simulator.world import Arrival
from tests.oracle import KEYS, differences, expected_tables
from tests.oracle.from_ledger import Truth, truth
from tests.ports import free_port_base

LAYERS = ("bronze", "silver", "gold")
PATIENCE_SECONDS = 600


class NotInTime(AssertionError):
    pass


@contextmanager
def running_stack() -> Iterator[Stack]:
    """Brings it up, and takes it down whatever happens; the home stays only when the tests in it failed."""
    home = Home(Path(tempfile.mkdtemp(prefix="fitness-system-")), free_port_base())
    stack = Stack(home)
    is_kept = True
    try:
        stack.fitness("up", "--no-simulator")
        yield stack
        is_kept = False
    finally:
        stack.fitness("down", check=False)
        if is_kept:
            print(f"The stack's home is kept: {home.path}")
        else:
            shutil.rmtree(home.path, ignore_errors=True)


def committed(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """All committed records of a topic, as they are now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "fitness-tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        ends = 0
        while ends < len(partitions):
            for message in consumer.consume(10_000, timeout=10):
                if message.error():
                    ends += 1
                else:
                    yield message
    finally:
        consumer.close()


@dataclass
class Stack:
    home: Home

    def fitness(self, *arguments: str, check: bool = True) -> str:
        """Output of a `fitness` command."""
        environment = {
            **os.environ,
            "FITNESS_HOME": str(self.home.path),
            "FITNESS_PORT_BASE": str(self.home.port_base),
            "PYTHONPATH": str(REPO),
        }
        run = subprocess.run(
            [sys.executable, "-m", "local.cli", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if check and run.returncode:
            raise AssertionError(f"fitness {' '.join(arguments)} failed:\n{run.stdout}\n{run.stderr}")
        return run.stdout + run.stderr

    # The sources

    def tell(self, arrivals: Iterable[Arrival], name: str) -> None:
        """Tells a story to the sources and writes it into the ledger."""
        folder = self.home.ledger / ledgers.run_id(name, 0)
        stop = threading.Event()
        with Ledger(folder, {"mode": name, "seed": None}) as ledger, Sources(self.home, stop, print) as sources:
            tell(arrivals, ledger, sources, stop, Clock(0, None))

    def deliver_again(self) -> int:
        """Sends all readings and odd messages of the ledger once more, and nothing else: the rows are marked."""
        count = 0
        with Sources(self.home, threading.Event(), print) as sources:
            for folder in ledgers.runs(self.home.ledger):
                for number, batch in ledgers.read_batches(folder):
                    sources.deliver(folder.name, number, batch)
                    count += batch.reading_count
        return count

    def truth(self) -> Truth:
        return truth(self.home.ledger, self.profile_deletions())

    def profile_deletions(self) -> dict[int, list[int]]:
        """When PostgreSQL committed deletions of profiles, as Debezium read it in the log; by member, in order."""
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for value in self.messages("user_profile"):
            change = json.loads(value) if value else {}
            if change.get("op") == "d":
                source = change["source"]
                committed_at = source.get("ts_us") or source["ts_ms"] * 1000
                found[change["before"]["user_id"]].append((source["lsn"], committed_at))
        return {user: [committed_at for _, committed_at in sorted(times)] for user, times in found.items()}

    def messages(self, topic: str) -> list[bytes | None]:
        """All committed values of a topic."""
        return [message.value() for message in committed(self.home.kafka_bootstrap, topic)]

    # Airflow

    @cached_property
    def airflow(self) -> httpx.Client:
        client = httpx.Client(base_url=self.home.airflow_url, timeout=60)
        credentials = {"username": "admin", "password": self.home.secrets["airflow_password"]}
        token = client.post("/auth/token", json=credentials).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    def dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        answer = self.airflow.get(f"/api/v2/dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": 10})
        runs: list[dict[str, Any]] = answer.raise_for_status().json()["dag_runs"]
        return runs

    def run_layers(self) -> None:
        """Starts `bronze` and waits until silver and gold have followed and nothing runs any more."""
        self.wait_for("DAGs", lambda: all(self.airflow.get(f"/api/v2/dags/{layer}").is_success for layer in LAYERS))
        since = datetime.now(UTC)
        body: dict[str, Any] = {"logical_date": None, "conf": {}}
        self.airflow.post("/api/v2/dags/bronze/dagRuns", json=body).raise_for_status()
        for layer in LAYERS:
            run = self._run_since(layer, since)
            # The asset's event comes with the last task, a moment before the run's end.
            since = datetime.fromisoformat(run["end_date"]) - timedelta(seconds=5)
        self.wait_for("quiet", self.is_quiet)

    def _run_since(self, dag_id: str, since: datetime) -> dict[str, Any]:
        """The first run that began after `since`, when it has succeeded."""

        def ended() -> list[dict[str, Any]]:
            return [
                run
                for run in self.dag_runs(dag_id)
                if run["state"] in ("success", "failed") and datetime.fromisoformat(run["start_date"]) > since
            ]

        self.wait_for(f"run of {dag_id}", lambda: bool(ended()))
        run = ended()[-1]
        if run["state"] != "success":
            path = f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances"
            tasks = self.airflow.get(path).raise_for_status().json()["task_instances"]
            failed = {task["task_id"]: task["state"] for task in tasks if task["state"] != "success"}
            raise AssertionError(f"{dag_id} {run['dag_run_id']}: {failed}; see {self.home.logs}")
        return run

    def is_quiet(self) -> bool:
        return all(run["state"] in ("success", "failed") for dag_id in LAYERS for run in self.dag_runs(dag_id))

    # The tables

    def table(self, name: str) -> DeltaTable:
        return DeltaTable(str(self.home.lake.joinpath(*name.split("."))))

    def rows(self, name: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.table(name).to_pyarrow_table(columns=columns).to_pylist()
        return found

    def versions(self) -> dict[str, int]:
        return {name: self.table(name).version() for name in KEYS}

    def differences_from(self, told: Truth) -> str:
        """What every silver and gold table holds against what it must hold; empty if all is right."""
        expected = expected_tables(told.world, now=int(datetime.now(UTC).timestamp() * 1_000_000))
        texts = (differences(name, expected[name], self.rows(name), KEYS[name]) for name in KEYS)
        return "\n".join(text for text in texts if text)

    def refused(self, topic: str) -> Counter[tuple[bytes | None, str]]:
        """How often each value of a topic is in quarantine, and why."""
        rows = self.rows("ops.quarantine", ["topic", "value", "reason"])
        return Counter((row["value"], row["reason"]) for row in rows if row["topic"] == topic)

    # Waiting

    def wait_for(self, what: str, is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                raise NotInTime(f"after {seconds:.0f} s there is still no {what}; see {self.home.logs}")
            time.sleep(1)

    def wait_for_sources(self, told: Truth) -> None:
        """Until Debezium has captured all rows and the stream has judged all readings."""
        workouts = len(told.world.workout_events) + len(told.refused.get("workout", []))
        self.wait_for("all workouts on their topic", lambda: len(self.messages("workout")) >= workouts)
        changes = len(told.world.profile_changes)

        def captured() -> int:
            return sum(value is not None for value in self.messages("user_profile"))

        self.wait_for("all profile changes on their topic", lambda: captured() >= changes)
        arrived = len(self.messages("bpm"))
        self.wait_for("all readings in bronze", lambda: self.count("bronze.kafka_multiplex", "bpm") >= arrived)
        expected = len(expected_tables(told.world, now=0)["silver.heart_rate"])
        self.wait_for("all readings in silver", lambda: self.count("silver.heart_rate") >= expected)

    def count(self, name: str, topic: str | None = None) -> int:
        path = self.home.lake.joinpath(*name.split("."))
        if not DeltaTable.is_deltatable(str(path)):
            return 0
        partitions = [("topic", "=", topic)] if topic else None
        return int(
            self.table(name).to_pyarrow_table(partitions=partitions, columns=["event_date"] if topic else None).num_rows
        )
