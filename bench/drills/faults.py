"""The drills: what is broken, and what must follow without a person. Each leaves the stack as it found it."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import psutil

from bench.drills.commits import Commit
from bench.drills.drivers import attempts
from bench.drills.stage import FRESH_SECONDS, UNEASE, NotInTime, Stage, moment
from local.services import stream

FULL_SECONDS = 30.0
KAFKA_AWAY_SECONDS = 60.0
HANG_PATIENCE_SECONDS = 300.0
BETWEEN_COPIES_SECONDS = 20.0


@dataclass
class Played:
    """What one drill took. Moments are epoch seconds, None where a drill has no such thing."""

    drill: str
    broken_at: float = 0.0
    mended_at: float = 0.0  # when the fault itself was over: at once for a kill, when Kafka was started again, ...
    committed_at: float | None = None  # the first commit of any table after `mended_at`
    recovered_at: float | None = None  # the first commit of silver.heart_rate with a reading of after `mended_at`
    noticed_at: float | None = None  # by the supervisor
    part_back_at: float | None = None  # the killed part does its work again
    started_twice: int = 0
    detail: str = ""
    failure: str = ""

    @property
    def recovery_seconds(self) -> float | None:
        return None if self.recovered_at is None else max(self.recovered_at - self.mended_at, 0.0)

    @property
    def commit_seconds(self) -> float | None:
        return None if self.committed_at is None else max(self.committed_at - self.mended_at, 0.0)

    @property
    def noticed_seconds(self) -> float | None:
        return None if self.noticed_at is None else self.noticed_at - self.broken_at

    @property
    def part_back_seconds(self) -> float | None:
        return None if self.part_back_at is None else self.part_back_at - self.broken_at


@dataclass(frozen=True)
class Setting:
    outage_seconds: float = 600.0


Play = Callable[[Stage, random.Random, Played, Setting], None]


@dataclass(frozen=True)
class Drill:
    name: str
    play: Play
    is_kill: bool = False

    @property
    def about(self) -> str:
        return (self.play.__doc__ or "").split("\n")[0]


def _now_broken(played: Played) -> float:
    played.broken_at = played.mended_at = time.time()
    return played.broken_at


# Kills ----------------------------------------------------------------------------------------------------------------


def kill_driver(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """kill -9 of the stream's driver: its Python, its JVM, or both"""
    victim = rng.choice(("python", "jvm", "both"))
    driver = on.driver()
    victims = {
        "python": driver[:1],
        "jvm": [process for process in driver if process.name() == "java"],
        "both": driver,
    }[victim]
    played.detail = victim
    _now_broken(played)
    on.send(victims, signal.SIGKILL)
    played.recovered_at = on.recovered(played.broken_at)
    # A JVM that lost its Python may still commit what it had under way: that is no recovery.
    played.committed_at = on.first_commit(max(span.begun for span in attempts(on.home)))


