"""What the devices of a drill send: one endless sequence of messages, the same for the same seed and beginning.

Most are readings of their moment. Some are late (by minutes, a few by years), some say again what was said before,
some contradict it, some are no readings at all. Message `number` is due `number / rate` seconds after the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from local.simulator.rubbish import odd_readings

FIRST_DEVICE = 8_000_000_000
DEVICES = 1000
BLOCK = 1000
SHARES = {"late": 0.02, "repeated": 0.02, "contradicting": 0.005, "malformed": 0.01}
LATEST = 2 * 3600  # seconds by which most late readings are late
YEARS_LATE = 0.02  # share of the late ones that are late by up to three years
LONGEST_ECHO = 20_000  # a repetition follows what it repeats by at most so many messages

MICROS = 1_000_000


class Message(NamedTuple):
    key: bytes
    value: bytes | None


@dataclass(frozen=True)
class Sequence:
    """`begun_at`: epoch microseconds of message 0."""

    seed: int
    rate: int
    begun_at: int

    def __getitem__(self, number: int) -> Message:
        block, place = divmod(number, BLOCK)
        return _block(self, block)[place]

    def due_at(self, number: int) -> int:
        return self.begun_at + number * MICROS // self.rate


@lru_cache(maxsize=4)
def _block(sequence: Sequence, block: int) -> list[Message]:
    rng = np.random.default_rng([sequence.seed, block, 1])
    numbers = range(block * BLOCK, (block + 1) * BLOCK)
    kinds = rng.choice([*SHARES, "reading"], size=BLOCK, p=[*SHARES.values(), 1 - sum(SHARES.values())])
    return [_message(sequence, number, kind, rng) for number, kind in zip(numbers, kinds, strict=True)]


def _message(sequence: Sequence, number: int, kind: str, rng: np.random.Generator) -> Message:
    device, read_at, beat = reading(sequence, number)
    if kind == "malformed":
        odd = odd_readings(rng, device, read_at // MICROS)
        return Message(b"%d" % device, odd[int(rng.integers(len(odd)))])
    if kind == "late":
        longest = 3 * 365 * 86_400 if rng.random() < YEARS_LATE else LATEST
        read_at -= int(rng.integers(1, longest * MICROS))
    elif kind in ("repeated", "contradicting") and number:
        device, read_at, beat = reading(sequence, number - int(rng.integers(1, min(number, LONGEST_ECHO) + 1)))
        beat += kind == "contradicting"
    seconds, fraction = divmod(read_at, MICROS)
    value = b'{"device_id":%d,"time":%d.%06d,"heartrate":%d.%02d}' % (device, seconds, fraction, *divmod(beat, 100))
    return Message(b"%d" % device, value)


def reading(sequence: Sequence, number: int) -> tuple[int, int, int]:
    """Device, instant in microseconds and hundredths of beats a minute of a reading that is neither late nor odd."""
    return (
        FIRST_DEVICE + number % DEVICES,
        sequence.due_at(number),
        int(_beats(sequence.seed, number // BLOCK)[number % BLOCK]),
    )


@lru_cache(maxsize=64)
def _beats(seed: int, block: int) -> np.ndarray:
    return np.random.default_rng([seed, block, 2]).integers(4500, 19_000, size=BLOCK)
