"""Small charts as inline SVG (pure). Every text that comes from data is escaped by `Markup`.

Each is drawn twice, for wide pages and for phones; the style sheet shows the one that fits. Scaled down to a phone, the
wide one could not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDE, NARROW, HEIGHT = 760, 340, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 24
LABEL_WIDTH = 80


def ceiling(value: float) -> float:
    """The next round number (1, 2 or 5 times a power of ten) that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    return next(step * power for step in (1, 2, 5, 10, 100) if step * power >= value)


@dataclass(frozen=True)
class Plane:
    """Where things are in a drawing of `width`: labels from left to right, values from 0 to `high` from the bottom."""

    width: int
    labels: Sequence[str]
    high: float

    @property
    def step(self) -> float:
        return (self.width - LEFT - RIGHT) / max(len(self.labels), 1)

    def x(self, index: float) -> float:
        return LEFT + self.step * (index + 0.5)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.high

    def frame(self) -> Markup:
        """Grid and texts of both axes."""
        lines = Markup("")
        for step in range(5):
            value = self.high * step / 4
            lines += Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(
                LEFT, self.width - RIGHT, y=self.y(value)
            )
            lines += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(
                LEFT - 6, self.y(value) + 4, value
            )
        every = max(-(-len(self.labels) * LABEL_WIDTH // (self.width - LEFT - RIGHT)), 1)
        for index in range(0, len(self.labels), every):
            lines += Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                self.x(index), HEIGHT - 6, self.labels[index]
            )
        return lines


def _figure(
    title: str,
    unit: str,
    names: Sequence[tuple[str, str]],
    plane: Callable[[int], Plane],
    draw: Callable[[Plane], Markup],
) -> Markup:
    """Both drawings under their title, unit and legend; `names` are (CSS class, name)."""
    caption = Markup('{} <span class="unit">{}</span>').format(title, unit)
    for css, name in names:
        caption += Markup(' <span class="{}">{}</span>').format(css, name)
    drawings = Markup("")
    for css, width in (("wide", WIDE), ("narrow", NARROW)):
        on = plane(width)
        drawings += Markup('<svg class="{}" viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>').format(
            css, width, HEIGHT, title, on.frame() + draw(on)
        )
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}</figure>').format(caption, drawings)


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

    def draw(on: Plane) -> Markup:
        points = [(on.x(n), on.y(value)) for n, value in enumerate(highs)]
        points += [(on.x(n), on.y(lows[n])) for n in reversed(range(count))]
        area = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        line = " ".join(f"{on.x(n):.1f},{on.y(value):.1f}" for n, value in enumerate(middles))
        drawn = Markup('<polygon class="band" points="{}"/><polyline class="line" points="{}"/>').format(area, line)
        if count == 1:  # a line of one point cannot be seen
            drawn += Markup('<circle class="dot" r="3" cx="{:.1f}" cy="{:.1f}"/>').format(on.x(0), on.y(middles[0]))
        return drawn

    names = [("band", "lowest to highest"), ("line", "average")]
    return _figure(title, unit, names, lambda width: Plane(width, labels, high), draw)


def stacked_bars(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], unit: str) -> Markup:
    """One bar a label; `series` are (CSS class, values), the first at the bottom. Several have their names shown."""
    count = len(labels)
    high = ceiling(max((sum(values[n] for _, values in series) for n in range(count)), default=0))

    def draw(on: Plane) -> Markup:
        width = on.step * 0.7
        bars = Markup("")
        for n in range(count):
            base = 0.0
            for name, values in series:
                top = base + values[n]
                bars += Markup(
                    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}: {:g} {}</title></rect>"
                ).format(
                    name, on.x(n) - width / 2, on.y(top), width, on.y(base) - on.y(top), labels[n], values[n], name
                )
                base = top
        return bars

    names = [(name, name) for name, _ in series] if len(series) > 1 else []
    return _figure(title, unit, names, lambda width: Plane(width, labels, high), draw)
