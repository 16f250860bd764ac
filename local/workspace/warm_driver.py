"""A driver that is warm before it has a job: Python and its JVM, which become the process of the attempt that calls.

`python -m local.workspace.warm_driver FILE`, started by a runner that stands by (`runner.py`). A new JVM needs ten
seconds and more until it has loaded and compiled what a first batch goes through; here all that is done beforehand,
on tables that are thrown away. In its folder `awake` appears when Spark has started, from when on it is ahead of a new
process, and `ready` when it is warm. One line on standard input, a list in JSON, calls it, warm or not: the parameters
with which FILE is to run. FILE and what it imports are read then, as in any other process.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.home import REPO

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BATCHES = 2  # of a few records, each of which plans and commits all that a batch does
BULK = 30_000  # records of one more: what is done with each of them is compiled then, too
BREAK_OFF_SECONDS = 10.0  # in which Spark, told to stop, has ended what it did
TASKS = "Executor task launch worker"  # how Spark's threads are called that run tasks
COLLECTIONS = 5


def warm_up() -> None:
    """Do what the stream does until Java knows it, or until somebody calls, who is not kept waiting for the end of a
    batch. Nothing of it stays but what the JVM has learnt."""
    from py4j.protocol import Py4JError
    from pyspark.sql import SparkSession

    from local.services import spark_archive

    session = SparkSession.builder.getOrCreate()
    Path("awake").touch()
    trainer = ThreadPoolExecutor(1, "warm")
    with tempfile.TemporaryDirectory(dir=Path.cwd(), ignore_cleanup_errors=True) as folder:
        training = trainer.submit(spark_archive.train_stream, session, Path(folder), BATCHES, BULK)
        trainer.shutdown(wait=False)
        while not training.done():
            if is_called(within=0.1):
                break_off(session, training)
                return
        session.stop()
    if is_called(within=0):
        return
    training.result()
    with suppress(Py4JError):  # a Java that has no such settings
        shrink_heap(session._jvm)


def break_off(session: SparkSession, training: Future[None]) -> None:
    """End the training where it is, without a word of what breaks. One that cannot be ended in time ends this process:
    the attempt after it starts cold."""
    too_late = threading.Timer(BREAK_OFF_SECONDS, os._exit, (1,))
    too_late.start()
    try:
        jvm: Any = session._jvm
        logging = jvm.org.apache.logging.log4j
        logging.core.config.Configurator.setAllLevels("", logging.Level.OFF)
        session.stop()
        training.exception()
        # one that still ran would find the next context in place of its own, and leave there what it has cached
        while any(thread.getName().startswith(TASKS) for thread in jvm.Thread.getAllStackTraces().keySet()):
            time.sleep(0.02)
        logging.core.config.Configurator.reconfigure()
    except Exception:
        traceback.print_exc()
        os._exit(1)
    too_late.cancel()


def shrink_heap(jvm: Any) -> None:
    """Give back what the warm-up took of the machine's memory. Java keeps a heap that has grown, unless it is told how
    much of it may be free, and gives it back in steps, one a collection."""
    beans, kind = jvm.java.lang.management.ManagementFactory, "com.sun.management.HotSpotDiagnosticMXBean"
    settings = beans.getPlatformMXBean(jvm.java.lang.Class.forName(kind))
    names = ("MinHeapFreeRatio", "MaxHeapFreeRatio")
    usual = [(name, settings.getVMOption(name).getValue()) for name in names]
    for name, percent in zip(names, ("10", "20"), strict=True):
        settings.setVMOption(name, percent)
    for _ in range(COLLECTIONS):
        jvm.System.gc()
    for name, percent in reversed(usual):
        settings.setVMOption(name, percent)


def forget_own_code() -> None:
    """The job imports what the repository holds when it starts."""
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        if name != "__main__" and file.is_relative_to(REPO) and not file.is_relative_to(sys.prefix):
            del sys.modules[name]
    importlib.invalidate_caches()


def is_called(within: float | None = None) -> bool:
    """Whether the line that calls is there, or comes `within` seconds; ends this process when Java ends before."""
    from pyspark import SparkContext

    java = os.pidfd_open(SparkContext._gateway.proc.pid)  # type: ignore[union-attr]
    try:
        found = select.select([sys.stdin, java], [], [], within)[0]
    finally:
        os.close(java)
    if java in found:
        sys.exit("Java has ended before there was a job.")
    return bool(found)


def become(file: str, parameters: list[str]) -> None:
    """Runs FILE as `python FILE PARAMETERS` would, and its error looks as it does there."""
    sys.argv = [file, *parameters]
    sys.path[0] = str(Path(file).resolve().parent)
    try:
        runpy.run_path(file, run_name="__main__")
    except Exception as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != file:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


def stand_by(file: str) -> None:
    warm_up()
    forget_own_code()
    Path("ready").touch()
    is_called()
    called = sys.stdin.readline()
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    if called:
        become(file, json.loads(called))


if __name__ == "__main__":
    stand_by(sys.argv[1])
