"""Small charts as inline SVG (pure). Every text that comes from data is escaped by `Markup`."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 760, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 24


def ceiling(value: float) -> float:
    """The next round number (1, 2 or 5 times a power of ten) that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    return next(step * power for step in (1, 2, 5, 10, 100) if step * power >= value)


def _x(index: float, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / max(count, 1)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)


def _frame(labels: Sequence[str], low: float, high: float, unit: str) -> Markup:
    lines = Markup("")
    for step in range(5):
        value = low + (high - low) * step / 4
        lines += Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
            LEFT, WIDTH - RIGHT, y=_y(value, low, high)
        )
        lines += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(
            LEFT - 6, _y(value, low, high) + 4, value
        )
    every = max(-(-len(labels) // 8), 1)
    for index in range(0, len(labels), every):
        lines += Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _x(index, len(labels)), HEIGHT - 6, labels[index]
        )
    return lines + Markup('<text class="unit" x="4" y="10">{}</text>').format(unit)


def _svg(title: str, inside: Markup) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>').format(WIDTH, HEIGHT, title, inside)


def band_chart(
    title: str,
    labels: Sequence[str],
    lows: Sequence[float],
    middles: Sequence[float],
    highs: Sequence[float],
    unit: str,
) -> Markup:
    """A line of `middles` within the band from `lows` to `highs`."""
    count = len(labels)
    high = ceiling(max(highs, default=0))
    points = [(_x(n, count), _y(value, 0, high)) for n, value in enumerate(highs)]
    points += [(_x(n, count), _y(lows[n], 0, high)) for n in reversed(range(count))]
    area = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = " ".join(f"{_x(n, count):.1f},{_y(value, 0, high):.1f}" for n, value in enumerate(middles))
    drawn = Markup('<polygon class="band" points="{}"/><polyline class="line" points="{}"/>').format(area, line)
    if count == 1:  # a line of one point cannot be seen
        drawn += Markup('<circle class="dot" r="3" cx="{:.1f}" cy="{:.1f}"/>').format(_x(0, 1), _y(middles[0], 0, high))
    return _svg(title, _frame(labels, 0, high, unit) + drawn)


def stacked_bars(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], unit: str) -> Markup:
    """One bar a label; `series` are (CSS class, values), the first at the bottom."""
    count = len(labels)
    totals = [sum(values[n] for _, values in series) for n in range(count)]
    high = ceiling(max(totals, default=0))
    width = (WIDTH - LEFT - RIGHT) / max(count, 1) * 0.7
    bars = Markup("")
    for n in range(count):
        base = 0.0
        for name, values in series:
            top = base + values[n]
            bars += Markup(
                '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                "<title>{}: {:g} {}</title></rect>"
            ).format(
                name,
                _x(n, count) - width / 2,
                _y(top, 0, high),
                width,
                _y(base, 0, high) - _y(top, 0, high),
                labels[n],
                values[n],
                name,
            )
            base = top
    return _svg(title, _frame(labels, 0, high, unit) + bars)
