"""What a part of the stack is: how it is started, when it is ready, what it needs first."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local.home import Home

# What a process of the stack keeps of the environment `fitness` was called in. Everything else is named by the stack,
# so that AIRFLOW__, SPARK_ or JAVA_TOOL_OPTIONS settings of somebody's shell do not change what runs.
INHERITED = (
    "HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "JAVA_HOME", "XDG_CACHE_HOME",
)  # fmt: skip

# A socket of multiprocessing adds 32 to its folder, and may have 107 in all.
SOCKET_FOLDER_BYTES = 75


@dataclass(frozen=True)
class Launch:
    """A process to become: arguments (program first), environment, working directory.

    `nice`: how far it gives way where there are few cores (0 to 19).
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    nice: int = 0


@dataclass(frozen=True)
class Part:
    """One supervised process.

    prepare: run by the process itself right before it becomes the program, at every start; says what to become.
    ready: given when its process was started (epoch seconds): None when it does its work, else the reason why not
        yet, a fragment of a sentence. Never raises.
    settle: brings what the part serves to the declared state (databases, topics, ...), once ready, at every `up`.
    before: what `up` does before the first start; parts share such a step by locking inside it.
    """

    name: str
    prepare: Callable[[Home], Launch]
    ready: Callable[[Home, float], str | None]
    needs: tuple[str, ...] = ()
    before: Callable[[Home], None] | None = None
    settle: Callable[[Home], None] | None = None
    ports: tuple[str, ...] = ()
    patience_seconds: float = 180  # a busy machine takes three times what a quiet one does
    stuck_seconds: float = 180  # in trouble for so long, a process that runs is restarted
    adopts: bool = False  # takes over what its killed predecessor had started, so that is not ended
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    stop_group: bool = field(default=True)  # send the stop signal to the whole process group


class PartFailed(Exception):
    """A part cannot start; the message is one sentence that says why and what to do."""


@contextmanager
def alone(part: Part, home: Home, stop_seconds: float | None = None) -> Iterator[None]:
    """A part by itself, without a supervisor: ready, with its output in `logs/<name>-alone.log`; ended afterwards.

    `stop_seconds`: how long it may take to end, if longer than in a stack. Raises PartFailed when it does not become
    ready.
    """
    launch = part.prepare(home)
    home.logs.mkdir(parents=True, exist_ok=True)
    output = home.logs / f"{part.name}-alone.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            launch.arguments,
            env=dict(launch.environment),
            cwd=launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + part.patience_seconds
        while why := part.ready(home, 0):
            if process.poll() is not None or time.monotonic() > give_up:
                raise PartFailed(f"{part.name} did not start: {why}; see {output}.")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.Signals[f"SIG{part.stop_signal}"])
        try:
            process.wait(stop_seconds or part.stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def base_environment(home: Home) -> dict[str, str]:
    """The environment that every process of the stack starts from."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if len(os.fsencode(home.temporary)) <= SOCKET_FOLDER_BYTES:
        inherited["TMPDIR"] = str(home.temporary)
    return inherited | home.environment | {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def get(
    port: int, path: str, timeout_seconds: float = 5, credentials: tuple[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of http://127.0.0.1:port/path. Raises OSError or HTTPException.

    `credentials`: user and password, for servers that want them (basic authentication).

    Health is asked several times a second while the stack starts; a client with all that it can do would take a core.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers=_authorization(credentials) if credentials else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _authorization(credentials: tuple[str, str]) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(":".join(credentials).encode()).decode()}


def listens(port: int) -> bool:
    """Whether anything accepts connections on a port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def reason(error: BaseException) -> str:
    """One line of an exception, for people."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    draft.replace(file)


def free_bytes(folder: Path) -> int:
    """Free space of the disk that holds the folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
