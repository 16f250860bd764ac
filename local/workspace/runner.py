"""The process of one attempt: starts the job, keeps its log, enforces its timeout, writes down how it ended.

Started as `python -I -S runner.py FOLDER` in a session of its own, so it outlives the workspace server. Only the
standard library, so it starts in milliseconds and stays small. In FOLDER it
- reads `spec.json`: argv, nice, timeout_seconds (0: none), grace_seconds;
- puts `runner` in place, holding its own pid and locked for as long as it lives (a free lock means: dead). Putting it
  there can succeed once, so an attempt has one runner at most;
- writes the job's output to `log` and, at the end and at once, `result.json`.
The job's environment is the runner's own. SIGTERM asks the job to end.

`runner.py FOLDER ARGV...` stands by: it starts ARGV at once (`warm_driver.py`), which waits to become a job, and does
all of the above when it is called through the pipe `bell` in FOLDER. Like an attempt it outlives the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LEFTOVER_SECONDS = 5.0  # a JVM whose Python has ended ends by itself within this time
# What `bell` tells one that stands by: become the job (also when it was stopped), go, stop for now, go on with what
# others leave of the machine's time, go on with as much of it as they get.
CALL, GO, PAUSE, GIVE_WAY, GO_AHEAD = b"c", b"g", b"p", b"w", b"a"
GIVES_WAY = 10  # gets a tenth of what the driver at work gets, which may be catching up (docs/decisions/0012, 0015)
WATCHED = {signal.SIGTERM, signal.SIGCHLD}
libc = ctypes.CDLL(None, use_errno=True)


def claim(folder: Path) -> int | None:
    """Takes the attempt in `folder` for this process; the locked file's descriptor, or None when it is taken."""
    draft = folder / f"runner.{os.getpid()}"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, str(os.getpid()).encode())
        os.link(draft, folder / "runner")
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, FileExistsError):
            return None
        raise
    finally:
        draft.unlink()
    return descriptor


def insist[T](write: Callable[[], T]) -> T:
    """Writes, again each second while the disk is full: an end that is not written down looks like a violent one."""
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            time.sleep(1)


def session_gives_way(nice: int, process: int | str = "self") -> None:
    """Lets other sessions go first where there are few cores. Linux shares time out among sessions, each with a
    niceness of its own (sched(7), autogroup); that of a process counts only within its session."""
    for _ in range(20):
        try:
            Path(f"/proc/{process}/autogroup").write_text(str(nice))
        except BlockingIOError:  # Linux takes ten such changes a second from all users together
            time.sleep(0.1)
        except OSError:  # a system that does not
            return
        else:
            return


def start(argv: list[str], folder: Path, nice: int = 0, stdin: int = subprocess.DEVNULL) -> subprocess.Popen:
    """The job's process, in FOLDER, with its output in `log` there."""
    parent = os.getpid()

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        if nice:
            os.nice(nice)
            session_gives_way(nice)

    with (folder / "log").open("ab") as out:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            preexec_fn=before_exec,  # safe here: there are no threads
        )


def ending(pid: int) -> os.waitid_result | None:
    """How the job's process ended, None while it lives; it is not reaped yet, so its number cannot go to another."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def group_lives(group: int) -> bool:
    """Whether the job's process group holds a process other than its (ended) leader."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != group:
            try:
                state, _, pgrp = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(pgrp) == group and state != "Z":
                return True
    return False


def reap_adopted(job: int) -> None:
    """Buries orphans of the job that became this process's children."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != job:
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if fields[0] == "Z" and int(fields[1]) == os.getpid():
                    os.waitpid(int(entry.name), os.WNOHANG)
            except (OSError, ValueError):
                continue


def supervise(job: subprocess.Popen, timeout_seconds: float, grace_seconds: float) -> str:
    """Waits for the job's end; `exited`, `timedout` or `stopped` (SIGTERM)."""
    outcome = "exited"
    ask_at = time.monotonic() + timeout_seconds if timeout_seconds else None
    kill_at = None
    while ending(job.pid) is None:
        now = time.monotonic()
        if kill_at is not None and now >= kill_at:
            os.killpg(job.pid, signal.SIGKILL)
            kill_at = now + 1
        if ask_at is not None and now >= ask_at:
            outcome, ask_at = "timedout", None
            # Only the job itself is asked: its JVM must live until Python has stopped its stream at a batch's end.
            os.kill(job.pid, signal.SIGTERM)
            kill_at = now + grace_seconds
        due = min((at for at in (ask_at, kill_at) if at is not None), default=now + 60)
        got = signal.sigtimedwait(WATCHED, max(due - time.monotonic(), 0))
        if got is not None and got.si_signo == signal.SIGTERM and kill_at is None and ending(job.pid) is None:
            outcome, ask_at = "stopped", None
            os.kill(job.pid, signal.SIGTERM)
            kill_at = time.monotonic() + grace_seconds
    return outcome


