"""Kafka records of the contract, read strictly: what is right becomes columns, what is wrong becomes a reason.

Each `parse_*` takes rows of `bronze.kafka_multiplex` (at least `value` and `kafka_timestamp`) and adds the message's
fields, `reason` (NULL when accepted) and `detail`. Fields of a refused record are NULL or meaningless. No byte sequence
makes these functions fail.

Decided here:
- An id is a JSON integer of 64 bits: 12.0, 1e3, "12" and true are refused.
- A time is a number of seconds or an ISO-8601 text with an offset. Digits beyond microseconds are cut off. A number of
  seconds is decimal, however many digits it has up to 38; with more, or with an exponent, it is a 64-bit float first.
- An unknown field is no fault; it stays in bronze.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_jobs.quarantine import Reason

MICROS = 1_000_000
YEAR_2000 = 946_684_800 * MICROS
YEAR_10000 = 253_402_300_800 * MICROS
LOWEST_BPM, HIGHEST_BPM = 20, 250  # exclusive, inclusive
FUTURE = 300 * MICROS
# `\z`, since `$` also stands before a last line break
ISO_DATE = r"^(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
ISO_WITH_OFFSET = (
    r"(?i)^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})\z"
)
# as JSON spells a character that is half of a surrogate pair, without its other half
HALF_A_PAIR = (
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
OBJECT = "OBJECT"
STRICT_JSON = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": "_corrupt",
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}
PROFILE_TEXTS = ("sex", "gender", "first_name", "last_name", "street_address", "city", "state", "zip")
PROFILE = ("date_of_birth", *PROFILE_TEXTS)
PROFILE_CHANGE = ("op", "user_id", *PROFILE, "changed_at", "position", "committed_at", "is_tombstone")
READING_FIELDS = ("device_id", "read_at", "bpm")
PLACE = ("topic", "partition", "offset")  # what names a record
NO_VALUE = f"{Reason.NO_VALUE} value"  # the fault of an empty record, on a topic where a tombstone says nothing

Named = Callable[[str], Column]  # the column of that name: of the records, or of what has been made of them so far
Step = Callable[[Named], Mapping[str, Column]]  # columns that are made of those before


def parse_readings(records: DataFrame) -> DataFrame:
    """Records of topic `bpm`: adds device_id, read_at, bpm DOUBLE, reason, detail.

    A reading more than 5 minutes later than its arrival (`kafka_timestamp`) is refused; it may be as old as 2000.
    """
    return unfolded(records, records.columns, read_strictly(), READING_FIELDS)


def read_strictly() -> Column:
    """What `parse_readings` adds, as one column: STRUCT of READING_FIELDS and `fault` (`<reason> <detail>` or NULL).

    For where it is wanted of few rows among many: in one branch of a condition the other rows do not pay for it.
    """
    names = ("device_id", "time", "heartrate")

    def values(named: Named) -> dict[str, Column]:
        device, time, heartrate = (Field(name, named) for name in names)
        return {"device_id": device.integer, "_read_at": time.micros, "bpm": heartrate.double}

    def reading(named: Named) -> Column:
        device, time, heartrate = (Field(name, named) for name in names)
        micros, bpm = named("_read_at"), named("bpm")
        fault = _first_fault(
            named,
            _document_faults(named),
            device.id_faults,
            time.time_faults(micros),
            heartrate.number_faults,
            [
                _fault((bpm <= LOWEST_BPM) | (bpm > HIGHEST_BPM), Reason.OUT_OF_RANGE, "heartrate"),
                _fault(micros > F.unix_micros(named("kafka_timestamp")) + FUTURE, Reason.TOO_FAR_IN_FUTURE, "time"),
            ],
        ).otherwise(NO_VALUE)
        read_at = _timestamp(micros).alias("read_at")
        return F.struct(named("device_id").alias("device_id"), read_at, bpm.alias("bpm"), fault.alias("fault"))

    return _nested([*_open(lambda named: {name: _member(name, named) for name in names}), values], reading, F.col)


def parse_workouts(records: DataFrame) -> DataFrame:
    """Records of topic `workout`: adds user_id, workout_id, session_id, action, occurred_at, reason, detail."""
    ids = [Field(name) for name in ("user_id", "workout_id", "session_id")]
    action, timestamp = Field("action"), Field("timestamp")
    messages = _made(records, _open(lambda _: {field.name: _member(field.name) for field in (*ids, action, timestamp)}))
    values = messages.withColumns(
        {**{field.name: field.integer for field in ids}, "action": action.text, "_occurred_at": timestamp.micros}
    ).withColumn("occurred_at", _timestamp(F.col("_occurred_at")))
    fault = _first_fault(
        F.col,
        _document_faults(F.col),
        *(field.id_faults for field in ids),
        action.text_faults,
        [_fault(~F.col("action").isin("start", "stop"), Reason.UNKNOWN_ACTION, "action")],
        timestamp.time_faults(F.col("_occurred_at")),
    ).otherwise(NO_VALUE)
    return _close(records, values, (*(field.name for field in ids), "action", "occurred_at"), fault)


def parse_profile_changes(records: DataFrame) -> DataFrame:
    """Records of topic `user_profile` (Debezium envelopes): adds op, user_id, the profile's fields, changed_at,
    position, committed_at, is_tombstone, reason, detail.

    `position`, a text, orders the changes of the source: commit, change in it, event of the change, and a delete before
    a create (a changed key is both at one place). `committed_at` is when the source committed; of a
    delete the profile's fields are the last known. A tombstone is no fault.
    """
    op, lsn, commit_lsn, change_lsn, serial = (
        Field(name) for name in ("op", "lsn", "commit_lsn", "change_lsn", "event_serial_no")
    )
    image, user, born, changed = (Field(name) for name in ("image", "user_id", "date_of_birth", "changed_at"))
    ts_us, ts_ms = Field("ts_us"), Field("ts_ms")
    texts = [Field(name) for name in PROFILE_TEXTS]
    is_delete = F.try_variant_get("_message", "$.op", "string").eqNullSafe("d")
    half = F.when(is_delete, _member("before")).otherwise(_member("after"))
    members = {
        "op": _member("op"),
        **{field.name: _member(f"source.{field.name}") for field in (lsn, commit_lsn, change_lsn, serial)},
        **{field.name: _member(f"source.{field.name}") for field in (ts_us, ts_ms)},
        "image": half,
        **{field.name: F.try_variant_get(half, f"$.{field.name}", "variant") for field in (user, born, changed)},
        **{field.name: F.try_variant_get(half, f"$.{field.name}", "variant") for field in texts},
    }
    messages = _made(records, _open(lambda _: members))
    deleted, committed, changed_at = F.col("op") == "d", F.col("_committed_at"), F.col("_changed_at")
    commit = F.when(lsn.kind == "BIGINT", F.lpad(lsn.as_text, 20, "0")).otherwise(commit_lsn.text)
    position = (
        commit,
        F.coalesce(change_lsn.text, F.lit("")),
        F.lpad(F.coalesce(serial.integer, F.lit(0)).cast("string"), 20, "0"),
        F.when(deleted, "0").otherwise("1"),
    )
    values = messages.withColumns(
        {
            "op": op.text,
            "user_id": user.integer,
            "date_of_birth": born.date,
            **{field.name: field.text for field in texts},
            # a number that large is no seconds before the year 10000: it is Debezium's MicroTimestamp
            "_changed_at": F.when(changed.integer >= YEAR_2000, changed.integer).otherwise(changed.micros),
            "_committed_at": F.coalesce(ts_us.integer, F.try_multiply(ts_ms.integer, F.lit(1000))),
        }
    ).withColumns(
        {
            "changed_at": _timestamp(F.col("_changed_at")),
            "committed_at": _timestamp(F.col("_committed_at")),
            "is_tombstone": F.col("value").isNull(),
            "position": F.when(commit.isNotNull(), F.concat_ws("/", *position)),
        }
    )
    fault = _first_fault(
        F.col,
        _document_faults(F.col),
        op.text_faults,
        [
            _fault(~F.col("op").isin("c", "u", "d", "r"), Reason.UNKNOWN_OPERATION, "op"),
            _fault(image.is_missing, Reason.MISSING_FIELD, "before or after"),
            _fault(image.kind != OBJECT, Reason.WRONG_TYPE, "before or after"),
        ],
        user.id_faults,
        [
            _fault(lsn.is_missing & commit_lsn.is_missing, Reason.MISSING_FIELD, "source.lsn"),
            _fault(F.col("position").isNull(), Reason.WRONG_TYPE, "source.lsn"),
            _fault(ts_us.is_missing & ts_ms.is_missing, Reason.MISSING_FIELD, "source.ts_us"),
            _fault(ts_us.integer.isNull() & ts_ms.integer.isNull(), Reason.WRONG_TYPE, "source.ts_us"),
            _fault(committed.isNull() | ~committed.between(0, YEAR_10000 - 1), Reason.OUT_OF_RANGE, "source.ts_us"),
        ],
        [F.when(~deleted, fault) for fault in changed.time_faults(changed_at)],
        [F.when(~deleted, fault) for fault in born.date_faults],
        [F.when(~deleted, fault) for field in texts for fault in field.optional_text_faults],
    )
    return _close(records, values, PROFILE_CHANGE, fault)


@dataclass(frozen=True)
class Field:
    """A field of an opened message: `_v_<name>` holds it as VARIANT, `_k_<name>` the kind of value it is."""

    name: str
    named: Named = F.col

    @property
    def value(self) -> Column:
        return self.named(f"_v_{self.name}")

    @property
    def kind(self) -> Column:
        """BIGINT for any integer of 64 bits, DECIMAL(p,s), DOUBLE, STRING, ...; NULL for an absent field."""
        return self.named(f"_k_{self.name}")

    @property
    def is_missing(self) -> Column:
        """Absent and null are the same."""
        return self.value.isNull() | (self.kind == "VOID")

    @property
    def is_number(self) -> Column:
        return (self.kind == "BIGINT") | self.kind.startswith("DECIMAL") | (self.kind == "DOUBLE")

    @property
    def as_text(self) -> Column:
        """Any scalar as text; of a decimal every digit."""
        return F.try_variant_get(self.value, "$", "string")

    @property
    def text(self) -> Column:
        return F.when(self.kind == "STRING", self.as_text)

    @property
    def integer(self) -> Column:
        return F.when(self.kind == "BIGINT", F.try_variant_get(self.value, "$", "bigint"))

    @property
    def double(self) -> Column:
        return F.when(self.is_number, F.try_variant_get(self.value, "$", "double"))

    @property
    def micros(self) -> Column:
        """Microseconds since the epoch of a time as the contract writes it, or NULL; exact for a decimal."""
        # by its text: a cast to fewer digits would round
        seconds = F.when(
            self.kind.startswith("DECIMAL"),
            F.regexp_extract(self.as_text, "^-?[0-9]+([.][0-9]{1,6})?", 0).try_cast("decimal(38, 18)"),
        ).otherwise(F.try_variant_get(self.value, "$", "decimal(38, 18)"))
        with_seconds = F.regexp_replace(F.upper(self.text), "^(.{16})([Z+-])", "$1:00$2")  # or Spark would not read it
        of_decimal = F.floor(seconds, F.lit(6)).try_cast("decimal(28, 6)") * F.lit(MICROS).cast("decimal(7, 0)")
        return (
            F.when(self.kind == "BIGINT", F.try_multiply(self.integer, F.lit(MICROS)))
            .when(self.is_number, of_decimal.try_cast("bigint"))
            .when(self.text.rlike(ISO_WITH_OFFSET), F.unix_micros(F.try_to_timestamp(with_seconds)))
        )

    @property
    def date(self) -> Column:
        """A date as days since the epoch (Debezium) or as ISO text, or NULL."""
        epoch = F.lit("1970-01-01").cast("date")
        of_days = F.when(self.integer.between(-719_162, 2_932_896), F.date_add(epoch, self.integer.try_cast("int")))
        return F.coalesce(of_days, F.when(self.text.rlike(ISO_DATE), self.text.try_cast("date")))  # years 1 to 9999

    @property
    def id_faults(self) -> list[Column]:
        return [self._missing, _fault(self.kind != "BIGINT", Reason.WRONG_TYPE, self.name)]

    @property
    def text_faults(self) -> list[Column]:
        return [self._missing, _fault(self.kind != "STRING", Reason.WRONG_TYPE, self.name)]

    @property
    def optional_text_faults(self) -> list[Column]:
        return [_fault(~self.kind.isin("STRING", "VOID"), Reason.WRONG_TYPE, self.name)]

    @property
    def number_faults(self) -> list[Column]:
        return [self._missing, _fault(~self.is_number, Reason.WRONG_TYPE, self.name)]

    @property
    def date_faults(self) -> list[Column]:
        unknown = ~self.is_missing & self.date.isNull()
        return [
            _fault(unknown & ~self.kind.isin("BIGINT", "STRING"), Reason.WRONG_TYPE, self.name),
            _fault(unknown & (self.kind == "STRING"), Reason.INVALID_TIME, self.name),
            _fault(unknown, Reason.OUT_OF_RANGE, self.name),
        ]

    def time_faults(self, micros: Column) -> list[Column]:
        """`micros` is a column that holds this field's `micros`, so that it is computed once."""
        is_text = self.kind == "STRING"
        return [
            self._missing,
            _fault(~is_text & ~self.is_number, Reason.WRONG_TYPE, self.name),
            _fault(is_text & micros.isNull(), Reason.INVALID_TIME, self.name),
            _fault((micros < YEAR_2000) | (self.is_number & (self.double < 0)), Reason.BEFORE_2000, self.name),
            _fault(micros.isNull() | (micros >= YEAR_10000), Reason.OUT_OF_RANGE, self.name),
        ]

    @property
    def _missing(self) -> Column:
        return _fault(self.is_missing, Reason.MISSING_FIELD, self.name)


