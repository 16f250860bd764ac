"""Observe -> judge -> act -> verify, once. Airflow's DAG calls this every minute, `./fitness up` when it starts.

Everything that is decided lies in `judge.py` and `act.py`; this is the edge: the platform, Kafka, the documents.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from include.kafka.offsets import ends
from include.settings import Settings
from include.stream import heartbeats
from include.stream.act import Budget, Decision, Memory, decide
from include.stream.heartbeats import Document
from include.stream.job import TOPIC, checkpoint_reads, job_name, job_settings, version_of
from include.stream.judge import Cure, Desired, Limits, Observation, Run, Verdict, judge
from include.stream.platform import Call, StreamJob

log = logging.getLogger(__name__)

KAFKA_TIMEOUT_SECONDS = 5
SUSPICIOUS_SECONDS = 10  # a heartbeat this old is looked at again before this run ends, not a minute later
DAMAGED_LOOKS = 5  # at a heartbeat that cannot be read, 3 s apart: a stream that lives has replaced it by then
DRAIN_SECONDS = 45  # a batch is to end within this time, else the run is cancelled


def end_position(kafka: dict[str, str], topic: str = TOPIC) -> int | None:
    """Kafka's end offsets of the topic, summed over its partitions; None when Kafka does not answer."""
    admin = AdminClient({"socket.timeout.ms": KAFKA_TIMEOUT_SECONDS * 1000, "log_level": 0, **kafka})
    try:
        partitions = admin.list_topics(topic, timeout=KAFKA_TIMEOUT_SECONDS).topics[topic].partitions
        return sum(ends(admin, ((topic, number) for number in partitions), KAFKA_TIMEOUT_SECONDS).values())
    except (KafkaException, TimeoutError) as error:
        log.warning("Kafka does not answer: %s", error)
        return None


class NothingRuns(RuntimeError):
    """A start was asked for, and nothing came of it."""


def recall(heartbeat: Document) -> Memory:
    """What was remembered. When it is damaged, nothing: the worst that follows is a start or a page too many."""
    try:
        return Memory.from_json(heartbeats.beside(heartbeat, "supervision").read_text())
    except FileNotFoundError:
        return Memory()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("What was remembered cannot be read and is forgotten: %s", error)
        return Memory()


