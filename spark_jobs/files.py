"""Files by plain paths, on one machine and in a volume: what Python reads and writes itself, of a checkpoint too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

NOTE = "fitness.json"  # what a job of ours keeps in its checkpoint, beside what Spark does
Offsets = dict[str, dict[str, int]]  # topic -> partition -> next offset, as Spark writes them


def plain_path(uri: str) -> Path:
    """A path that Python's own file functions take. Raises ValueError for a scheme they cannot open."""
    parts = urlparse(uri)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    if parts.scheme == "dbfs" and parts.path.startswith("/Volumes/"):
        return Path(unquote(parts.path))
    raise ValueError(f"Heartbeats and checkpoints need a local or /Volumes path, not {uri!r}.")


def replace_file(path: Path, content: str) -> None:
    """Readers see the old content or the new, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(content)
    draft.replace(path)


def planned_batch(checkpoint: Path) -> int:
    """The newest batch that the checkpoint of a query knows of, ended or not; -1 without one.

    A checkpoint that has not come as far as its query is an older copy that somebody put back. Its next batches have
    numbers that were used, and Delta leaves out what comes with such a number.
    """
    return max((int(file.name) for file in (checkpoint / "offsets").glob("*") if file.name.isdigit()), default=-1)


def planned_offsets(checkpoint: Path) -> Offsets:
    """Where this batch ends, or is to end, in Kafka; empty without one."""
    if (batch := planned_batch(checkpoint)) < 0:
        return {}
    *_, of_the_source = (checkpoint / "offsets" / str(batch)).read_text().splitlines()
    offsets: Offsets = json.loads(of_the_source)
    return offsets
