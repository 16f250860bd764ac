"""Ends what a job left behind on the shared Spark: its statements, its streams, its session."""

from __future__ import annotations

import logging
import queue
import threading

import grpc

from local.home import Home
from local.workspace.compute import SPARK_USER

RELEASED = ("SESSION_CLOSED", "SESSION_NOT_FOUND")  # by the job itself, as a rule

log = logging.getLogger("workspace.sessions")


class SessionCleaner:
    """Releases Spark Connect sessions, one after the other, in a thread of its own."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="session-cleaner", daemon=True).start()

    def release(self, session_id: str) -> None:
        """Returns at once."""
        self.waiting.put(session_id)

    def _work(self) -> None:
        while True:
            session_id = self.waiting.get()
            try:
                release_session(self.home, session_id)
            except Exception as error:  # the Spark server may be down, and then the session is gone too
                why = error.details() if isinstance(error, grpc.RpcError) else str(error)
                if not any(sign in why for sign in RELEASED):
                    log.info("Session %s was not released: %s", session_id, why.partition("\n")[0])


def release_session(home: Home, session_id: str, timeout_seconds: float = 10) -> None:
    """Interrupts everything the session runs and closes it for good; a client that still lives cannot come back."""
    from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc

    user = base_pb2.UserContext(user_id=SPARK_USER, user_name=SPARK_USER)
    with grpc.insecure_channel(f"127.0.0.1:{home.port('spark')}") as channel:
        stub = base_pb2_grpc.SparkConnectServiceStub(channel)
        interrupt = base_pb2.InterruptRequest(
            session_id=session_id,
            user_context=user,
            interrupt_type=base_pb2.InterruptRequest.InterruptType.INTERRUPT_TYPE_ALL,
        )
        stub.Interrupt(interrupt, timeout=timeout_seconds, metadata=home.spark_metadata)
        release = base_pb2.ReleaseSessionRequest(session_id=session_id, user_context=user)
        stub.ReleaseSession(release, timeout=timeout_seconds, metadata=home.spark_metadata)
