"""Where the drills are played: a stack of their own under load, the means to break it, and to see that it is well."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.drills.commits import Log
from bench.drills.drivers import DriverWatch
from include.stream import heartbeats
from local.home import REPO, Home
from local.services import stream
from local.services.part import base_environment
from local.services.parts import PARTS
from local.services.supervisor import Supervisor
from tests.ports import free_port_base
from tests.system.stack import Stack

FRESH_SECONDS = 15.0  # settled, caught up: the newest reading is at most so old when it is committed
PATIENCE_SECONDS = 240.0  # for anything that should happen by itself
POLL_SECONDS = 0.2
LAKE_BYTES = 4 << 30  # of a lake whose disk can be filled
WITHHELD_SECONDS = 12.0  # several batches' time: one that had read the file before may still end
UNEASE = ("stalled", "stopped")  # verdicts with which the supervisor says that it has noticed a hang
FREE_BYTES_WHEN_FULL = 64 << 10
QUIET_DAGS = ("bronze", "quality", "connectors")  # what would start batch jobs; bronze's assets start silver and gold

TABLES = ("bronze/kafka_multiplex", "silver/heart_rate", "gold/bpm_trends")

Say = Callable[[str], None]


class NotInTime(Exception):
    """Something that should have happened by itself did not; the message says what."""


class CannotBeHad(Exception):
    """A drill that this machine does not allow; the message says why."""


@dataclass
class Stage:
    home: Home
    say: Say
    lake_is_mounted: bool = False
    silver: Log = field(init=False)
    logs: list[Log] = field(init=False)  # of the three tables that a batch writes
    drivers: DriverWatch = field(init=False)
    load: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.logs = [Log(self.home.lake / table) for table in TABLES]
        self.silver = self.logs[1]
        self.drivers = DriverWatch(self.home)

    # The load

    @property
    def ledger(self) -> Path:
        return self.home.path / "drills.arrows"

    def start_load(self, seed: int, rate: int) -> None:
        command = [sys.executable, "-m", "bench.drills.load", str(self.ledger)]
        command += ["--bootstrap-servers", self.home.kafka_bootstrap, "--seed", str(seed), "--rate", str(rate)]
        # In a group of its own: Ctrl-C must end the drills first, which then end the load in order.
        with (self.home.logs / "load.log").open("ab") as log:
            self.load = subprocess.Popen(
                command, cwd=REPO, stdin=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )

    def end_load(self) -> bool:
        """Whether Kafka has taken all that was sent."""
        if self.load is None:
            return True
        assert self.load.stdin is not None
        self.load.stdin.close()
        try:
            return self.load.wait(PATIENCE_SECONDS) == 0
        except subprocess.TimeoutExpired:
            self.load.kill()
            return False
        finally:
            self.load = None

    # What is alive

    @cached_property
    def parts(self) -> Supervisor:
        return Supervisor(self.home)

    def pid(self, part: str) -> int:
        """As `./fitness status --json` tells it."""
        pid = stream.process_id(self.home) if part == stream.NAME else self.parts.processes()[part].pid
        if pid is None:
            raise NotInTime(f"{part} does not run")
        return pid

    def part_is_back(self, name: str, other_than: int) -> bool:
        """Whether a new process does the part's work."""
        process = self.parts.processes().get(name)
        if process is None or process.pid in (None, other_than):
            return False
        return PARTS[name].ready(self.home, process.started_at) is None

    def driver(self) -> list[psutil.Process]:
        """The processes of the stream's driver: Python first, then what it started (its JVM, Python workers)."""
        python = psutil.Process(self.pid(stream.NAME))
        return [python, *python.children(recursive=True)]

    def send(self, processes: list[psutil.Process], number: signal.Signals) -> None:
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    @property
    def heartbeat(self) -> Path:
        return self.home.heartbeats / "bpm.json"

    @property
    def checkpoint(self) -> Path:
        return self.home.checkpoints / "bpm"

    def supervision(self) -> list[dict[str, str]]:
        """The supervisor's changes of verdict, oldest first."""
        with stream.supervision(self.home) as supervisor:
            return list(supervisor.recall().changes)

    def supervise(self) -> subprocess.Popen[str]:
        """Start one supervision, as `bpm_stream` does every minute."""
        return subprocess.Popen(
            [sys.executable, "-m", "include.stream", "supervise"],
            env=base_environment(self.home) | self.home.secret_environment,
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def job(self) -> Iterator[tuple[Any, int]]:
        """The stream's job on the platform, and its id."""
        with stream.supervision(self.home) as supervisor:
            job_id = supervisor.job.find()
            if job_id is None:
                raise NotInTime("the stream's job does not exist")
            yield supervisor.job, job_id

    def runs(self) -> list[str]:
        """Runs of the stream's job, newest first."""
        with self.job() as (job, job_id):
            return [str(run["run_id"]) for run in job._pages("2.2/jobs/runs/list", "runs", {"job_id": job_id})]

    # Waiting

    def wait_for[T](self, what: str, look: Callable[[], T | None], seconds: float = PATIENCE_SECONDS) -> T:
        """What `look` answers, once it is neither None nor False. Raises NotInTime."""
        deadline = time.monotonic() + seconds
        while not (answer := look()):
            if time.monotonic() > deadline:
                raise NotInTime(f"no {what} within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        return answer

    def is_settled(self) -> bool:
        """The stream runs and its last two batches had the readings of a moment before: what waited is drained."""
        beat, _ = heartbeats.read(self.heartbeat)
        return (
            beat is not None
            and beat.state == "running"
            and time.time() - beat.written_at.timestamp() < FRESH_SECONDS
            and time.time() - self.silver.newest_reading() < FRESH_SECONDS
            and self.silver.lag(batches=2) < FRESH_SECONDS
        )

    def settle(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Until nothing is left of what was played before: in the supervisor's word too, or the same word on the next
        fault would be no change of its verdict."""
        self.wait_for("settled stream", self.is_settled, seconds)
        self.wait_for("supervisor at ease", self.is_supervisor_at_ease, seconds)

    def is_supervisor_at_ease(self) -> bool:
        return all(said["state"] not in UNEASE for said in self.supervision()[-1:])

    def recovered(self, since: float, seconds: float = PATIENCE_SECONDS) -> float:
        """When silver.heart_rate got the first commit that holds a reading of after `since`."""
        what = "commit with newer readings"
        return self.wait_for(what, lambda: self.silver.first_with_news(since), seconds).at

    def first_commit(self, since: float) -> float | None:
        """When the stream first committed anything to any of its tables after `since`."""
        return min((commit.at for log in self.logs if (commit := log.first_of_batch(since))), default=None)

    def drained(self) -> bool:
        """All that the topic holds was read, by the stream's own word. Only without load."""
        with stream.supervision(self.home) as supervisor:
            seen = supervisor.observe()
        return seen.heartbeat is not None and seen.end_position == seen.heartbeat.position

    # The lake's disk

    def fill_disk(self) -> None:
        if not self.lake_is_mounted:
            raise CannotBeHad("the lake is on the machine's own disk, which is not filled")
        used = shutil.disk_usage(self.home.lake).used
        _mount("-o", f"remount,size={used + FREE_BYTES_WHEN_FULL}", self.home.lake)

    def free_disk(self) -> None:
        _mount("-o", f"remount,size={LAKE_BYTES}", self.home.lake)

    @contextmanager
    def withheld(self, log: Log) -> Iterator[str]:
        """Whoever opens one of the files that a table was last given waits for ever, as for a storage that does not
        answer; yields a word about them once the table's next commit stays away."""
        while (commit := log.look()[-1]).added:
            with ExitStack() as given_back:
                for name in commit.added:
                    given_back.enter_context(_withheld_file(log.table / name))
                time.sleep(WITHHELD_SECONDS)
                if log.look()[-1] is commit:
                    yield f"{len(commit.added)} files of {log.table.name}"
                    return
        raise NotInTime(f"the newest commit of {log.table.name} adds no file")

    # Airflow

    def pause_batch_jobs(self) -> None:
        client = Stack(self.home).airflow
        for dag in QUIET_DAGS:
            path = f"/api/v2/dags/{dag}"
            self.wait_for(f"DAG {dag}", functools.partial(_is_there, client, path))
            client.patch(path, json={"is_paused": True}).raise_for_status()


@contextmanager
def stage(say: Say, keep: bool, mount_lake: bool, batch_jobs: bool) -> Iterator[Stage]:
    """A running stack in a temporary home on free ports; all of it is ended, whatever happens."""
    home = Home(Path(tempfile.mkdtemp(prefix="fitness-drills-")), free_port_base())
    on = Stage(home, say)
    stack = Stack(home)
    with ExitStack() as at_the_end:  # backwards, each whatever becomes of the others
        if keep:
            mounted = f" (when you are done with it: umount {home.lake})" if mount_lake else ""
            at_the_end.callback(say, f"the home is kept: {home.path}{mounted}")
        else:
            at_the_end.callback(shutil.rmtree, home.path, ignore_errors=True)
        if mount_lake:
            try:
                mount_lake_of(home)
                on.lake_is_mounted = True
                if not keep:
                    at_the_end.callback(subprocess.run, ["umount", "-l", str(home.lake)], check=False)
                at_the_end.callback(on.free_disk)
            except CannotBeHad as why:
                say(f"no disk to fill: {why}")
        say(f"starting a stack in {home.path}, ports from {home.port_base}")
        at_the_end.callback(stack.fitness, "down", check=False)
        at_the_end.callback(say, "stopping the stack")
        stack.fitness("up", "--no-simulator")
        if not batch_jobs:
            on.pause_batch_jobs()
        at_the_end.callback(on.end_load)
        on.drivers.start()
        at_the_end.callback(on.drivers.stop)
        yield on


def mount_lake_of(home: Home) -> None:
    """A disk in memory for the lake alone, whose size can be changed while it is used: full is truly full, and no other
    disk suffers. Takes memory only for what it holds. Raises CannotBeHad."""
    if os.geteuid() != 0:
        raise CannotBeHad("only root may mount one")
    home.lake.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={LAKE_BYTES}", "fitness-drills", home.lake)


@contextmanager
def _withheld_file(file: Path) -> Iterator[None]:
    """A pipe that nobody writes stands in its place; what is open already stays so."""
    kept, pipe = (file.with_name(f".{kind}.{file.name}") for kind in ("kept", "pipe"))
    os.link(file, kept)
    os.mkfifo(pipe)
    pipe.replace(file)
    try:
        yield
    finally:
        kept.replace(file)


def _mount(*arguments: str | Path) -> None:
    try:
        run = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CannotBeHad("there is no `mount`") from error
    if run.returncode:
        raise CannotBeHad(run.stderr.strip())


def _is_there(client: httpx.Client, path: str) -> bool:
    return client.get(path).is_success


def moment(text: str) -> float:
    """Epoch seconds of an ISO time."""
    return datetime.fromisoformat(text).timestamp()
