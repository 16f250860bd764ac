"""Who the members are: everything about a member that chance fixed before the story begins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from local.simulator.facts import Profile
from local.simulator.heart import Heart

LARGEST_SEED = 999
MEMBERS_PER_SEED = 1_000_000

FIRST_NAMES = {
    "F": ("Ada", "Amina", "Chloé", "Dorothy", "Grace", "Ingrid", "Katherine", "Mei", "Noor", "Sofía", "Yuki", "Zoë"),
    "M": ("Alan", "Björn", "Dennis", "Edsger", "Jürgen", "Kwame", "Luis", "Omar", "Pavel", "Ravi", "Seán", "Tomás"),
}
LAST_NAMES = (
    "Dijkstra", "García", "Hopper", "Johnson", "Kovač", "Lovelace", "Müller", "Nguyễn", "O'Brien", "Okafor",
    "Papadopoulos", "Ritchie", "Rossi", "Smith", "Tanaka", "Turing", "van den Berg", "Zhang",
)  # fmt: skip
STREETS = ("Main Street", "Oak Avenue", "Maple Drive", "Cedar Lane", "Park Road", "Lake View", "Hill Street")
TOWNS = (
    ("Springfield", "IL", "62701"),
    ("Portland", "OR", "97201"),
    ("Austin", "TX", "78701"),
    ("Denver", "CO", "80202"),
    ("Boston", "MA", "02108"),
    ("San Francisco", "CA", "94103"),
    ("Miami", "FL", "33101"),
    ("Seattle", "WA", "98101"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """`index` counts from 0 within a seed."""

    seed: int
    index: int
    date_of_birth: date | None
    sex: str
    gender: str
    first_name: str
    last_name: str
    home_gym: int
    heart: Heart
    is_night_owl: bool

    @property
    def user_id(self) -> int:
        return user_id(self.seed, self.index)

    def profile(self, changed_at: int, rng: np.random.Generator) -> Profile:
        """The profile with a new address."""
        town, state, postcode = TOWNS[rng.integers(len(TOWNS))]
        street = f"{rng.integers(1, 2000)} {STREETS[rng.integers(len(STREETS))]}"
        return Profile(
            self.user_id,
            self.date_of_birth,
            self.sex,
            self.gender,
            self.first_name,
            self.last_name,
            street,
            town,
            state,
            postcode,
            changed_at,
        )


def member(seed: int, index: int) -> Member:
    """The same for the same seed and index, however many others there are and whenever the story begins."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"a seed is a number from 0 to {LARGEST_SEED}, not {seed}")
    rng = np.random.default_rng([seed, index, 1])
    born = date(1936, 1, 1) + timedelta(days=int(rng.triangular(0, 19_000, 26_500)))
    if rng.random() < 0.02:
        born = date(born.year - born.year % 4, 2, 29)
    sex = "F" if rng.random() < 0.5 else "M"
    gender = "non-binary" if rng.random() < 0.03 else {"F": "female", "M": "male"}[sex]
    return Member(
        seed=seed,
        index=index,
        date_of_birth=None if rng.random() < 0.02 else born,
        sex=sex,
        gender=gender,
        first_name=FIRST_NAMES[sex][rng.integers(len(FIRST_NAMES[sex]))],
        last_name=LAST_NAMES[rng.integers(len(LAST_NAMES))],
        home_gym=int(rng.integers(1, 13)),
        heart=Heart.of(2020 - born.year, float(rng.beta(2, 2))),
        is_night_owl=bool(rng.random() < 0.05),
    )


def user_id(seed: int, index: int) -> int:
    return seed * MEMBERS_PER_SEED + index + 1


def device_id(owner: int, generation: int) -> int:
    """The device that a member was the first to register, `generation` 0 to 99."""
    return owner * 100 + generation


def mac_address(device: int) -> str:
    """A locally administered address; one device, one address."""
    return ":".join(["02", *(f"{octet:02x}" for octet in device.to_bytes(5, "big"))])