def _made(records: DataFrame, steps: Sequence[Step]) -> DataFrame:
    """The records with the columns of each step."""
    return reduce(lambda made, step: made.withColumns(dict(step(F.col))), steps, records)


def _nested(steps: Sequence[Step], result: Callable[[Named], Column], named: Named) -> Column:
    """`result` of what the steps make, as one column, which makes no others."""
    if not steps:
        return result(named)
    made = steps[0](named)

    def rest(row: Column) -> Column:
        return _nested(steps[1:], result, lambda name: row[name] if name in made else named(name))

    # a list of one, whose only element has a name in `rest` and is made once however often that names it
    row = F.struct(*(column.alias(name) for name, column in made.items()))
    return F.transform(F.array(row), rest)[0]


def _open(members: Step) -> list[Step]:
    """Parse `value` into `_message` (NULL unless it is exactly one JSON value) and lay out its members for `Field`."""

    def string(named: Named) -> Column:
        return named("value").cast("string")

    def checksum(named: Named) -> Column:
        return F.xxhash64(named("value")).cast("string")

    # The JSON parser stops at the end of the first value and would not see what follows. So it is given the list
    # [text, checksum of text]: only if the text is exactly one value is the checksum the second.
    def listed(named: Named) -> Column:
        return F.try_parse_json(F.concat(F.lit("["), named("_text"), F.lit(","), checksum(named), F.lit("]")))

    def message(named: Named) -> Column:
        is_whole = F.try_variant_get(named("_listed"), "$[1]", "string") == checksum(named)
        return F.when(is_whole, F.try_variant_get(named("_listed"), "$[0]", "variant"))

    return [
        lambda named: {"_text": F.when(F.is_valid_utf8(string(named)), _of_whole_characters(string(named)))},
        lambda named: {"_listed": listed(named)},
        lambda named: {"_message": message(named)},
        lambda named: {f"_v_{name}": member for name, member in members(named).items()},
        lambda named: {f"_k_{name}": _kind(named(f"_v_{name}")) for name in members(named)},
    ]


