"""`python -m local.workspace` serves the workspace of FITNESS_HOME."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
from contextlib import suppress

import uvicorn

from local.home import Home
from local.workspace.engine import Limits
from local.workspace.server import application


def serve(home: Home) -> int:
    """Serves until SIGTERM, which also ends the jobs; a second server on the same home is refused."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    token = os.environ.get("FITNESS_WORKSPACE_TOKEN") or home.secrets["workspace_token"]
    folder = home.path / "workspace"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another workspace server already uses {folder}.", file=sys.stderr)
            return 1
        try:  # before the engine adopts what runs, which it would end again without a port
            listening = socket.create_server(("127.0.0.1", home.port("workspace")), backlog=2048)
        except OSError as error:
            print(f"Port {home.port('workspace')} cannot be had: {os.strerror(error.errno or 0)}.", file=sys.stderr)
            return 1
        config = uvicorn.Config(
            application(home, token, Limits.from_environment()),
            log_config=None,
            access_log=False,  # a login link carries the token
            timeout_graceful_shutdown=2,
            server_header=False,
        )
        server = uvicorn.Server(config)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        sys.stdout.flush()
        # threads of Spark Connect's client would keep a finished process alive
        os._exit(0 if server.started else 1)


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(f"usage: python -m local.workspace, not {' '.join(sys.argv[1:])}")
    sys.exit(serve(Home.from_environment()))
