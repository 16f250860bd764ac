"""What is the matter with the stream? A pure function from what was observed to one verdict with its reason.

Lag is judged by the shape of a window, never by one threshold (the idea is Burrow's): a stream that is a million
readings behind and gaining is fine, one that is ten behind and has not moved for a minute is not. The measure used is
`behind_seconds`: how long ago everything that the stream has read by now was everything there was.

`RULES` is read from top to bottom and the first rule that answers wins, so each rule may assume that those above it
were silent. What to do about a verdict is decided in `act.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

ENDING = "TERMINATING"  # the platform's word for a run that was cancelled and has not ended


class State(StrEnum):
    """The closed set of verdicts."""

    HEALTHY = "healthy"
    STARTING = "starting"
    CATCHING_UP = "catching_up"
    STALLED = "stalled"
    STOPPED = "stopped"
    REWOUND = "rewound"
    DUPLICATED = "duplicated"
    OUTDATED = "outdated"
    FAILING = "failing"


class Cure(StrEnum):
    """What would help, if anything does: the judge names it, the restart budget decides whether it is done now."""

    NOTHING = "nothing"  # it is well, or on its way to be
    START = "start"
    RESTART = "restart"  # cancel what runs, start anew
    ROLL = "roll"  # graceful stop at a batch's end, then start the desired version on the same checkpoint
    STOP = "stop"  # graceful stop at a batch's end, and nothing after it
    PAGE = "page"  # no restart would help: a person must look


@dataclass(frozen=True)
class Verdict:
    state: State
    reason: str
    cure: Cure = Cure.NOTHING


@dataclass(frozen=True)
class Sample:
    """The stream at one moment, when it looked for what is new or somebody looked at it. `position` and `latest` are
    offsets summed over the partitions of the topic: how far the stream had read and committed, and how far the topic
    went (None: not known then)."""

    at: datetime
    epoch: int
    position: int
    latest: int | None

    @property
    def lag(self) -> int | None:
        """Readings not yet in the tables."""
        return None if self.latest is None else max(0, self.latest - self.position)


@dataclass(frozen=True)
class Heartbeat:
    """The stream's own word about itself; `window` is oldest first and survives restarts.

    `latest` is the topic's end when the newest batch began. `progressed_at`: when the query last wrote a batch or found
    nothing to read; a driver beats for as long as it lives, whatever its batch does.
    """

    version: str
    run_id: str
    epoch: int
    state: str  # starting, running, failed, paused, stopped
    reason: str
    written_at: datetime
    batch: int | None
    position: int
    latest: int | None
    checkpoint_version: int
    progressed_at: datetime | None = None
    crashes: tuple[datetime, ...] = ()  # starts that followed on a run which did not end well, oldest first
    window: tuple[Sample, ...] = ()
    document: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Run:
    """One active run of the job as the platform tells it. `attempt` counts the platform's own retries from 0."""

    run_id: str
    state: str  # PENDING, QUEUED, RUNNING, TERMINATING, ...
    started_at: datetime
    attempt: int = 0


@dataclass(frozen=True)
class Observation:
    """Everything the judge may know."""

    now: datetime
    active_runs: tuple[Run, ...]
    heartbeat: Heartbeat | None
    heartbeat_error: str = ""  # why there is none, when a document is there but cannot be read
    end_position: int | None = None  # sum of Kafka's end offsets, None: Kafka did not answer
    last_run: str = ""  # with no run active: the newest that ended
    last_result: str = ""  # and how it ended
    unanswered_at: datetime | None = None  # when Kafka last did not answer
    heard_attempt: int | None = None  # the newest attempt of the active run that was seen to beat


@dataclass(frozen=True)
class Desired:
    """What should be: `version` names code and job definition, `checkpoint_reads` the checkpoints it can take over."""

    version: str
    running: bool = True
    checkpoint_reads: frozenset[int] = frozenset({1})


@dataclass(frozen=True)
class Limits:
    """Seconds, unless the name says otherwise."""

    pending: float = 1800  # for the platform to make a cluster, or to end a run
    start_grace: float = 300  # from the start of its latest attempt to its first heartbeat; busy machines are slow
    silence: float = 45  # a heartbeat is written every few seconds, also when there is nothing to read
    no_progress: float = 75  # alive, readings waiting, position unmoved; the largest batch took 30 on a slow machine
    first_batch: float = 150  # the same for the first batch of a run, which is cold and has the most to read
    no_answer: float = 180  # of Kafka, to the stream and to us; or of a run, one attempt after the other
    behind: float = 30  # still healthy
    falling_behind: float = 180  # lag that only grew for so long
    clock_step: float = 10  # a clock that goes back by more has been set
    crash_window: float = 600
    crashes: int = 4  # within crash_window, they make a crash loop


