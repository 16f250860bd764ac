"""Free ports for a stack, or a part of one, that a test starts."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress

from local.home import PORT_OFFSETS

BASES = range(20_000, 32_000, 100)  # below the ports that a system gives to connections


def free_port_base() -> int:
    """A FITNESS_PORT_BASE all of whose ports are free at this moment; each process begins its search elsewhere."""
    begin = os.getpid() % len(BASES)
    for base in (*BASES[begin:], *BASES[:begin]):
        with ExitStack() as probes, suppress(OSError):
            for offset in PORT_OFFSETS.values():
                probe = probes.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a connection left is no listener
                probe.bind(("127.0.0.1", base + offset))
            return base
    raise RuntimeError(f"no free ports between {BASES.start} and {BASES.stop}")
