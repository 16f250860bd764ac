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

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from include.kafka.offsets import ends
from include.settings import Settings
from include.stream import heartbeats
from include.stream.act import Budget, Decision, Memory, decide
from include.stream.heartbeats import Document
from include.stream.job import TOPIC, checkpoint_reads, job_name, job_settings, version_of
from include.stream.judge import (
    Cure,
    Desired,
    Limits,
    Observation,
    Run,
    Verdict,
    has_beaten,
    judge,
    lag,
    standing_seconds,
)
from include.stream.platform import Call, StreamJob

log = logging.getLogger(__name__)

KAFKA_TIMEOUT_SECONDS = 5
# What seems to stand still is looked at again within the same supervision, for some seconds at least, as it may just
# have begun to move: so a hang is noticed within 90 s although a supervision comes every minute.
OLD_BEAT_SECONDS, SURE_OF_BEAT_SECONDS = 10, 5
SLOW_BATCH_SECONDS, SURE_OF_BATCH_SECONDS = 15, 15
DAMAGED_LOOKS = 5  # at a heartbeat that cannot be read, 3 s apart: a stream that lives has replaced it by then
MOST_LOOKS = 40
DRAIN_SECONDS = 45  # a batch is to end within this time, else the run is cancelled
ENDING_SECONDS = 4 * DRAIN_SECONDS  # a stream that is asked to end has ended by then, or is not going to


