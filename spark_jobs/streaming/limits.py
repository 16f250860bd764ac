"""How much may be refused before the stream stops believing that the data is at fault.

A deploy that misreads every message looks, from inside, like a topic full of bad data. Quarantine is for bad data, so
there is a limit to what may be diverted into it; above it the stream pauses and a person decides.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class RefusalLimit:
    """A window over the newest `window` records (whole batches), and the records refused in a row.

    Batches are judged before anything of them is written. `share` is a ratio of 0 to 1, everything else counts records.
    A window with fewer than `minimum` refused records says nothing: a handful of bad messages at night is data.
    """

    share: float = 0.5
    window: int = 20_000
    minimum: int = 5_000
    streak: int = 10_000
    _batches: deque[tuple[int, int]] = field(default_factory=deque, repr=False)
    _refused_in_a_row: int = field(default=0, repr=False)

    def exceeded_by(self, records: int, refused: int) -> str | None:
        """Count one batch; the reason to pause, or None."""
        self._batches.append((records, refused))
        while len(self._batches) > 1 and sum(count for count, _ in self._batches) - self._batches[0][0] >= self.window:
            self._batches.popleft()
        self._refused_in_a_row = self._refused_in_a_row + refused if refused == records else 0

        seen = sum(count for count, _ in self._batches)
        bad = sum(count for _, count in self._batches)
        if bad >= self.minimum and bad > self.share * seen:
            return f"{bad} of the last {seen} records were refused (limit: {self.share:.0%} and {self.minimum} records)"
        if self._refused_in_a_row >= self.streak:
            return f"{self._refused_in_a_row} records in a row were refused (limit: {self.streak})"
        return None
