"""How fast a heart beats while its owner works out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Heart:
    """`resting` and `maximal` in beats a minute."""

    resting: float
    maximal: float

    @classmethod
    def of(cls, age_years: int, fitness: float) -> Heart:
        """`fitness` from 0 to 1. Maximal rate after Tanaka, Monahan and Seals (2001): 208 - 0.7 age."""
        return cls(resting=80.0 - 28.0 * fitness, maximal=208.0 - 0.7 * age_years)


def exercise(heart: Heart, seconds: np.ndarray, duration_seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Beats a minute, to two decimals, at `seconds` since the start of a session (before 0: not yet exercising).

    The heart follows the effort with a delay of about a minute: it warms up, rides on intervals of two to five minutes
    and comes down again, first in the last tenth of the session, then to rest.
    """
    effort = rng.uniform(0.5, 0.88)
    reserve = heart.maximal - heart.resting
    delay = rng.uniform(40.0, 90.0)
    interval = rng.uniform(120.0, 300.0)
    swing = rng.uniform(0.02, 0.1)

    warm = 1.0 - np.exp(-np.clip(seconds, 0.0, None) / delay)
    waves = swing * np.sin(2 * np.pi * seconds / interval)
    easing = 1.0 - 0.35 * np.clip((seconds / duration_seconds - 0.9) / 0.1, 0.0, 1.0)
    after = np.exp(-np.clip(seconds - duration_seconds, 0.0, None) / delay)
    level = heart.resting + reserve * warm * (effort + waves) * easing * after

    noise = rng.normal(0.0, 2.5, seconds.size + 4)
    beats = level + np.convolve(noise, np.full(5, 0.2), mode="valid")
    return np.round(np.clip(beats, 38.0, heart.maximal), 2)