def judge(desired: Desired, seen: Observation, limits: Limits | None = None) -> Verdict:
    """The first rule that answers, or healthy."""
    for rule in RULES:
        if verdict := rule(desired, seen, limits or Limits()):
            return verdict
    return Verdict(State.HEALTHY, _progress(seen))


def samples(seen: Observation) -> Sequence[Sample]:
    """The heartbeat's window closed by what was just observed from outside."""
    beat = seen.heartbeat
    return () if beat is None else (*beat.window, Sample(seen.now, beat.epoch, beat.position, seen.end_position))


def behind_seconds(window: Sequence[Sample]) -> float:
    """Age of the newest moment at which there was no more to read than has been read by now; infinite when the window
    holds none, 0 for an empty window."""
    if not window:
        return 0.0
    here = window[-1]
    for sample in reversed(window):
        if sample.latest is not None and sample.latest <= here.position:
            return (here.at - sample.at).total_seconds()
    return math.inf


def has_beaten(run: Run, beat: Heartbeat | None) -> bool:
    """Whether the heartbeat is of the run's newest attempt."""
    return beat is not None and _is_from(beat, run) and beat.written_at >= run.started_at


def lag(seen: Observation) -> int | None:
    """Readings not yet in the tables, as far as Kafka and the stream say now."""
    window = samples(seen)
    return window[-1].lag if window else None


def standing_seconds(seen: Observation) -> float:
    """For how long the stream has had something to read, as far as anybody knows, and has read nothing."""
    beat = seen.heartbeat
    if beat is None:
        return 0.0
    standing = (sample for sample in beat.window if sample.epoch == beat.epoch and sample.position == beat.position)
    waiting = [sample.at for sample in standing if sample.lag]
    since = min((*waiting[:1], beat.progressed_at or seen.now))
    if seen.end_position is not None and seen.unanswered_at:  # Kafka has come back: from now on it can read
        since = max(since, seen.unanswered_at)
    return (seen.now - since).total_seconds()


# --- the rules, in order ---------------------------------------------------------------------------------------------

Rule = Callable[[Desired, Observation, Limits], Verdict | None]


