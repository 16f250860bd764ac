"""Messages that nobody would send: valid ones with anything done to them, as bytes of Kafka records.

A corpus follows from its seed. Documents are kept as lists of pairs and raw tokens, so that keys can come twice,
numbers keep the digits they were given, and one name can be written in many ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

TIMES = ("time", "timestamp", "changed_at", "date_of_birth", "ts_us")


class Raw(str):
    """A JSON token as it stands."""


class Pairs(list[tuple[str, Any]]):
    """An object, in its order, keys as often as they are given."""


INTEGERS = [
    *("0", "-0", "1", "-1", "7", "12474", "946684800", "1575158400", "1678521900", "253402300799", "253402300800"),
    *("9007199254740991", "9007199254740992", "9007199254740993", "946684800000000", "946684799999999"),
    *("253402300799999999", "253402300800000000", "9223372036854775807", "9223372036854775808"),
    *(
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "-719162",
        "-719163",
        "2932896",
        "2932897",
    ),
    *("9" * 38, "9" * 39, "-" + "9" * 60, "9" * 999, "4611686018427387904", "2147483648", "-2147483649"),
]
NUMBERS = [
    *INTEGERS,
    *("1.0", "-0.0", "1e3", "1E0", "1E-400", "-1E-400", "1e308", "1e309", "-1e309", "1e-7", "0e99999", "1e999999999"),
    *("1575158400.0", "1575158400.123456", "1575158400.1234569", "1678521900.000001", "1.5751584e9", "15751584e2"),
    *("946684799.999999", "946684799.9999999", "946684800.0000001", "253402300799.999999", "253402300799.9999999"),
    *(
        "1575158400." + "3" * 28,
        "1575158400.5" + "0" * 60,
        "0." + "1" * 37,
        "0." + "0" * 300 + "1",
        "1" + "0" * 37 + ".5",
    ),
    *(
        "20",
        "20.000001",
        "20.0000000000000000001",
        "19.999999",
        "250",
        "250.0000000000000000001",
        "250.000001",
        "66.62",
    ),
    *("66.123456789012345678901234567890123456789012345", "-66.62", "6.662e1", "0.6662E+2", "666.2E-1"),
]
NO_NUMBERS = [
    *(
        "01",
        "-01",
        "+1",
        "1.",
        ".5",
        "0x10",
        "1_000",
        "NaN",
        "Infinity",
        "-Infinity",
        "--1",
        "1e",
        "1e+",
        "-",
        "\u0661",
    ),
    *("1 2", "1,", "nan", "undefined", "True", "None", "nul", "1575158400L", "66.62f", "$", "'1'", "(1)", "", "/**/1"),
]
DATES = [
    *("2019-12-01", "2020-02-29", "2019-02-29", "1900-02-29", "2000-02-29", "0000-01-01", "0001-01-01", "9999-12-31"),
    *(
        "10000-01-01",
        "-0001-01-01",
        "+2019-12-01",
        "1999-12-31",
        "2000-01-01",
        "2019-13-01",
        "2019-00-10",
        "2019-01-00",
    ),
    *("2019-1-1", "20191201", "2019-W48-7", "2019-335", "12/01/2019", "2019-12-01\n", " 2019-12-01", "2019-12-01 "),
    *("\u0662\u0660\u0661\u0669-12-01", "2019\u201312-01", "today", "epoch", "now", "infinity", ""),
]
CLOCKS = [
    *("00:00:00", "23:59:59", "23:59:59.999999", "12:34:56.1", "12:34:56.123456789", "00:00", "23:59", "00:30:00"),
    *("12:34:56." + "9" * 40, "23:59:60", "24:00:00", "24:00", "00", "12:34:56.", "12:34:56,5", "7:00:00", "000000"),
    *("12:60:00", "25:00:00", "12:34:5", "12:34:56.1234567\n", "\u0661\u0662:34:56", "12:34:-5"),
]
OFFSETS = [
    *("Z", "z", "+00:00", "-00:00", "+0130", "+01:30", "-18:00", "+18:00", "+1400", "-12:00", "", "+01", "+1:30"),
    *("+18:01", "-18:30", "+19:00", "+23:59", "+24:00", "+99:99", "+01:60", "+01:30:15", "UTC", " Z", " +01:00", "Z\n"),
    *("Zulu", "+\u0660\u0661:00", "\u221201:00", " Europe/Berlin", "[UTC]", "Z ", "Z\u0000", "ZZ", "+-1:00", "+01:30Z"),
]
TEXTS = [
    *(
        "",
        " ",
        "start",
        "stop",
        "Start",
        "start ",
        "\u0000start",
        "start\n",
        "1",
        "12474",
        "1575158400",
        "66.62",
        "null",
    ),
    *(
        "NaN",
        "true",
        "'; DROP TABLE silver.users; --",
        "\\",
        '"',
        "\u2028",
        "\ufeff",
        "\U0001f3c3",
        "e\u0301",
        "\ud800",
    ),
    *("\udc00\ud800", "../../etc/passwd", "${env:HOME}", "$.user_id", "a" * 3000, "\uffff", "\u0000", "d", "c"),
]
NAMES = [
    "",
    "x",
    "device_id.x",
    "$",
    "payload",
    "schema",
    "Device_Id",
    "user_id ",
    "\u0000",
    "\ud800",
    "\ud801",
    "?",
    "__proto__",
    "[0]",
]


def reading(dice: Random) -> Pairs:
    """Few devices and instants, so that readings meet."""
    time = Raw(dice.choice(["1575158400", "1575158400.5", "1678521900", "1709380800"]))
    bpm = Raw(dice.choice(["66", "66.62", "120.5", "61"]))
    return Pairs([("device_id", Raw(dice.randrange(1, 40))), ("time", time), ("heartrate", bpm)])


def workout(dice: Random) -> Pairs:
    ids = [(name, Raw(dice.randrange(1, 9))) for name in ("user_id", "workout_id", "session_id")]
    action, moment = dice.choice(["start", "stop"]), f"{1678521900 + dice.randrange(0, 9000, 600)}.0"
    return Pairs([*ids, ("action", action), ("timestamp", Raw(moment))])


def profile_change(dice: Random) -> Pairs:
    """As Debezium tells it; also what it tells that is no change of a row."""
    image = Pairs(
        [
            ("user_id", Raw(dice.randrange(1, 30))),
            ("date_of_birth", dice.choice([Raw("5478"), Raw("-1"), "2004-02-29", None])),
            *((name, dice.choice(["f", None, "Z\u00fcrich"])) for name in ("sex", "gender", "first_name", "last_name")),
            *((name, dice.choice(["x", None])) for name in ("street_address", "city", "state", "zip")),
            ("changed_at", dice.choice(["2023-03-11T08:05:00.123456Z", Raw("1678521900123456"), Raw("1678521900.5")])),
        ]
    )
    op = dice.choice("ccuurddtm")
    lsn = dice.randrange(10**6, 10**12)
    postgresql = [("connector", "postgresql"), ("lsn", Raw(lsn)), ("ts_us", Raw("1678521900123456"))]
    sql_server = [
        ("connector", "sqlserver"),
        ("commit_lsn", f"{lsn:08x}:00000ac0:0002"),
        ("change_lsn", dice.choice([None, f"{lsn:08x}:00000ac0:0001"])),
        ("event_serial_no", dice.choice([None, Raw("1")])),
    ]
    source = Pairs([*dice.choice([postgresql, postgresql, sql_server]), ("ts_ms", Raw("1678521900123"))])
    before = image if op == "d" or (op == "u" and dice.random() < 0.5) else None
    after = None if op in "dtm" else image
    said = Pairs([("before", before), ("after", after), ("source", source), ("op", op), ("ts_ms", Raw("1"))])
    if op == "m":
        return Pairs([("op", op), ("source", source), ("message", Pairs([("prefix", "x"), ("content", "eA==")]))])
    if dice.random() < 0.05:  # a converter with schemas
        return Pairs([("schema", None), ("payload", said)])
    return said


KINDS: dict[str, Callable[[Random], Pairs]] = {
    "bpm": reading,
    "workout": workout,
    "user_profile": profile_change,
}


def moment(dice: Random) -> str:
    """A text that is a time, or nearly."""
    most = 0.8 if dice.random() < 0.7 else 0.3  # mostly one part is odd

    def of(parts: list[str], good: int) -> str:
        return dice.choice(parts[:good] if dice.random() < most else parts)

    return of(DATES, 2) + of(["T", "t", " ", "  ", "_", "", "\n", "T "], 3) + of(CLOCKS, 8) + of(OFFSETS, 10)


def anything(dice: Random, depth: int = 0) -> Any:
    """Any JSON value, or a token that is none."""
    kind = dice.randrange(20 if depth < 3 else 16)
    if kind < 6:
        return Raw(dice.choice(NUMBERS))
    if kind == 6:
        return Raw(dice.choice(NO_NUMBERS))
    if kind == 7:
        digits = "".join(dice.choices("0123456789", k=dice.randrange(1, 45)))
        return Raw(f"{dice.choice(['', '-'])}{digits.lstrip('0') or '0'}{dice.choice(['', '.5', 'e3', 'E-3', '.0'])}")
    if kind < 11:
        return dice.choice([dice.choice(TEXTS), dice.choice(DATES), dice.choice(NUMBERS)])
    if kind < 14:
        return moment(dice)
    if kind < 16:
        return dice.choice([None, True, False])
    if kind < 18:
        return [anything(dice, depth + 1) for _ in range(dice.randrange(4))]
    return Pairs((dice.choice(NAMES), anything(dice, depth + 1)) for _ in range(dice.randrange(4)))


def objects(value: Any) -> list[Pairs]:
    """All objects of a document."""
    if isinstance(value, Pairs):
        return [value, *(found for _, part in value for found in objects(part))]
    return [found for part in value for found in objects(part)] if isinstance(value, list) else []


def mutate(document: Pairs, dice: Random) -> None:
    """Do one thing to one field of a document."""
    chosen = dice.choice([found for found in objects(document) if found] or [document])
    if not chosen:
        return
    place = dice.randrange(len(chosen))
    name, value = chosen[place]
    match dice.randrange(12):
        case 0 | 1 | 2 | 3:
            chosen[place] = (name, anything(dice))
        case 4:
            times = [(found, at) for found in objects(document) for at, pair in enumerate(found) if pair[0] in TIMES]
            chosen, place = dice.choice(times or [(chosen, place)])
            odd = [moment(dice), moment(dice), dice.choice(DATES), Raw(dice.choice(NUMBERS))]
            chosen[place] = (chosen[place][0], dice.choice(odd))
        case 5:
            del chosen[place]
        case 6:
            chosen.insert(dice.randrange(len(chosen) + 1), (name, dice.choice([value, anything(dice)])))
        case 7:
            renamed = [name.upper(), f"{name} ", f"{name}\u0000", f".{name}", f"{name}[0]", dice.choice(NAMES)]
            chosen[place] = (dice.choice(renamed), value)
        case 8:
            chosen[place] = (name, dice.choice([[value], Pairs([(name, value)]), written(value, dice), None]))
        case 9:
            chosen.insert(place, (dice.choice(NAMES), anything(dice)))
        case 10:
            deep = Raw("[" * 600 + "]" * 600) if dice.random() < 0.5 else Raw('{"x":' * 300 + "1" + "}" * 300)
            chosen.insert(place, ("deep", deep))
        case 11:
            dice.shuffle(chosen)


def text(value: str, dice: Random) -> str:
    """A JSON string: characters escaped or as they are, in any mixture; a lone surrogate only escaped."""
    style = dice.random()
    if style < 0.6:
        return json.dumps(value)
    plain = "".join(
        f"\\u{ord(c):04x}"
        if len(c.encode("utf-16-le", "surrogatepass")) == 2 and (style > 0.9 or dice.random() < 0.1)
        else json.dumps(c, ensure_ascii="\ud800" <= c <= "\udfff")[1:-1]
        for c in value
    )
    return f'"{plain}"'


def written(value: Any, dice: Random) -> str:
    """A value as JSON text."""
    blank = dice.choice(["", "", "", " ", "\t\n "])
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        parts = (f"{text(name, dice)}{blank}:{blank}{written(part, dice)}" for name, part in value)
        return f"{{{blank}{f',{blank}'.join(parts)}{blank}}}"
    if isinstance(value, list):
        return f"[{','.join(written(part, dice) for part in value)}]"
    return text(value, dice) if isinstance(value, str) else json.dumps(value)


def damaged(value: bytes, dice: Random) -> bytes:
    """Bytes with one thing done to them."""
    place = dice.randrange(len(value) + 1)
    match dice.randrange(9):
        case 0:
            return value[:place] + bytes([dice.randrange(256)]) + value[place + 1 :]
        case 1:
            return value[:place] + value[place + 1 :]
        case 2:
            rubbish = [
                b"\x00",
                b"\xff",
                b"\xed\xa0\x80",
                b"\xc0\xaf",
                b"\xf4\x90\x80\x80",
                b'"',
                b",",
                b"}",
                b"\\",
                b"\n",
            ]
            return value[:place] + dice.choice(rubbish) + value[place:]
        case 3:
            return value[:place]
        case 4:
            return value + dice.choice([b" ", b"\n", b"x", b"}", b"]", b"],[", b",{}", b"\x00", b"// x", value])
        case 5:
            return dice.choice([b"\xef\xbb\xbf", b"\n ", b"[", b"\x00", b"/**/", b"{"]) + value
        case 6:
            return value.decode(errors="replace").encode(dice.choice(["utf-16", "utf-32", "utf-8-sig"]))
        case 7:
            return b"[" + value + b"]"
        case _:
            return dice.randbytes(dice.randrange(60))


def corpus(topic: str, seed: int, count: int) -> list[bytes | None]:
    """Messages of a topic: a third valid, some said twice, a few tombstones, the rest with up to three things done."""
    dice = Random(f"{topic} {seed}")
    said: list[bytes | None] = []
    while len(said) < count:
        document = KINDS[topic](dice)
        for _ in range(dice.choice([0, 0, 1, 1, 1, 2, 3])):
            mutate(document, dice)
        value = written(document, dice).encode("utf-8", "surrogatepass")
        if dice.random() < 0.12:
            value = damaged(value, dice)
        said.append(value)
        if dice.random() < 0.1:
            said.append(dice.choice(said))
        if dice.random() < 0.02:
            said.append(None)
    return said