def kill_part(part: str) -> Play:
    def play(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
        pid = on.pid(part)
        victim = psutil.Process(pid)
        _now_broken(played)
        victim.kill()
        on.wait_for(f"{part} that works again", lambda: on.part_is_back(part, pid))
        played.part_back_at = time.time()
        played.recovered_at = on.recovered(played.broken_at)

    play.__doc__ = f"kill -9 of {part}"
    return play


# What is not a kill ---------------------------------------------------------------------------------------------------


def _noticed(on: Stage, since: float) -> float:
    """When the supervisor first said that the stream does not do its work."""

    def word() -> float | None:
        after = (moment(change["at"]) for change in on.supervision() if change["state"] in UNEASE)
        return next((at for at in after if at > since), None)

    return on.wait_for("word of the supervisor", word, HANG_PATIENCE_SECONDS)


def hang(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """SIGSTOP of the driver: it lives and does nothing"""
    driver = on.driver()
    _now_broken(played)
    on.send(driver, signal.SIGSTOP)
    try:
        played.noticed_at = _noticed(on, played.broken_at)
        played.recovered_at = on.recovered(played.broken_at)
    finally:
        on.send(driver, signal.SIGCONT)  # of those that are still there


def batch_hang(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """a file of gold.bpm_trends is not answered for: a batch hangs in its MERGE, and its driver beats"""
    _, _, trends = on.logs
    with on.withheld(trends) as played.detail:
        played.broken_at = played.mended_at = trends.look()[-1].at  # the batch after this one hangs
        played.noticed_at = _noticed(on, played.broken_at)
        played.mended_at = time.time()
    played.recovered_at = on.recovered(played.mended_at)  # silver is written before it hangs


def kafka_away(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """Kafka is stopped for a minute"""
    _now_broken(played)
    on.parts.stop("kafka")
    try:
        time.sleep(KAFKA_AWAY_SECONDS)
    finally:
        on.parts.start_part("kafka")
        played.mended_at = time.time()
    on.wait_for("Kafka that works again", lambda: on.part_is_back("kafka", 0))
    played.part_back_at = time.time()
    played.recovered_at = on.recovered(played.mended_at)


def disk_full(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """the disk of the lake is full for half a minute"""
    on.fill_disk()
    _now_broken(played)
    try:
        time.sleep(FULL_SECONDS)
        held_out = time.time() - on.silver.newest_reading() < FRESH_SECONDS
    finally:
        on.free_disk()
        played.mended_at = time.time()
    if held_out:
        raise NotInTime("the stream went on writing: the disk was not full")
    played.recovered_at = on.recovered(played.mended_at)


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda whole, rng: b"",
    "cut": lambda whole, rng: whole[: rng.randrange(1, len(whole) - 1)],
    "noise": lambda whole, rng: rng.randbytes(len(whole)),
    "zeros": lambda whole, rng: bytes(len(whole)),
    "other": lambda whole, rng: b'{"format": 1, "window": 7}',
    "list": lambda whole, rng: b"[]",
}


def _damage_heartbeat(on: Stage, rng: random.Random) -> str:
    """Right after it was written, so that it stays damaged for as long as it can."""
    written = on.heartbeat.stat().st_mtime_ns
    on.wait_for("fresh heartbeat", lambda: on.heartbeat.stat().st_mtime_ns != written)
    kind = rng.choice(list(DAMAGE))
    on.heartbeat.write_bytes(DAMAGE[kind](on.heartbeat.read_bytes(), rng))
    return kind


def heartbeat_damaged(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """the newest heartbeat is damaged while a supervisor looks: nothing may be restarted"""
    before = on.pid(stream.NAME), on.runs()
    played.detail = _damage_heartbeat(on, rng)
    _now_broken(played)
    with stream.supervision(on.home) as supervisor:
        verdict, decision = supervisor.once()
    played.detail += f": {verdict.state}, {decision.action}"
    played.recovered_at = on.recovered(played.broken_at)
    on.settle()
    if (on.pid(stream.NAME), on.runs()) != before:
        played.failure = "a healthy stream was restarted"


def heartbeat_damaged_and_driver_killed(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """the newest heartbeat is damaged and the driver killed: the new one begins with it"""
    driver = on.driver()
    played.detail = _damage_heartbeat(on, rng)
    _now_broken(played)
    on.send(driver, signal.SIGKILL)
    played.recovered_at = on.recovered(played.broken_at)


def two_supervisors(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """the run is gone and two supervisors look at once, beside Airflow's: one run may come of it"""
    before = on.runs()
    _now_broken(played)
    with on.job() as (job, job_id):
        job.cancel(before[0])
        on.wait_for("end of the run", lambda: not job.active_runs(job_id))
        started = time.time()
        supervisors = [on.supervise(), on.supervise()]
        told = [supervisor.communicate(timeout=120)[0].strip().splitlines()[-1:] for supervisor in supervisors]
    new = set(on.runs()) - set(before)
    played.started_twice = max(len(new) - 1, 0)
    played.mended_at = started
    played.recovered_at = on.recovered(played.broken_at)
    played.detail = f"{len(new)} run"
    if len(new) != 1:
        played.failure = f"{len(new)} runs were started: {told}"


def _copy_if_there(source: str, target: str) -> None:
    with suppress(FileNotFoundError):  # the stream writes beside it
        shutil.copyfile(source, target)


def older_checkpoint(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """a copy of the checkpoint of some seconds ago is put back: its next batches have numbers that were used"""
    checkpoint, copy = on.checkpoint, on.checkpoint.with_suffix(".copy")
    shutil.copytree(checkpoint, copy, copy_function=_copy_if_there)
    time.sleep(BETWEEN_COPIES_SECONDS)
    with stream.supervision(on.home) as supervisor:
        supervisor.stop()
        shutil.rmtree(checkpoint)
        copy.rename(checkpoint)
        _now_broken(played)
        supervisor.start()
    played.recovered_at = on.recovered(played.broken_at)


def outage(on: Stage, rng: random.Random, played: Played, setting: Setting) -> None:
    """the stream is away for ten minutes (--outage-seconds); recovered = it has caught up with the load"""

    def caught_up() -> Commit | None:
        new = (commit for commit in on.silver.look() if commit.at > played.mended_at)
        return next((commit for commit in new if commit.at - commit.newest < FRESH_SECONDS), None)

    _now_broken(played)
    with stream.supervision(on.home) as supervisor:
        supervisor.stop()
        try:
            time.sleep(max(setting.outage_seconds - (time.time() - played.broken_at), 0))
        finally:
            played.mended_at = time.time()
            supervisor.start()
    played.recovered_at = on.wait_for("catching up", caught_up).at
    played.detail = f"away for {played.mended_at - played.broken_at:.0f} s"


KILLS = (
    Drill("driver", kill_driver, is_kill=True),
    Drill("kafka", kill_part("kafka"), is_kill=True),
    Drill("workspace", kill_part("workspace"), is_kill=True),
    Drill("scheduler", kill_part("airflow_scheduler"), is_kill=True),
    Drill("triggerer", kill_part("airflow_triggerer"), is_kill=True),
)
FAULTS = (
    Drill("hang", hang),
    Drill("batch-hang", batch_hang),
    Drill("kafka-away", kafka_away),
    Drill("disk-full", disk_full),
    Drill("heartbeat", heartbeat_damaged),
    Drill("heartbeat-and-driver", heartbeat_damaged_and_driver_killed),
    Drill("two-supervisors", two_supervisors),
    Drill("older-checkpoint", older_checkpoint),
    Drill("outage", outage),
)
DRILLS = {drill.name: drill for drill in (*KILLS, *FAULTS)}


def plan(seed: int, kills: int, names: list[str]) -> list[Drill]:
    """The kills, shared out evenly and shuffled by the seed, then each other drill of `names` once."""
    rng = random.Random(seed)
    chosen = [drill for drill in KILLS if drill.name in names]
    drills = [chosen[number % len(chosen)] for number in range(kills)] if chosen else []
    rng.shuffle(drills)
    return drills + [drill for drill in FAULTS if drill.name in names]


def forget_tries(on: Stage) -> None:
    """So that one drill does not spend the restarts of the next: as if they were an hour apart."""
    with stream.supervision(on.home) as supervisor:
        supervisor.remember(replace(supervisor.recall(), starts=(), paged=""))
