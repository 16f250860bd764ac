"""What a Delta log says without Spark: when each commit came, how far its readings reach, which batch it is of."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Commit:
    version: int
    at: float  # epoch seconds at which the file of the commit was complete
    newest: float  # epoch seconds of its newest reading; 0 when it adds none
    is_of_batch: bool  # says something new about the data, other than the packing of small files
    transactions: tuple[tuple[str, int], ...]  # (application, its number)
    added: tuple[str, ...] = ()  # data files, relative to the table


def read_commit(file: Path) -> Commit | None:
    """None when the file is not whole (yet)."""
    try:
        at = file.stat().st_mtime
        actions: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines() if line]
    except (FileNotFoundError, ValueError):
        return None
    if not actions:
        return None
    newest = (_newest(action["add"]) for action in actions if "add" in action)
    transactions = ((action["txn"]["appId"], action["txn"]["version"]) for action in actions if "txn" in action)
    is_of_batch = any(action["add"]["dataChange"] for action in actions if "add" in action)
    added = tuple(unquote(action["add"]["path"]) for action in actions if "add" in action)
    return Commit(int(file.stem), at, max(newest, default=0.0), is_of_batch, tuple(transactions), added)


def _newest(add: dict[str, Any]) -> float:
    text = json.loads(add.get("stats") or "{}").get("maxValues", {}).get("read_at") if add["dataChange"] else None
    return datetime.fromisoformat(text).astimezone(UTC).timestamp() if text else 0.0


@dataclass
class Log:
    """The commits of one table, read as they come."""

    table: Path
    commits: list[Commit] = field(default_factory=list)

    def look(self) -> list[Commit]:
        """All commits by now; a log that is not there yet has none."""
        while commit := read_commit(self.table / "_delta_log" / f"{len(self.commits):020d}.json"):
            self.commits.append(commit)
        return self.commits

    def first_with_news(self, since: float) -> Commit | None:
        """The first commit that holds a reading of after `since`."""
        return next((commit for commit in self._from(since) if commit.newest > since), None)

    def first_of_batch(self, since: float) -> Commit | None:
        """The first commit that the stream made after `since`, whatever its readings."""
        return next((commit for commit in self._from(since) if commit.is_of_batch), None)

    def newest_reading(self) -> float:
        return max((commit.newest for commit in self.look()[-50:]), default=0.0)

    def lag(self, batches: int) -> float:
        """How old the newest reading of each of the last batches was when it was committed, in seconds; the worst."""
        last = [commit for commit in self.look() if commit.is_of_batch][-batches:]
        return max((commit.at - commit.newest for commit in last), default=math.inf)

    def _from(self, since: float) -> Iterator[Commit]:
        return (commit for commit in self.look() if commit.at > since)


def out_of_order(commits: Iterable[Commit]) -> list[int]:
    """Versions of commits whose batch is not after every batch of the same checkpoint before it: run twice, or by two
    streams at once."""
    furthest: dict[str, int] = defaultdict(lambda: -1)
    found = []
    for commit in commits:
        for application, number in commit.transactions:
            if number <= furthest[application]:
                found.append(commit.version)
            furthest[application] = max(furthest[application], number)
    return found
