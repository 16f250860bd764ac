from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workspace.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module."""
    found = Server(tmp_path_factory.mktemp("workspace"))
    yield found
    found.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test, which may kill it."""
    found = Server(tmp_path, FITNESS_SERVERLESS_SLOTS="1")
    yield found
    assert found.process is not None
    if found.process.poll() is None:
        found.stop()
