"""Reading logs: the tail, and the error a job ended in."""

from __future__ import annotations

from pathlib import Path

from local.workspace import joblog

FAILED = """starting
26/11/24 02:00:00 WARN Something: noise
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    int("x")
ValueError: invalid literal for int() with base 10: 'x'
and a second line of the message
2026-11-24 02:00:01.000 WARN  Shutdown: noise
"""


def test_the_last_traceback_is_the_error_without_the_noise_of_the_jvm() -> None:
    found = joblog.python_error("Traceback (most recent call last):\nKeyError: 1\nhandled\n" + FAILED)
    assert found.error == "ValueError: invalid literal for int() with base 10: 'x'"
    assert found.trace.startswith("Traceback")
    assert found.trace.endswith("and a second line of the message")
    assert "KeyError" not in found.trace


def test_a_chain_of_errors_is_shown_whole_and_named_by_its_last() -> None:
    first = 'Traceback (most recent call last):\n  File "a.py", line 1\nKeyError: 1\n\n'
    link = "The above exception was the direct cause of the following exception:\n\n"
    second = 'Traceback (most recent call last):\n  File "a.py", line 2\nRuntimeError: no\n'
    found = joblog.python_error(first + link + second)
    assert found.error == "RuntimeError: no"
    assert "KeyError: 1" in found.trace


def test_without_a_traceback_the_last_line_speaks() -> None:
    assert joblog.python_error("a\nusage: x\n\n") == joblog.PythonError("usage: x", "")
    assert joblog.python_error("") == joblog.PythonError("", "")


def test_a_long_log_is_read_from_its_end_at_the_start_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"".join(b"line %06d\n" % n for n in range(10_000)))
    tail = joblog.tail(file, 100)
    assert tail.truncated
    assert tail.text.startswith("line 0")
    assert tail.text.endswith("line 009999\n")
    assert tail.start + len(tail.text) == tail.size == file.stat().st_size


def test_a_log_is_followed_from_where_one_was(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("one\n")
    first = joblog.since(file, 0)
    file.write_text("one\ntwo\n")
    assert joblog.since(file, first.size).text == "two\n"
    assert joblog.since(file, 99_999).text == "one\ntwo\n"


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert joblog.tail(tmp_path / "none") == joblog.since(tmp_path / "none", 5) == joblog.Tail("", 0, 0)
