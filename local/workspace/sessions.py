"""Ends what a job left behind on the shared Spark: its statements, its streams, its session."""

from __future__ import annotations

import logging

import grpc

from local.home import Home
from local.workspace.compute import SPARK_USER

RELEASED = ("SESSION_CLOSED", "SESSION_NOT_FOUND")  # by the job itself, as a rule

log = logging.getLogger("workspace.sessions")


def release_session(home: Home, session_id: str, timeout_seconds: float = 10) -> bool:
    """Interrupts everything the session runs and closes it for good; a client that still lives cannot come back.

    False when Spark does not confirm it.
    """
    from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc

    user = base_pb2.UserContext(user_id=SPARK_USER, user_name=SPARK_USER)
    interrupt = base_pb2.InterruptRequest(
        session_id=session_id,
        user_context=user,
        interrupt_type=base_pb2.InterruptRequest.InterruptType.INTERRUPT_TYPE_ALL,
    )
    release = base_pb2.ReleaseSessionRequest(session_id=session_id, user_context=user)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{home.port('spark')}") as channel:
            stub = base_pb2_grpc.SparkConnectServiceStub(channel)
            stub.Interrupt(interrupt, timeout=timeout_seconds, metadata=home.spark_metadata)
            stub.ReleaseSession(release, timeout=timeout_seconds, metadata=home.spark_metadata)
    except grpc.RpcError as error:
        why = error.details() or ""
        if not any(sign in why for sign in RELEASED):
            log.info("Session %s was not released: %s", session_id, why.partition("\n")[0])
            return False
    return True
