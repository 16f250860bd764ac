"""What every silver and gold table must hold, computed from source events in plain Python.

Written from the rules in words, without Spark and without a look at the jobs: where the two disagree, one is wrong.
Arithmetic is exact (integers of microseconds, `Decimal`, `Fraction`); a float appears only when a row is finished.
"""

from tests.oracle.comparison import differences
from tests.oracle.facts import ProfileChange, Reading, RegistrationVersion, VisitVersion, WorkoutEvent, World, at
from tests.oracle.tables import KEYS, expected_tables

__all__ = [
    "KEYS",
    "ProfileChange",
    "Reading",
    "RegistrationVersion",
    "VisitVersion",
    "WorkoutEvent",
    "World",
    "at",
    "differences",
    "expected_tables",
]