def _of_whole_characters(text: Column) -> Column:
    """JSON can spell half of a surrogate pair, which is no character: a question mark, as Java writes it. The parser
    tells names apart before that, and what it has made of two that are one then cannot be read."""
    spelled = F.regexp_replace(text, r"\\\\", r"\\u005c")  # a backslash: what is left of \u begins a character
    return F.when(text.rlike(r"\\u[dD][89a-fA-F]"), F.regexp_replace(spelled, HALF_A_PAIR, "?")).otherwise(text)


def _kind(value: Column) -> Column:
    """As schema_of_variant says, but of an object or a list no more than that: to describe what is in a list of objects
    takes the square of their names."""
    is_object = F.try_variant_get(value, "$", "map<string, variant>").isNotNull()
    is_list = F.try_variant_get(value, "$", "array<variant>").isNotNull()
    return F.when(is_object, F.lit(OBJECT)).when(is_list, F.lit("ARRAY")).otherwise(F.schema_of_variant(value))


def _close(records: DataFrame, values: DataFrame, fields: Sequence[str], fault: Column) -> DataFrame:
    """The `records` with the message's `fields`, and its fault as `reason` and `detail`."""
    return unfolded(values, records.columns, F.struct(*fields, fault.alias("fault")), fields)


def unfolded(values: DataFrame, columns: Sequence[str], judged: Column, fields: Sequence[str]) -> DataFrame:
    """These columns of `values`, the fields of the structure `judged`, and its `fault` as `reason` and `detail`."""
    # The detour over a list of one keeps the optimizer from pulling a filter on `reason` down through the projections:
    # each would be unfolded into the next, and planning would take half a minute.
    return values.select(*columns, F.explode(F.array(judged)).alias("_judged")).select(
        *columns,
        *(F.col(f"_judged.{field}") for field in fields),
        F.substring_index("_judged.fault", " ", 1).alias("reason"),
        F.regexp_replace("_judged.fault", "^[a-z0-9_]+ ", "").alias("detail"),
    )


