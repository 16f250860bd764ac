"""What broken devices send: messages that no reading or workout can be made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BEFORE_2000 = 915_148_800
FAR_FUTURE = 4_070_908_800  # 2099


def rubbish(rng: np.random.Generator, device: int, user: int, second: int) -> Iterator[tuple[str, bytes | None]]:
    """Up to three messages as (topic, value), each refused for a reason of its own."""
    kinds = [("bpm", value) for value in odd_readings(rng, device, second)]
    kinds += [("workout", value) for value in odd_workouts(user, second)]
    for kind in rng.choice(len(kinds), size=int(rng.integers(1, 4)), replace=False):
        yield kinds[kind]


def odd_readings(rng: np.random.Generator, device: int, second: int) -> list[bytes | None]:
    good = b'{"device_id":%d,"time":%d,"heartrate":71.5}' % (device, second)
    return [
        None,
        b"",
        good[: int(rng.integers(1, len(good)))],
        good + b"}",
        rng.bytes(24) + b"\xff",
        b"[" * 300,
        b"[%s]" % good,
        b"\x00" + good,
        b'{"device_id":"%d","time":%d,"heartrate":71.5}' % (device, second),
        b'{"device_id":%d.5,"time":%d,"heartrate":71.5}' % (device, second),
        b'{"device_id":99999999999999999999,"time":%d,"heartrate":71.5}' % second,
        b'{"device_id":%d,"time":%d,"heartrate":"71.5"}' % (device, second),
        b'{"device_id":%d,"time":%d,"heartrate":NaN}' % (device, second),
        b'{"device_id":%d,"time":%d,"heartrate":null}' % (device, second),
        b'{"device_id":%d,"time":%d}' % (device, second),
        b'{"device_id":%d,"device_id":%d,"time":%d,"heartrate":71.5}' % (device, device, second),
        b'{"device_id":%d,"time":%d,"heartrate":0}' % (device, second),
        b'{"device_id":%d,"time":%d,"heartrate":251}' % (device, second),
        b'{"device_id":%d,"time":%d,"heartrate":71.5}' % (device, BEFORE_2000),
        b'{"device_id":%d,"time":%d,"heartrate":71.5}' % (device, FAR_FUTURE),
        b'{"device_id":%d,"time":"yesterday","heartrate":71.5}' % device,
        b'{"device_id":%d,"time":"2024-05-05T10:00:00","heartrate":71.5}' % device,
        b'{"device_id":"1; DROP TABLE silver.heart_rate; --","time":%d,"heartrate":71.5}' % second,
    ]


def odd_workouts(user: int, second: int) -> list[bytes | None]:
    return [
        b"",
        b'{"user_id":%d,"workout_id":1,"session_id":1,"action":"pause","timestamp":%d.0}' % (user, second),
        b'{"user_id":"%d","workout_id":1,"session_id":1,"action":"start","timestamp":%d.0}' % (user, second),
        b'{"user_id":%d,"workout_id":1,"action":"start","timestamp":%d.0}' % (user, second),
        b'{"user_id":%d,"workout_id":1,"session_id":1,"action":"start","timestamp":"%d"}' % (user, second),
        b'{"user_id":%d,"workout_id":1,"session_id":1,"action":"start","timestamp":%d}' % (user, BEFORE_2000),
    ]
