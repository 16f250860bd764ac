"""The small documents that the stream (spark_jobs/streaming/heartbeat.py) and its supervisor leave each other.

Any path object with `read_text`, `write_text`, `parent` and `/` will do: `pathlib.Path` on one machine,
`ObjectStoragePath` in Airflow.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Protocol, Self

from include.stream.judge import Heartbeat, Sample

FORMAT = 1
NONE_YET = "There is no heartbeat yet."


class Document(Protocol):
    """What is needed of a path."""

    @property
    def name(self) -> str: ...

    @property
    def parent(self) -> Self: ...

    def __truediv__(self, name: str) -> Self: ...

    def mkdir(self, mode: int = ..., parents: bool = ..., exist_ok: bool = ...) -> None: ...

    def read_text(self) -> str: ...

    def write_text(self, content: str) -> Any: ...


def beside(heartbeat: Document, kind: str) -> Document:
    """`bpm.stop`, `bpm.supervision`, `bpm.stopped` and `bpm.pause` lie beside `bpm.json`."""
    return heartbeat.parent / f"{heartbeat.name.rpartition('.')[0]}.{kind}"


def read(path: Document) -> tuple[Heartbeat | None, str]:
    """The heartbeat, or None with the reason."""
    try:
        return parse(json.loads(path.read_text())), ""
    except FileNotFoundError:
        return None, NONE_YET
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"The heartbeat cannot be read: {type(error).__name__}: {error}."


def parse(document: dict[str, Any]) -> Heartbeat:
    """Raises ValueError, KeyError or TypeError for a document that is not a heartbeat."""
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, not {FORMAT}")
    window = tuple(
        Sample(datetime.fromisoformat(entry["at"]), entry["epoch"], entry["position"], entry["latest"])
        for entry in document["window"]
    )
    position = document["position"]
    if position is None:  # a run that has not read yet stands where the one before it stood
        position = window[-1].position if window else 0
    batch = document["batch"] or {}
    return Heartbeat(
        version=document["version"],
        run_id=document["run_id"],
        epoch=document["epoch"],
        state=document["state"],
        reason=document["reason"],
        written_at=datetime.fromisoformat(document["written_at"]),
        batch=batch.get("number"),
        position=position,
        latest=document["latest"],
        checkpoint_version=document["checkpoint_version"],
        progressed_at=moment(document.get("progressed_at")),
        crashes=tuple(datetime.fromisoformat(at) for at in document.get("crashes", ())),
        window=window,
        document=document,
    )


def moment(text: str | None) -> datetime | None:
    """A time as a document says it, or that it does not."""
    return None if text is None else datetime.fromisoformat(text)


def request_stop(heartbeat: Document, epoch: int) -> None:
    """Streams up to `epoch` finish their batch and end."""
    beside(heartbeat, "stop").write_text(str(epoch))