def _first_fault(named: Named, *faults: list[Column]) -> Column:
    """The first of the faults, which are looked for in what has a value: `otherwise` says what is wrong without one."""
    return F.when(named("value").isNotNull(), F.coalesce(*(fault for group in faults for fault in group)))


def _document_faults(named: Named) -> list[Column]:
    """Faults of a value as a whole."""
    unread = named("_message").isNull()
    # Only duplicate keys make a VARIANT fail on what another reader takes, as a field with the checksum after it.
    end = F.xxhash64(named("value"))
    field = F.concat(F.lit('{"text":'), named("_text"), F.lit(',"end":'), end.cast("string"), F.lit("}"))
    lenient = F.from_json(field, "end BIGINT, _corrupt STRING", STRICT_JSON)
    is_json = lenient["_corrupt"].isNull() & (lenient["end"] == end)
    return [
        _fault(named("_text").isNull(), Reason.INVALID_UTF8, "value"),
        _fault(unread & is_json, Reason.DUPLICATE_KEY, "value"),
        _fault(unread, Reason.MALFORMED_JSON, "value"),
        _fault(~named("_text").rlike(r"^[ \t\r\n]*\{"), Reason.NOT_AN_OBJECT, "value"),
    ]


def _timestamp(micros: Column) -> Column:
    """Microseconds as TIMESTAMP; NULL for what no calendar of a client could hold."""
    return F.timestamp_micros(F.when(micros.between(0, YEAR_10000 - 1), micros))


def _member(path: str, named: Named = F.col) -> Column:
    return F.try_variant_get(named("_message"), f"$.{path}", "variant")


def _fault(condition: Column, reason: Reason, detail: str) -> Column:
    """`<reason> <detail>` where the condition holds: one text, since structs make a plan of many faults large."""
    return F.when(condition, F.lit(f"{reason} {detail}"))
