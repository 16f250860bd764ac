"""From a verdict to a deed, with a budget: pure decisions here, their execution in `supervise.py`.

A start that helps is worth any number of tries only if it helps. So starts are counted, the pause before each grows,
and when they are spent one page goes out with the reason; after that the stream is tried at long intervals without
another word. When it has been well for a while, the incident is closed and the count begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from include.stream.heartbeats import moment
from include.stream.judge import Cure, State, Verdict

KEPT_CHANGES = 50


@dataclass(frozen=True)
class Budget:
    """`pauses`: seconds before the first, second, ... start since it was well; the last holds for all that follow."""

    pauses: Sequence[float] = (0, 0, 60, 120, 300, 1800)
    well: float = 600  # seconds of health that close an incident

    @property
    def starts(self) -> int:
        return len(self.pauses) - 1


@dataclass(frozen=True)
class Memory:
    """What the supervisor knows from its runs before, as a document beside the heartbeat."""

    starts: tuple[datetime, ...] = ()  # since it was well, the newest of them
    looked_at: datetime | None = None  # when it last looked at the stream and could judge it
    paged: str = ""  # the verdict that was paged and whose incident is still open
    taken_over_at: datetime | None = None  # when somebody last started the stream by hand
    well_since: datetime | None = None
    unanswered_at: datetime | None = None  # when Kafka last did not answer
    heard: tuple[str, int] | None = None  # a run, and its newest attempt that was seen to beat
    # at, state, reason and what was done, newest last
    changes: tuple[dict[str, str], ...] = field(default=(), compare=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Memory:
        """Raises ValueError, KeyError or TypeError when it is not such a document."""
        document: dict[str, Any] = json.loads(text)
        return cls(
            starts=tuple(datetime.fromisoformat(start) for start in document["starts"]),
            looked_at=moment(document.get("looked_at")),
            paged=str(document["paged"]),
            taken_over_at=moment(document.get("taken_over_at")),
            well_since=moment(document["well_since"]),
            unanswered_at=moment(document.get("unanswered_at")),
            heard=(str(heard[0]), int(heard[1])) if (heard := document.get("heard")) else None,
            changes=tuple(document["changes"]),
        )

    def noted(self, verdict: Verdict, action: Cure, now: datetime) -> Memory:
        """With the verdict added to the record, if it changes the state or something is done about it."""
        if self.changes and self.changes[-1]["state"] == verdict.state and action is Cure.NOTHING:
            return self
        change = {"at": now.isoformat(), "state": str(verdict.state), "reason": verdict.reason, "done": str(action)}
        return replace(self, changes=(*self.changes, change)[-KEPT_CHANGES:])


@dataclass(frozen=True)
class Decision:
    action: Cure  # never PAGE: whether to page is said apart
    why: str
    memory: Memory
    page: str = ""  # what to tell the person on call; empty: nobody is woken


def decide(verdict: Verdict, memory: Memory, now: datetime, budget: Budget | None = None) -> Decision:
    """What to do about a verdict now, and what to remember of it."""
    budget = budget or Budget()
    starts = tuple(min(start, now) for start in memory.starts)  # the clock may have been set back
    memory = replace(memory, starts=starts, well_since=memory.well_since and min(memory.well_since, now))
    decision = _decided(verdict, _health_noted(verdict, memory, now, budget), now, budget)
    return replace(decision, memory=decision.memory.noted(verdict, decision.action, now))


def _decided(verdict: Verdict, memory: Memory, now: datetime, budget: Budget) -> Decision:
    if verdict.cure in (Cure.NOTHING, Cure.STOP):
        return Decision(verdict.cure, verdict.reason, memory)
    if verdict.cure is Cure.PAGE:
        return _paging(Decision(Cure.NOTHING, verdict.reason, memory), verdict, verdict.reason)

    starts = memory.starts
    spent = len(starts) >= budget.starts
    pause = budget.pauses[min(len(starts), budget.starts)]
    wait = (starts[-1] + timedelta(seconds=pause) - now).total_seconds() if starts else 0
    if wait > 0:
        decision = Decision(Cure.NOTHING, f"{verdict.reason} Next try in {wait:.0f} s.", memory)
    else:
        decision = Decision(verdict.cure, verdict.reason, replace(memory, starts=(*starts, now)[-budget.starts :]))
    if not spent:
        return decision
    minutes = (now - starts[0]).total_seconds() / 60
    return _paging(
        decision, verdict, f"{len(starts)} starts within {minutes:.0f} minutes did not help. {verdict.reason}"
    )


def _health_noted(verdict: Verdict, memory: Memory, now: datetime, budget: Budget) -> Memory:
    if verdict.state not in (State.HEALTHY, State.CATCHING_UP):
        return replace(memory, well_since=None)
    since = memory.well_since or now
    if (now - since).total_seconds() >= budget.well:
        return replace(memory, well_since=since, starts=(), paged="")
    return replace(memory, well_since=since)


def _paging(decision: Decision, verdict: Verdict, told: str) -> Decision:
    """One page an incident: it is repeated neither each minute nor when the same trouble looks different. But a stream
    that went on, of an older version, and then did not is another trouble."""
    is_worse = decision.memory.paged == State.OUTDATED and verdict.state is State.FAILING
    if decision.memory.paged and not is_worse:
        return decision
    return replace(decision, page=told, memory=replace(decision.memory, paged=str(verdict.state)))