def end_position(kafka: dict[str, str], topic: str = TOPIC) -> int | None:
    """Kafka's end offsets of the topic, summed over its partitions, 0 without it; None when Kafka does not answer."""
    try:
        admin = AdminClient({"socket.timeout.ms": KAFKA_TIMEOUT_SECONDS * 1000, "log_level": 0, **kafka})
        found = admin.list_topics(topic, timeout=KAFKA_TIMEOUT_SECONDS).topics[topic]
        if found.error and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(found.error)
        return sum(ends(admin, ((topic, number) for number in found.partitions), KAFKA_TIMEOUT_SECONDS).values())
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

    `kafka`: configuration of a confluent client, secrets too. `page` wakes the person on call and raises when it could
    not; what nobody has been told of is left for the next look, or for a supervisor that can page.
    """

    settings: Settings
    call: Call
    heartbeat: Document
    kafka: dict[str, str]
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    page: Callable[[Verdict, str], None] | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self.job = StreamJob(self.call, job_name(self.settings))
        self.definition = job_settings(self.settings)
        self.version = version_of(self.definition)
        self._behind = timedelta()  # the driver's clock, compared with ours

    def desired(self) -> Desired:
        return Desired(self.version, self.may_run(), checkpoint_reads())

    def observe(self) -> Observation:
        """Look; and when the heartbeat is damaged or old, or no batch ends, look until that is over or certain."""
        seen = self.look()
        for _ in range(DAMAGED_LOOKS):
            if not seen.heartbeat_error or not self._has_beaten_surely(seen):
                break
            self.sleep(3)
            seen = self.look()
        silence = self.limits.silence
        seen, moved = self._until_sure(seen, _heartbeat_age, OLD_BEAT_SECONDS, silence, SURE_OF_BEAT_SECONDS)
        if moved and (late := _heartbeat_age(seen)) > OLD_BEAT_SECONDS:
            log.warning("The stream has just beaten, %.0f s ago by its own word: its clock is not ours.", late)
            self._behind = timedelta(seconds=late)
            seen = self.look()
        if self._shall_go_on(seen):
            certain = self.limits.no_progress
            seen, _ = self._until_sure(seen, _waited, SLOW_BATCH_SECONDS, certain, SURE_OF_BATCH_SECONDS)
        return seen

    def _has_beaten_surely(self, seen: Observation) -> bool:
        """Whether a run is active that can be expected to have left a heartbeat, readable or not."""
        if not seen.active_runs:
            return False
        age = (seen.now - seen.active_runs[0].started_at).total_seconds()
        return seen.heartbeat_error != heartbeats.NONE_YET or age > self.limits.start_grace

    def _shall_go_on(self, seen: Observation) -> bool:
        """Whether it depends on its next batch what becomes of it: it has written one, is neither silent nor to be
        rolled, and may run."""
        beat = seen.heartbeat
        if beat is None or beat.batch is None or beat.version != self.version:
            return False
        return _heartbeat_age(seen) <= self.limits.silence and self.may_run()

    def _until_sure(
        self,
        seen: Observation,
        standing: Callable[[Observation], float],
        suspicious: float,
        certain: float,
        sure: float,
    ) -> tuple[Observation, bool]:
        """Look again while something has been standing still for `suspicious` seconds, until it moves or has stood for
        `certain` seconds, of which it was looked at for `sure` seconds; and whether it moved."""
        begun, first, moved = seen.now, standing(seen), False
        for _ in range(MOST_LOOKS):
            stands, looked = standing(seen), (seen.now - begun).total_seconds()
            moved = stands - first < looked - 1
            if stands <= suspicious or moved or (stands > certain and looked >= sure):
                break
            self.sleep(max(min(certain - stands + 0.1, 3), 1))
            seen = self.look()
        return seen, moved

    def look(self) -> Observation:
        """One look, which may be at the wrong moment."""
        memory, now = self.recall(), self.clock() - self._behind
        job_id = self.job.find()
        runs = self.job.active_runs(job_id) if job_id is not None else ()
        last_run = self.job.last_run(job_id) if job_id is not None and not runs else ("", "")
        beat, problem = heartbeats.read(self.heartbeat)
        end = end_position(self.kafka)
        away = now if end is None else memory.unanswered_at and min(memory.unanswered_at, now)
        heard = memory.heard[1] if memory.heard and runs and memory.heard[0] == runs[0].run_id else None
        return Observation(now, runs, beat, problem, end, *last_run, away, heard)

    def once(self) -> tuple[Verdict, Decision]:
        """Observe, judge, act, verify; the log tells each. Whatever becomes of the page, the deed is done."""
        seen = self.observe()
        memory = self._noted(seen)
        verdict = judge(self.desired(), seen, self.limits)
        log.info("%s: %s", verdict.state, verdict.reason)
        decision = decide(verdict, memory, self.clock(), self.budget)
        # before the deed: a supervisor that dies in it has spent the try
        self.remember(replace(decision.memory, paged="") if decision.page else decision.memory)
        try:
            if decision.page and self.page:
                self.page(verdict, decision.page)
                self.remember(decision.memory)
        finally:
            if decision.action is Cure.NOTHING:
                log.info("Nothing is done: %s", decision.why)
            else:
                log.warning("%s, because: %s", decision.action, decision.why)
                self.act(decision.action, seen)
        return verdict, decision

    def act(self, action: Cure, seen: Observation) -> None:
        """Start, restart, roll or stop; see that a run came of it, and end it again when it may not run any more."""
        job_id, done = self.job.ensure(self.definition)
        log.info("Job %s is %s.", job_id, done)
        if action in (Cure.ROLL, Cure.STOP):
            self._drain(job_id, seen)
        if action is Cure.RESTART:
            self._cancel(job_id, seen.active_runs)
        if not self.may_run():  # since a moment
            log.warning("Nothing is started.")
            return
        run_id = self._start(job_id, self._token(job_id, seen))
        runs = self.job.active_runs(job_id)
        if not runs:
            raise NothingRuns(f"Run {run_id} was asked for, and no run is active. The next look starts another one.")
        log.info("Run %s was started; active: %s.", run_id, ", ".join(f"{run.run_id} {run.state}" for run in runs))
        if not self.may_run():
            log.warning("The stream was stopped meanwhile; its new run is ended.")
            self._cancel(job_id, runs)

    def stop(self) -> bool:
        """End the stream at a batch's end and keep it so until `start`; whether it has ended."""
        self._write("stopped", self.clock().isoformat())
        return self._end()

    def start(self) -> tuple[Verdict, Decision]:
        """What a person asks for: the stream is wanted, now, and what was tried before does not count."""
        self._write("stopped", "")
        self.remember(replace(self.recall(), starts=(), paged="", taken_over_at=self.clock()))
        return self.resume()

    def may_run(self) -> bool:
        """Whether nobody has stopped the stream, and it does not rest.

        A stop and a pause have documents of their own: a supervision that is under way writes what it remembers, and
        would undo them.
        """
        return not self._read("stopped") and not self.rests()

    def pause(self, seconds: float) -> bool:
        """End the stream at a batch's end and let it rest until `resume`, at most `seconds`; whether it has ended so.

        Of a batch that was broken off some tables may have their part and others not: its driver, started again, writes
        the rest. Until then nobody may write these tables.

        That is another matter than whether it is wanted, and has an end, so that nobody who dies in a pause keeps the
        stream from its work; who dies before it has begun, only for as long as a stream takes to end.
        """
        self._rest(ENDING_SECONDS)
        if not self._end() or not self.rests():
            return False
        beat, problem = heartbeats.read(self.heartbeat)
        ended_well = beat.state == "stopped" if beat else problem == heartbeats.NONE_YET
        if ended_well:
            self._rest(seconds)
        return ended_well

    def resume(self) -> tuple[Verdict, Decision]:
        """The pause is over: the stream runs, if it is wanted."""
        self._write("pause", "")
        return self.once()

    def _rest(self, seconds: float) -> None:
        self._write("pause", (self.clock() + timedelta(seconds=seconds)).isoformat())

    def rests(self) -> bool:
        """Whether there is a pause."""
        try:
            until = datetime.fromisoformat(self._read("pause"))
        except ValueError:
            return False
        if self.clock() >= until:
            return False
        log.info("The stream rests until %s, or until it is resumed.", until)
        return True

    def _end(self) -> bool:
        job_id = self.job.find()
        if job_id is not None:
            self._drain(job_id, self.look())
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

    def _start(self, job_id: int, token: str) -> str:
        try:
            return self.job.start(job_id, token)
        except Exception as error:  # whatever the client raises; the token's run may have been deleted, which spends it
            log.warning("%s; once more under another token.", error)
            return self.job.start(job_id, f"{token}-{self.clock():%m%d%H%M}")

    def _token(self, job_id: int, seen: Observation) -> str:
        """The same for all who saw the same runs, so that two supervisors start one."""
        before = "-".join(run.run_id for run in seen.active_runs) or seen.last_run
        return f"bpm-{self.version}-{job_id}-{before}"

    def _noted(self, seen: Observation) -> Memory:
        """What is remembered, with what only a look can tell."""
        memory = replace(self.recall(), looked_at=self.clock(), unanswered_at=seen.unanswered_at)
        runs = seen.active_runs
        if runs and has_beaten(runs[0], seen.heartbeat):
            return replace(memory, heard=(runs[0].run_id, runs[0].attempt))
        return memory

    def recall(self) -> Memory:
        return recall(self.heartbeat)

    def remember(self, memory: Memory) -> None:
        self._write("supervision", memory.to_json())

    def _read(self, kind: str) -> str:
        try:
            return heartbeats.beside(self.heartbeat, kind).read_text()
        except FileNotFoundError:
            return ""

    def _write(self, kind: str, content: str) -> None:
        document = heartbeats.beside(self.heartbeat, kind)
        if getattr(document, "protocol", "file") == "file":  # a container of objects has no folders to make
            document.parent.mkdir(parents=True, exist_ok=True)
        document.write_text(content)


def _heartbeat_age(seen: Observation) -> float:
    """Seconds since the active run's heartbeat; 0 when it has not beaten yet, which is another matter."""
    beat = seen.heartbeat
    if beat is None or beat.run_id not in {run.run_id for run in seen.active_runs}:
        return 0.0
    return (seen.now - beat.written_at).total_seconds()


def _waited(seen: Observation) -> float:
    """Seconds since a batch ended, while readings wait; 0 when none does."""
    return standing_seconds(seen) if seen.active_runs and lag(seen) else 0.0


def summary(verdict: Verdict, decision: Decision) -> dict[str, Any]:
    """What a log line, an XCom or a terminal shows of one supervision."""
    return {
        "state": str(verdict.state),
        "reason": verdict.reason,
        "action": str(decision.action),
        "page": decision.page,
    }
