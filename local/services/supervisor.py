"""supervisord, the parent of every process: its configuration, its control API, and what is done without it."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from local.home import MARK, REPO, Home
from local.services.part import Part, PartFailed, base_environment, write_private

# supervisord's faults, http://supervisord.org/api.html
WATCH = "watch"  # the program beside the parts that restarts those that hang

BAD_NAME, ALREADY_STARTED, NOT_RUNNING = 10, 60, 70


@dataclass(frozen=True)
class Process:
    """A supervised process; state is supervisord's: running, starting, backoff, stopping, stopped, exited, fatal."""

    name: str
    pid: int | None
    state: str
    started_at: float = 0  # epoch seconds


def configuration(home: Home, parts: Iterable[Part]) -> str:
    """The text of supervisord.conf."""

    def quoted(text: object) -> str:
        return str(text).replace("%", "%%")  # supervisord expands `%(name)s`

    def log_file(part: str) -> str:
        return quoted(quoted(home.logs / f"{part}.log"))  # and in the logs' paths twice

    password = hashlib.sha1(home.secrets["supervisor_password"].encode(), usedforsecurity=False).hexdigest()
    sections = [
        f"""\
[supervisord]
logfile={quoted(home.logs / "supervisord.log")}
logfile_maxbytes=10MB
logfile_backups=2
pidfile={quoted(home.path / "run" / "supervisord.pid")}
childlogdir={quoted(home.logs)}
directory={quoted(home.path / "run")}
silent=true
umask=077

[inet_http_server]
port=127.0.0.1:{home.port("supervisor")}
username=fitness
password={{SHA}}{password}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    ]
    for part in parts:
        command = shlex.join([sys.executable, "-m", "local.services.launch", part.name])
        group = "true" if part.stop_group else "false"
        sections.append(
            f"""\
[program:{part.name}]
command={quoted(command)}
autostart=false
autorestart=true
; one that dies before 3 s is started again after 1, 2, 3, ... s
startsecs=3
startretries=100
stopsignal={part.stop_signal}
stopwaitsecs={part.stop_seconds}
stopasgroup={group}
killasgroup=true
redirect_stderr=true
stdout_logfile={log_file(part.name)}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
"""
        )
    watch = shlex.join([sys.executable, "-m", "local.services.watch"])
    sections.append(
        f"""\
[program:{WATCH}]
command={quoted(watch)}
autorestart=true
redirect_stderr=true
stdout_logfile={log_file(WATCH)}
stdout_logfile_maxbytes=2MB
stdout_logfile_backups=1
"""
    )
    return "\n".join(sections)


class _Transport(xmlrpc.client.Transport):
    """Bounds how long an answer may take: a supervisord that was stopped (SIGSTOP) must not hang `fitness`."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = 60
        return connection


class Supervisor:
    """The supervisord of one stack, running or not."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._file = home.path / "run" / "supervisord.conf"

    def _call(self, method: str, *arguments: object) -> Any:
        credentials = f"fitness:{self.home.secrets['supervisor_password']}"
        url = f"http://{credentials}@127.0.0.1:{self.home.port('supervisor')}/RPC2"
        with xmlrpc.client.ServerProxy(url, transport=_Transport(), allow_none=True) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def pid(self) -> int | None:
        """Its process id; None when it does not run. A foreign server on its port is not it."""
        try:
            return int(self._call("getPID"))
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return None

    def start(self, parts: Iterable[Part]) -> None:
        """Start supervisord, no part yet; or bring a running one to the present configuration."""
        text = configuration(self.home, parts)
        if self.pid() is not None:
            if self._file.read_text() != text:
                write_private(self._file, text)
                self._reload()
            return
        for folder in (self._file.parent, self.home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        write_private(self._file, text)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._file)]
        run = subprocess.run(
            command, env=base_environment(self.home), cwd=REPO, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        give_up = time.monotonic() + 15
        while self.pid() is None:
            if run.returncode != 0 or time.monotonic() > give_up:
                raise PartFailed(f"supervisord does not start: {(run.stderr or run.stdout).strip()[-500:]}")
            time.sleep(0.1)

    def _reload(self) -> None:
        """As `supervisorctl update`: stop and drop what changed or went, add what is new."""
        added, changed, removed = self._call("reloadConfig")[0]
        for name in (*changed, *removed):
            self.stop(name)
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def processes(self) -> dict[str, Process]:
        """By name; empty when supervisord does not run."""
        try:
            known = self._call("getAllProcessInfo")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return {}
        return {
            info["name"]: Process(info["name"], info["pid"] or None, info["statename"].lower(), float(info["start"]))
            for info in known
        }

    def start_part(self, name: str) -> None:
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_STARTED:
                raise

    def stop(self, name: str) -> None:
        """Stop a part and wait until it is gone; supervisord kills it when its time is up."""
        try:
            self._call("stopProcess", name, True)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in {NOT_RUNNING, BAD_NAME}:
                raise

    def shutdown(self) -> None:
        """End supervisord and wait until it is gone."""
        pid = self.pid()
        if pid is None:
            return
        self._call("shutdown")
        for _ in range(300):
            if not psutil.pid_exists(pid):
                return
            time.sleep(0.1)


# Processes that no supervisor answers for -----------------------------------------------------------------------------


def leftovers(home: Home) -> list[psutil.Process]:
    """Every process of this stack, by what is in its environment. PostgreSQL's overwrite theirs: by their folder.

    Never this process or one above it. Only processes that this user may look into are seen.
    """
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        try:
            marked = process.environ().get(MARK) == str(home.path)
            if marked or _below(process, home.path / "postgres"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _below(process: psutil.Process, folder: Path) -> bool:
    return process.name() == "postgres" and Path(process.cwd()).is_relative_to(folder)


def sweep(home: Home, patience_seconds: float = 8) -> int:
    """End every process of the stack: asked first, killed when it does not listen. Returns how many there were.

    What is started while others end is found too, as it is looked for until there is nothing. A process counts until
    it is gone: one that is dying has no environment any more, but still its ports.
    """
    known: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + patience_seconds
    while True:
        hard = time.monotonic() > deadline
        fresh = {process.pid: process for process in leftovers(home)}
        for pid, process in fresh.items():
            if hard or pid not in known:
                _signal(process, hard)
        known |= fresh
        alive = [process for process in known.values() if _lives(process)]
        if not alive and not fresh:
            return len(known)
        psutil.wait_procs(alive, timeout=0.5)
        if time.monotonic() > deadline + 20:
            raise PartFailed(f"These processes of the stack cannot be ended: {', '.join(str(p.pid) for p in alive)}.")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, hard: bool) -> None:
    try:
        if hard:
            process.kill()
        elif process.name() == "postgres":
            process.send_signal(2)  # SIGINT: fast shutdown; SIGTERM would wait for the sessions to end
        else:
            process.terminate()
    except psutil.Error:
        pass


def port_owner(port: int) -> str | None:
    """None if the port of 127.0.0.1 is free, else a phrase on who has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do; else TIME_WAIT looks taken
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return _listener(port)
    return None


def _listener(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                home = process.environ().get(MARK)
                stack = f" of the stack in {home}" if home else ""
                return f"process {connection.pid} ({process.name()}){stack}"
    except (psutil.Error, OSError):
        pass
    return "another process"