@dataclass
class Supervisor:
    """One look at the stream and what follows from it.

    `kafka`: configuration of a confluent client, secrets too. `pages`: whether the caller wakes somebody when it is
    told to; what nobody is told of is left for one who does.
    """

    settings: Settings
    call: Call
    heartbeat: Document
    kafka: dict[str, str]
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    pages: bool = True
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.job = StreamJob(self.call, job_name(self.settings))
        self.definition = job_settings(self.settings)

    def desired(self, memory: Memory) -> Desired:
        return Desired(version_of(self.definition), memory.wanted and not self.rests(), checkpoint_reads())

    def observe(self) -> Observation:
        """Look; and when the heartbeat is damaged or suspiciously old, look again until it beats or that is certain."""
        seen = self._look()
        for _ in range(DAMAGED_LOOKS):
            if not seen.active_runs or seen.heartbeat_error in ("", heartbeats.NONE_YET):
                break
            self.sleep(3)
            seen = self._look()
        while seen.active_runs and SUSPICIOUS_SECONDS < (age := _heartbeat_age(seen)) <= self.limits.silence:
            self.sleep(min(self.limits.silence - age, 3) + 0.1)
            seen = self._look()
        return seen

    def _look(self) -> Observation:
        job_id = self.job.find()
        runs = self.job.active_runs(job_id) if job_id is not None else ()
        last_run = self.job.last_run(job_id) if job_id is not None and not runs else ("", "")
        beat, problem = heartbeats.read(self.heartbeat)
        return Observation(self.clock(), runs, beat, problem, end_position(self.kafka), *last_run)

    def once(self) -> tuple[Verdict, Decision]:
        """Observe, judge, act, verify; the log tells each."""
        memory = self.recall()
        seen = self.observe()
        verdict = judge(self.desired(memory), seen, self.limits)
        log.info("%s: %s", verdict.state, verdict.reason)
        decision = decide(verdict, memory, seen.now, self.budget)
        if not self.pages:
            decision = replace(decision, memory=replace(decision.memory, paged=memory.paged))
        self.remember(decision.memory)  # before the deed: a supervisor that dies in it has spent the try
        if decision.action is Cure.NOTHING:
            log.info("Nothing is done: %s", decision.why)
        else:
            self.act(decision.action, seen)
        return verdict, decision

    def act(self, action: Cure, seen: Observation) -> None:
        """Start, restart or roll, and see that a run came of it."""
        log.warning("%s, because: %s", action, judge(self.desired(self.recall()), seen, self.limits).reason)
        job_id, done = self.job.ensure(self.definition)
        log.info("Job %s is %s.", job_id, done)
        if action is Cure.ROLL:
            self._drain(job_id, seen)
        if action is Cure.RESTART:
            self._cancel(job_id, seen.active_runs)
        if self.rests():  # since a moment
            log.warning("Nothing is started.")
            return
        run_id = self.job.start(job_id, self._token(seen))
        runs = self.job.active_runs(job_id)
        if not runs:
            raise NothingRuns(f"Run {run_id} was asked for, and no run is active. The next look starts another one.")
        log.info("Run %s was started; active: %s.", run_id, ", ".join(f"{run.run_id} {run.state}" for run in runs))

    def stop(self) -> bool:
        """End the stream at a batch's end and keep it so until `start`; whether it has ended."""
        self.remember(replace(self.recall(), wanted=False))
        return self._end()

    def start(self) -> tuple[Verdict, Decision]:
        """What a person asks for: the stream is wanted, now, and what was tried before does not count."""
        self.remember(replace(self.recall(), wanted=True, starts=(), paged=""))
        return self.resume()

    def pause(self, seconds: float) -> bool:
        """End the stream at a batch's end and let it rest until `resume`, at most `seconds`; whether it has ended.

        That is another matter than whether it is wanted. It has a document of its own, which a supervision that is
        under way does not write, and an end, so that nobody who dies in a pause keeps the stream from its work.
        """
        self._write("pause", (self.clock() + timedelta(seconds=seconds)).isoformat())
        return self._end()

    def resume(self) -> tuple[Verdict, Decision]:
        """The pause is over: the stream runs, if it is wanted."""
        self._write("pause", "")
        return self.once()

    def rests(self) -> bool:
        """Whether there is a pause."""
        try:
            until = datetime.fromisoformat(heartbeats.beside(self.heartbeat, "pause").read_text())
        except (FileNotFoundError, ValueError):
            return False
        if self.clock() >= until:
            return False
        log.info("The stream rests until %s, or until it is resumed.", until)
        return True

    def _end(self) -> bool:
        job_id = self.job.find()
        if job_id is not None:
            self._drain(job_id, self._look())
        return job_id is None or not self.job.active_runs(job_id)

    def _drain(self, job_id: int, seen: Observation) -> None:
        """End the runs that were seen, at a batch's end if they can. What another supervisor started since, stays."""
        if seen.heartbeat is not None:
            heartbeats.request_stop(self.heartbeat, seen.heartbeat.epoch)
            if self.job.wait_until_ended(job_id, seen.active_runs, DRAIN_SECONDS, self.sleep):
                return
            log.warning("The stream did not end within %d s of being asked; it is cancelled.", DRAIN_SECONDS)
        self._cancel(job_id, seen.active_runs)

    def _cancel(self, job_id: int, runs: Sequence[Run]) -> None:
        for run in runs:
            self.job.cancel(run.run_id)
        if not self.job.wait_until_ended(job_id, runs, DRAIN_SECONDS, self.sleep):
            log.warning("A cancelled run is still active; the next look will deal with it.")

    def _token(self, seen: Observation) -> str:
        """The same for all who saw the same runs, so that two supervisors start one."""
        before = "-".join(run.run_id for run in seen.active_runs) or seen.last_run
        return f"bpm-{version_of(self.definition)}-after-{before}"

    def recall(self) -> Memory:
        return recall(self.heartbeat)

    def remember(self, memory: Memory) -> None:
        self._write("supervision", memory.to_json())

    def _write(self, kind: str, content: str) -> None:
        document = heartbeats.beside(self.heartbeat, kind)
        if hasattr(document.parent, "mkdir"):
            document.parent.mkdir(parents=True, exist_ok=True)
        document.write_text(content)


def _heartbeat_age(seen: Observation) -> float:
    """Seconds since the active run's heartbeat; 0 when it has not beaten yet, which is another matter."""
    beat = seen.heartbeat
    if beat is None or beat.run_id not in {run.run_id for run in seen.active_runs}:
        return 0.0
    return (seen.now - beat.written_at).total_seconds()


def summary(verdict: Verdict, decision: Decision) -> dict[str, Any]:
    """What a log line, an XCom or a terminal shows of one supervision."""
    return {
        "state": str(verdict.state),
        "reason": verdict.reason,
        "action": str(decision.action),
        "page": decision.page,
    }
