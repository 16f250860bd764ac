"""Topics in Kafka against bronze.kafka_multiplex: every committed record is there once, byte for byte.

Read from Kafka itself are the offsets since the last clean look, up to where the intake has said it had read. What
Kafka has dropped since by retention is not compared; of topic bpm, which no transaction writes, those offsets must
follow each other without a gap.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import job, kafka
from spark_jobs.bronze.kafka_multiplex import TARGET
from spark_jobs.job import LastRun
from spark_jobs.messages import PLACE
from spark_jobs.quality import readings
from spark_jobs.quality.comparison import Finding, compared, finding
from spark_jobs.quality.pinned import Pinned
from spark_jobs.quality.readings import Offsets

WHAT = "kafka = bronze"
CONTIGUOUS = (readings.TOPIC,)


def audit(view: Pinned, topics: list[str], audited: LastRun | None) -> tuple[list[Finding], dict[str, int]]:
    read = {} if audited is None or view.rebuild else audited.source_versions
    reread = _touched(view, read.get(f"kafka:{TARGET}"))
    findings, looked_at = [], {f"kafka:{TARGET}": view.pins[TARGET]}
    for topic in topics:
        extent = _extent(view, topic, read, reread)
        looked_at |= {mark(topic, partition): end for partition, end in extent.end.items()}
        findings.append(_compare(view, topic, extent))
    return findings, looked_at


def mark(topic: str, partition: int) -> str:
    return f"kafka:{topic}-{partition}"


def _extent(view: Pinned, topic: str, read: dict[str, int], reread: dict[tuple[str, int], int]) -> Offsets:
    """From the last clean look, or a changed row before it, to what has been taken in; and the last record looked at
    then once more: a topic that was made anew, and has grown beyond what the old one had, has another there."""
    if topic == readings.TOPIC:
        ends = readings.offsets(view, {}).end
    else:
        done = view.last_run_of(TARGET)
        said = done.source_versions if done else {}
        ends = {int(name.rpartition("-")[2]): end for name, end in said.items() if name.rpartition("-")[0] == topic}
    begin = {number: max(read.get(mark(topic, number), 0) - 1, 0) for number in ends}
    begin |= {number: min(low, reread.get((topic, number), low)) for number, low in begin.items()}
    if view.rebuild and not view.rebuild.full:
        days = view.on_days(F.col("event_date"))
        of_days = view.table(TARGET).where(F.col("topic") == topic).where(days).groupBy("partition")
        found = {row[0]: row[1:] for row in of_days.agg(F.min("offset"), F.max("offset")).collect()}
        begin = {number: found[number][0] for number in ends if number in found}
        ends = {number: min(end, found[number][1] + 1) for number, end in ends.items() if number in found}
    return Offsets(begin, {number: end for number, end in ends.items() if end > begin[number]})


def _touched(view: Pinned, since: int | None) -> dict[tuple[str, int], int]:
    """The least offset of each partition at which bronze was not only appended to."""
    if since is None:
        return {}
    news = view.news({TARGET: "TRUE"}, LastRun({TARGET: since}, view.clock))
    feed = news.of(TARGET)
    if feed is None:
        return {}
    of_partition = feed.groupBy("topic", "partition").agg(F.min("offset")).collect()
    return {(topic, partition): offset for topic, partition, offset in of_partition}


def _compare(view: Pinned, topic: str, extent: Offsets) -> Finding:
    if not extent.end:
        return Finding(WHAT, topic)
    taken = view.table(TARGET).where(F.col("topic") == topic).where(extent.arrived & extent.done)
    begin = {number: extent.begin[number] for number in extent.end}
    in_kafka = kafka.records(view, topic, begin, extent.end)  # what retention has dropped is no defect
    with job.kept(compared(_digest(in_kafka), _digest(taken), PLACE)) as comparison:
        there = comparison.where("kind <> 'unexpected'").groupBy("partition").agg(F.min("offset")).collect()
        earliest = {row[0]: row[1] for row in there}
        kept = Offsets(earliest, {number: extent.end[number] for number in earliest})
        found = finding(WHAT, topic, comparison.where(kept.arrived & kept.done), PLACE)
    if found.defects or topic not in CONTIGUOUS:
        return found
    return _contiguous(found, taken, extent, earliest)


def _contiguous(found: Finding, taken: DataFrame, extent: Offsets, earliest: dict[int, int]) -> Finding:
    """With the offsets that are missing up to Kafka's earliest."""
    dropped = Offsets(extent.begin, {number: earliest.get(number, end - 1) + 1 for number, end in extent.end.items()})
    before = F.lag("offset").over(Window.partitionBy("partition").orderBy("offset"))
    gaps = (
        taken.where(dropped.done)
        .select("partition", "offset")
        .distinct()
        .withColumn("before", before)
        .where("offset > before + 1")
        .select("partition", "before", (F.col("offset") - F.col("before") - 1).alias("width"))
    )
    row = gaps.agg(F.sum("width").alias("missing"), F.min(F.struct("partition", "before")).alias("first")).head()
    if row is None or row["missing"] is None:
        return found
    first = f"missing after partition={row['first']['partition']}, offset={row['first']['before']}"
    return Finding(
        "offsets without a gap", found.scope, found.expected, found.found, missing=row["missing"], detail=first
    )


def _digest(records: DataFrame) -> DataFrame:
    hashes = [F.xxhash64(name).alias(name) for name in ("key", "value")]
    time = "timestamp" if "timestamp" in records.columns else "kafka_timestamp"
    return records.select(*PLACE, F.col(time).alias("kafka_timestamp"), *hashes)
