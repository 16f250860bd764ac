"""A request to compute rows anew, for some keys, some days or all of it: of one table, or of a layer's batch tables.

A rebuild travels as the parameter `rebuild` of its layer's DAG. There it takes its turn among the ordinary runs, so a
table keeps its one writer, and what depends on it is refreshed in the same order as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from airflow.sdk import Param
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from include.pipeline import JOBS

PARAM = "rebuild"
ONCE = {"bronze.kafka_multiplex", "quality.lateness"}  # what they have read they do not read again
# others have a DAG of their own, with its own parameters
REBUILT = [name for name, job in JOBS.items() if not job.dag and name not in ONCE]
LAYER_PARAMS = {PARAM: Param(None, type=["null", "object"], description="Set by the DAG `rebuild`; see there.")}


def _known_job(name: str) -> str:
    if name not in REBUILT:
        raise ValueError(f"no job {name!r}; one of {', '.join(REBUILT)}")
    return name


class Extent(BaseModel):
    """What of a table: exactly one of `full`, `keys` and the two dates (both inclusive, UTC days)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    full: bool = False
    keys: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Extent:
        """Of a DAG's parameters those that say what to rebuild."""
        return cls.model_validate({name: params[name] for name in cls.model_fields})

    @model_validator(mode="after")
    def _exactly_one_extent(self) -> Self:
        if (self.from_date is None) != (self.to_date is None):
            raise ValueError("give both from_date and to_date")
        if [self.full, bool(self.keys), self.from_date is not None].count(True) != 1:
            raise ValueError("say what to rebuild: everything, some keys, or a range of days; exactly one of them")
        if self.from_date and self.to_date and self.from_date > self.to_date:
            raise ValueError("from_date is after to_date")
        if any("," in key or not key.strip() for key in self.keys):
            raise ValueError("a key is empty or holds a comma")
        return self

    def arguments(self) -> list[str]:
        """What the job is told."""
        if self.full:
            return ["--full"]
        if self.keys:
            return [f"--keys={','.join(self.keys)}"]  # in one word: a negative key begins like an option
        return ["--from-date", str(self.from_date), "--to-date", str(self.to_date)]


class Rebuild(Extent):
    """Of which table: exactly one of `job` and `layer`. A layer has no keys: those of its tables differ."""

    job: Annotated[str, BeforeValidator(_known_job)] | None = None
    layer: Literal["silver", "gold"] | None = None

    @model_validator(mode="after")
    def _exactly_one_scope(self) -> Self:
        if (self.job is None) == (self.layer is None):
            raise ValueError("say which job or which layer to rebuild; one of them")
        if self.layer and self.keys:
            raise ValueError("tables of a layer have different keys; name a job")
        return self

    @property
    def dag_id(self) -> str:
        """The DAG in which the rebuild runs: the layer's own."""
        return self.layer or JOBS[str(self.job)].layer

    def concerns(self, job: str) -> bool:
        """Whether this job, one of the DAG's, recomputes what is asked for."""
        return self.layer is not None or self.job == job

    def conf(self) -> dict[str, object]:
        """The conf of the layer's DAG run."""
        return {PARAM: self.model_dump(mode="json", exclude_defaults=True)}


EXTENT_PARAMS = {
    "full": Param(False, type="boolean", description="All of it, from everything that is known."),
    "keys": Param([], type="array", items={"type": "string"}, description="Or: these keys of the table, one a line."),
    "from_date": Param(None, type=["null", "string"], format="date", description="Or: from this UTC day ..."),
    "to_date": Param(None, type=["null", "string"], format="date", description="... to this one, both inclusive."),
}


def asked_of(job: str, params: Mapping[str, Any]) -> Extent | None:
    """What the parameters of a DAG's run ask one of its jobs to recompute: those of a layer, or of a DAG that rebuilds
    and nothing else (EXTENT_PARAMS)."""
    if requested := params.get(PARAM):
        rebuild = Rebuild.model_validate(requested)
        return rebuild if rebuild.concerns(job) else None
    return Extent.of(params) if set(EXTENT_PARAMS) <= set(params) else None