def _stop_wanted(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    if desired.running:
        return None
    if seen.active_runs:
        return Verdict(State.STOPPED, f"A stop is wanted; run {seen.active_runs[0].run_id} still runs.", Cure.STOP)
    return Verdict(State.STOPPED, "Stopped, as wanted.")


def _two_runs(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    runs = [run.run_id for run in seen.active_runs if run.state != ENDING]
    if len(runs) > 1:
        return Verdict(State.DUPLICATED, f"{len(runs)} runs are active ({', '.join(runs)}).", Cure.RESTART)
    return None


def _no_run(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    if seen.active_runs:
        return None
    if not _can_take_checkpoint(desired, seen.heartbeat):
        return _refused_upgrade(desired, seen.heartbeat, "no run is active")
    ended = f"; the run before ended {seen.last_result}" if seen.last_result else ""
    return Verdict(State.STOPPED, f"No run is active{ended}.", Cure.START)


def _ends(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    """Until it has ended no other run can be started."""
    run, beat = seen.active_runs[0], seen.heartbeat
    if run.state != ENDING:
        return None
    since = run.started_at if beat is None or beat.written_at < run.started_at else beat.written_at
    if (seconds := (seen.now - since).total_seconds()) > limits.pending:
        return Verdict(State.FAILING, f"The platform has been ending run {run.run_id} for {seconds:.0f} s.", Cure.PAGE)
    return Verdict(State.STOPPED, f"The platform ends run {run.run_id}; then another one is started.")


def _another_run_beats(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    """A run that the platform does not know writes heartbeats after ours did: one of the two must go, and the fence
    decides which; a restart makes the survivor ours."""
    beat, run = seen.heartbeat, seen.active_runs[0]
    if beat is None or _is_from(beat, run) or _age(beat, seen) > limits.silence or beat.written_at < run.started_at:
        return None
    if (seen.now - run.started_at).total_seconds() <= limits.start_grace:
        return None  # the one that goes may still be finishing its batch
    reason = f"Run {beat.run_id}, which the platform does not list, beats beside run {run.run_id}."
    return Verdict(State.DUPLICATED, reason, Cure.RESTART)


def _clock_went_back(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    """Spark begins the next batch at a time of day that it has named, which now is far off, and every age is wrong."""
    beat, run = seen.heartbeat, seen.active_runs[0]
    if beat is None or beat.progressed_at is None or not _is_from(beat, run) or beat.state != "running":
        return None
    ahead = (beat.progressed_at - beat.written_at).total_seconds()
    if ahead <= limits.clock_step:
        return None
    reason = f"The driver's clock went back: its last batch ended {ahead:.0f} s after its last heartbeat."
    return Verdict(State.STALLED, reason, Cure.RESTART)


def _old_version(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    beat = seen.heartbeat
    if beat is None or not _is_from(beat, seen.active_runs[0]) or beat.version == desired.version:
        return None
    if not _can_take_checkpoint(desired, beat):
        lives = has_beaten(seen.active_runs[0], beat) and _age(beat, seen) <= limits.silence
        return _refused_upgrade(desired, beat, "" if lives else f"the last heartbeat is {_age(beat, seen):.0f} s old")
    return Verdict(State.OUTDATED, f"Version {beat.version} runs, {desired.version} is wanted.", Cure.ROLL)


def _not_beating_yet(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    run, beat = seen.active_runs[0], seen.heartbeat
    if has_beaten(run, beat):
        return None
    # A run lives for months and counts every crash: attempts say something only while none of them beats.
    silence = _age(beat, seen) if beat and _is_from(beat, run) else math.inf
    unheard = run.attempt - (-1 if seen.heard_attempt is None else seen.heard_attempt)
    if unheard >= limits.crashes and silence > limits.no_answer:
        since = "yet" if math.isinf(silence) else f"for {silence:.0f} s"
        reason = f"Attempt {run.attempt + 1} of run {run.run_id}, and none has beaten {since}. {seen.heartbeat_error}"
        return Verdict(State.FAILING, reason.strip(), Cure.PAGE)
    waited = (seen.now - run.started_at).total_seconds()
    if run.state != "RUNNING" and waited > limits.pending:
        reason = f"Run {run.run_id} is {run.state.lower()} for {waited:.0f} s: can the platform make its cluster?"
        return Verdict(State.FAILING, reason, Cure.PAGE)
    if run.state != "RUNNING" or waited <= limits.start_grace:
        starting = Verdict(State.STARTING, f"Run {run.run_id} is {run.state.lower()} for {waited:.0f} s.")
        of_this_run = beat is not None and _is_from(beat, run)  # another one may have been mended since
        return (_crash_loop(desired, seen, limits) if of_this_run else None) or starting
    reason = f"Run {run.run_id} has not beaten in the {waited:.0f} s since it started. {seen.heartbeat_error}"
    return Verdict(State.STALLED, reason.strip(), Cure.RESTART)


def _paused(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    beat = seen.heartbeat
    if beat and beat.state == "paused":
        return Verdict(State.FAILING, f"The stream paused itself: {beat.reason}", Cure.PAGE)
    return None


def _crashed(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    beat = seen.heartbeat
    if beat and beat.state == "failed" and _age(beat, seen) <= limits.silence:
        starting = Verdict(State.STARTING, f"Crashed, and the platform starts it again: {beat.reason}")
        return _crash_loop(desired, seen, limits) or starting
    return None


def _silent(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    beat = seen.heartbeat
    if beat and _age(beat, seen) > limits.silence:
        reason = f"Run {seen.active_runs[0].run_id} is active, its last heartbeat is {_age(beat, seen):.0f} s old."
        return Verdict(State.STALLED, reason, Cure.RESTART)
    return None


def _went_back(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    if (stands := _not_moving(desired, seen, limits)) and stands.cure is Cure.RESTART:
        return stands
    window = samples(seen)
    here, furthest = window[-1], max(sample.position for sample in window)
    if here.position < furthest:
        reason = f"Position {here.position} lies {furthest - here.position} readings before where it has been."
        return Verdict(State.REWOUND, reason, Cure.PAGE)
    if seen.end_position is not None and seen.end_position < here.position:
        reason = f"The topic ends at {seen.end_position}, before position {here.position}: was it made anew?"
        return Verdict(State.REWOUND, reason, Cure.PAGE)
    return None


def _crash_loop(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    """Asked by the rules above too that would wait for the next attempt: a look seldom meets one that lives."""
    since = seen.now - timedelta(seconds=limits.crash_window)
    recent = [at for at in (seen.heartbeat.crashes if seen.heartbeat else ()) if at >= since]
    if len(recent) < limits.crashes:
        return None
    return Verdict(
        State.FAILING, f"{len(recent)} crashes within {limits.crash_window:.0f} s. {_progress(seen)}", Cure.PAGE
    )


def _not_moving(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    """Readings wait, and the query ends no batch, or ends one after the other and its position stands still."""
    beat, seconds, waiting = seen.heartbeat, standing_seconds(seen), lag(seen)
    if seen.end_position is None:
        if seconds <= limits.no_answer:
            return None
        reason = (
            f"Kafka does not answer, and the stream has read nothing for {seconds:.0f} s; a restart would not help."
        )
        return Verdict(State.STALLED, reason, Cure.PAGE)
    patience = limits.first_batch if beat is None or beat.batch is None else limits.no_progress
    if not waiting or seconds <= patience:
        return None
    reason = f"{waiting} readings wait and none was read for {seconds:.0f} s (newest batch: {_batch(seen)})."
    return Verdict(State.STALLED, reason, Cure.RESTART)


def _lagging(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    window = [sample for sample in samples(seen) if sample.lag is not None]
    if not window or (behind := behind_seconds(window)) <= limits.behind:
        return None
    if _only_grew(window, limits):
        reason = f"Falling behind: lag only grew for {limits.falling_behind:.0f} s, to {window[-1].lag} readings."
        return Verdict(State.FAILING, reason, Cure.PAGE)
    since = "more than is on record" if math.isinf(behind) else f"those of the last {behind:.0f} s"
    return Verdict(State.CATCHING_UP, f"{window[-1].lag} readings behind ({since}).")


def _no_batch_yet(desired: Desired, seen: Observation, limits: Limits) -> Verdict | None:
    """It beats before it has written anything; whether it can is to be seen."""
    beat = seen.heartbeat
    if beat is None or beat.batch is not None or not lag(seen):
        return None
    return Verdict(State.STARTING, f"Run {beat.run_id} beats and has its first batch before it. {_progress(seen)}")


RULES: tuple[Rule, ...] = (
    _stop_wanted,
    _two_runs,
    _no_run,
    _ends,
    _another_run_beats,
    _clock_went_back,
    _old_version,
    _not_beating_yet,
    _paused,
    _crashed,
    _silent,
    _went_back,
    _not_moving,
    _crash_loop,
    _no_batch_yet,
    _lagging,
)


# --- small words the rules are made of -------------------------------------------------------------------------------


def _is_from(beat: Heartbeat, run: Run) -> bool:
    return beat.run_id == run.run_id


def _age(beat: Heartbeat, seen: Observation) -> float:
    return (seen.now - beat.written_at).total_seconds()


def _batch(seen: Observation) -> str:
    return "none yet" if seen.heartbeat is None or seen.heartbeat.batch is None else str(seen.heartbeat.batch)


def _progress(seen: Observation) -> str:
    if seen.heartbeat is None:
        return ""
    if (waiting := lag(seen)) is None:
        return f"Batch {_batch(seen)}; Kafka does not answer, so the lag is not known."
    return f"Batch {_batch(seen)}, lag {waiting} readings."


def _only_grew(window: Sequence[Sample], limits: Limits) -> bool:
    """It was behind already, and since then lag at the start, in the middle and at the end grew, and never sank below
    the start's. What waits for one batch is no lag that grows, however the batches' sizes vary."""
    since = window[-1].at - timedelta(seconds=limits.falling_behind)
    before = [sample for sample in window if sample.at <= since]
    if not before or behind_seconds(before) <= limits.behind:
        return False
    lags = [sample.lag or 0 for sample in window if sample.at >= since]
    middle = lags[len(lags) // 2]
    return lags[0] < middle < lags[-1] and min(lags) >= lags[0] > 0


def _can_take_checkpoint(desired: Desired, beat: Heartbeat | None) -> bool:
    return beat is None or beat.checkpoint_version in desired.checkpoint_reads


def _refused_upgrade(desired: Desired, beat: Heartbeat | None, down: str) -> Verdict:
    """`down`: why no stream is at work, where the one of the version before does not go on."""
    held = beat.checkpoint_version if beat else "?"
    reads = ", ".join(str(version) for version in sorted(desired.checkpoint_reads))
    reason = (
        f"Version {desired.version} is not deployed: the checkpoint is of version {held} and this code reads only"
        f" {reads}. Deploy a version that reads it, or start on a new checkpoint."
    )
    if down:
        return Verdict(State.FAILING, f"The stream is down, {down}. {reason}", Cure.PAGE)
    return Verdict(State.OUTDATED, reason, Cure.PAGE)
