"""Reads a job's log: its tail (never the whole of it) and the Python error it ends in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 256 * 1024
TRACE_LINES = 400

TRACEBACK = re.compile(r"^(Traceback \(most recent call last\):|\s+\+ Exception Group Traceback)")
CHAIN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
JVM_LINE = re.compile(r"^(\d{4}-|\d\d/)\d\d[-/]\d\d \d\d:\d\d:\d\d(\.\d+)? (TRACE|DEBUG|INFO|WARN|ERROR) ")


@dataclass(frozen=True)
class Tail:
    """The end of a log. `start` is the byte offset at which `text` begins, `size` the log's length in bytes."""

    text: str
    start: int
    size: int

    @property
    def truncated(self) -> bool:
        return self.start > 0


def tail(file: Path, limit: int = TAIL_BYTES) -> Tail:
    """The last `limit` bytes, from the beginning of a line; empty when there is no log."""
    try:
        with file.open("rb") as log:
            size = log.seek(0, 2)
            start = log.seek(max(size - limit, 0))
            raw = log.read(limit)
    except FileNotFoundError:
        return Tail("", 0, 0)
    if start:
        cut = raw.find(b"\n") + 1
        start, raw = start + cut, raw[cut:]
    return Tail(raw.decode("utf-8", "replace"), start, size)


def since(file: Path, offset: int, limit: int = TAIL_BYTES) -> Tail:
    """What was written after `offset`; only the last `limit` bytes when that is more."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return Tail("", 0, 0)
    if not 0 <= offset <= size or size - offset > limit:
        return tail(file, limit)
    with file.open("rb") as log:
        log.seek(offset)
        raw = log.read(size - offset)
    return Tail(raw.decode("utf-8", "replace"), offset, offset + len(raw))


@dataclass(frozen=True)
class PythonError:
    """`error` is one line (`ValueError: ...`), `trace` the traceback with its chain; empty when there is none."""

    error: str
    trace: str


def python_error(text: str) -> PythonError:
    """The error a failed job's log ends in: its last traceback, or its last line when it left none."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if TRACEBACK.match(line)]
    if not starts:
        spoken = [line.strip() for line in lines if line.strip() and not JVM_LINE.match(line)]
        return PythonError(spoken[-1] if spoken else "", "")
    first = last = starts[-1]
    for start in reversed(starts[:-1]):
        if not any(line.strip() in CHAIN for line in lines[start:first]):
            break
        first = start
    end = next((n for n in range(last + 1, len(lines)) if JVM_LINE.match(lines[n])), len(lines))
    error = next((line for line in lines[last + 1 : end] if line.strip() and not line.startswith((" ", "\t"))), "")
    trace = [line.rstrip() for line in lines[first:end]][:TRACE_LINES]
    return PythonError(error.strip() or lines[last].strip(), "\n".join(trace).rstrip())
