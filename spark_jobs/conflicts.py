"""Two who write a table at once: Delta lets one through and tells the other, who may try again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pyspark.errors import PySparkException

ATTEMPTS = 6
OVERTAKEN = ("CONCURRENT", "Concurrent")  # Delta's names for a commit that another one has overtaken


def is_one_of(error: PySparkException, signs: tuple[str, ...] = OVERTAKEN) -> bool:
    """Whether one of these signs stands in the error."""
    return any(sign in str(error) for sign in signs)


def retried(write: Callable[[], None], signs: tuple[str, ...] = OVERTAKEN) -> None:
    """Write; again when the error has one of these signs, five times at most, each later by up to 0.4 s.

    `write` must read anew what it depends on.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            write()
            return
        except PySparkException as error:
            if attempt == ATTEMPTS or not is_one_of(error, signs):
                raise
            time.sleep(random.uniform(0.1, 0.4) * attempt)  # noqa: S311 - only spreads the attempts