def clear_up(job: subprocess.Popen) -> None:
    """Ends what the job left in its process group, and buries it. What a killed job left is waited for by its next
    attempt, and must bear being killed as well."""
    ended = ending(job.pid)
    ended_itself = ended is not None and ended.si_code == os.CLD_EXITED
    deadline = time.monotonic() + (LEFTOVER_SECONDS if ended_itself else 0)
    while group_lives(job.pid):
        if time.monotonic() >= deadline:
            os.killpg(job.pid, signal.SIGKILL)
        time.sleep(0.05)
    reap_adopted(job.pid)


def write_result(folder: Path, result: dict) -> None:
    draft = folder / "result.tmp"
    with draft.open("w") as out:
        json.dump(result, out)
        out.flush()
        os.fsync(out.fileno())
    draft.rename(folder / "result.json")


def stand_by(argv: list[str], folder: Path) -> subprocess.Popen[bytes] | None:
    """A process that waits to become the job, once it is called. None when it was told to go (then nothing is left of
    it), when it has ended (its log says why), or when a server has taken the attempt that it was to become."""
    bell = os.open(folder / "bell", os.O_RDWR)  # for writing too: whoever rings may come and go
    waiting = start(argv, folder, stdin=subprocess.PIPE)
    niceness, rung = 0, b""
    while rung not in (CALL, GO) and ending(waiting.pid) is None and not (folder / "runner").exists():
        if select.select([bell], [], [], 1)[0]:
            rung = os.read(bell, 1)
            if rung == PAUSE:
                os.killpg(waiting.pid, signal.SIGSTOP)
            elif rung in (GIVE_WAY, GO_AHEAD, CALL):
                os.killpg(waiting.pid, signal.SIGCONT)
                wanted = GIVES_WAY if rung == GIVE_WAY else 0
                if wanted != niceness:  # Linux may keep the writer waiting
                    niceness = wanted
                    session_gives_way(niceness, waiting.pid)
    if rung == CALL and ending(waiting.pid) is None:
        return waiting
    os.killpg(waiting.pid, signal.SIGKILL)
    waiting.wait()
    if rung == GO:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def call(waiting: subprocess.Popen[bytes], argv: list[str], folder: Path) -> None:
    """Lets the process that stands by become the job of `argv`, Python and its file first. Its log begins here."""
    os.truncate(folder / "log", 0)
    assert waiting.stdin is not None
    with waiting.stdin as told:
        told.write(json.dumps(argv[2:]).encode() + b"\n")


def main(folder: Path, stands_by: list[str]) -> int:
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    waiting = stand_by(stands_by, folder) if stands_by else None
    if stands_by and waiting is None:
        return 0
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    lock = insist(lambda: claim(folder))
    if lock is None:
        if waiting:
            os.killpg(waiting.pid, signal.SIGKILL)
        return 3
    spec = json.loads((folder / "spec.json").read_text())
    started = time.time()
    result = {"outcome": "exited", "exit_code": None, "error": "", "start_ms": round(started * 1000)}
    try:
        job = waiting or start(spec["argv"], folder, spec["nice"])
        if waiting:
            call(job, spec["argv"], folder)
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
        result["error"] = f"The job could not be started: {error}."
    else:
        with contextlib.suppress(OSError):  # it only tells others which process it is
            (folder / "job").write_text(str(job.pid))
        result["outcome"] = supervise(job, spec["timeout_seconds"], spec["grace_seconds"])
        clear_up(job)
        result["exit_code"] = job.wait()
    result["end_ms"] = round(time.time() * 1000)
    insist(lambda: write_result(folder, result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
