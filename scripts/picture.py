"""Plots replicas, CPU and latency over time as an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL, GAP, LEFT, RIGHT, TOP = 960, 150, 44, 70, 20, 70
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2933 }
  .title { font-size: 18px; font-weight: 600 }
  .faint { fill: #52606d; font-size: 12px }
  .grid { stroke: #e4e7eb }
  .load { fill: #f0f4f8 }
  path { fill: none; stroke-width: 2; stroke-linejoin: round } .key { stroke-width: 3 }
  .first { stroke: #2166ac } .second { stroke: #b2182b } .target { stroke: #52606d; stroke-dasharray: 6 4 }
"""


@dataclass(frozen=True)
class Sample:
    seconds: float
    requests_per_second: float
    p50_ms: float | None
    """None while there is no load."""
    p99_ms: float | None
    failed: int
    cpu_percent: int | None
    """Percentage of the CPU request, as seen by the HPA; None while it has no metrics."""
    desired: int
    ready: int


@dataclass(frozen=True)
class Line:
    name: str
    style: str
    values: Sequence[float | None]
    steps: bool = False
    """Whether the value holds until the next one instead of being interpolated."""


def draw(samples: Sequence[Sample], *, title: str, note: str, target_percent: int) -> str:
    """Returns the SVG; the background is darker where there was load."""
    times = [sample.seconds for sample in samples]
    panels = [
        (
            "replicas",
            [
                Line("ready", "first", [s.ready for s in samples], steps=True),
                Line("desired by the HPA", "target", [s.desired for s in samples], steps=True),
            ],
        ),
        (
            "CPU, % of the request",
            [
                Line("average of the pods", "first", [s.cpu_percent for s in samples]),
                Line(f"target, {target_percent} %", "target", [target_percent for _ in samples]),
            ],
        ),
        (
            "latency, ms",
            [
                Line("p50", "first", [s.p50_ms for s in samples]),
                Line("p99", "second", [s.p99_ms for s in samples]),
            ],
        ),
    ]
    end = max(times[-1], 1)
    loaded = max((s.seconds for s in samples if s.p50_ms is not None), default=0)
    height = TOP + len(panels) * (PANEL + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        f'<text class="faint" x="{LEFT}" y="48">{escape(note)}</text>',
    ]
    for number, (name, lines) in enumerate(panels):
        parts += _panel(name, lines, times, end=end, loaded=loaded, top=TOP + 20 + number * (PANEL + GAP))
    return "\n".join([*parts, "</svg>\n"])


def _panel(
    name: str, lines: Sequence[Line], times: Sequence[float], *, end: float, loaded: float, top: float
) -> list[str]:
    peak = _round_up(max((v for line in lines for v in line.values if v is not None), default=1))

    def x(seconds: float) -> float:
        return LEFT + seconds / end * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return top + PANEL - value / peak * PANEL

    parts = [
        f'<rect class="load" x="{LEFT}" y="{top}" width="{x(loaded) - LEFT:.1f}" height="{PANEL}"/>',
        f'<text x="{LEFT}" y="{top - 7}">{escape(name)}</text>',
    ]
    for part in range(5):
        value = peak * part / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="faint" text-anchor="end" x="{LEFT - 8}" y="{y(value) + 4:.1f}">{value:g}</text>')
    parts += [
        f'<text class="faint" text-anchor="middle" x="{x(seconds):.1f}" y="{top + PANEL + 16}">{seconds} s</text>'
        for seconds in range(0, math.floor(end) + 1, math.ceil(end / 10 / 15) * 15)
    ]
    legend = LEFT + 200
    for line in lines:
        points = [None if v is None else (x(t), y(v)) for t, v in zip(times, line.values, strict=True)]
        parts.append(f'<path class="{line.style}" d="{_path(points, steps=line.steps)}"/>')
        parts.append(
            f'<line class="key {line.style}" x1="{legend}" x2="{legend + 22}" y1="{top - 11}" y2="{top - 11}"/>'
        )
        parts.append(f'<text class="faint" x="{legend + 28}" y="{top - 7}">{escape(line.name)}</text>')
        legend += 56 + 7 * len(line.name)
    return parts


def _path(points: Sequence[tuple[float, float] | None], *, steps: bool) -> str:
    """A line with gaps where there is no value."""
    drawn = []
    pen_is_down = False
    for point in points:
        if point is not None:
            x, y = point
            if pen_is_down:
                drawn.append(f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
            else:
                drawn.append(f"M{x:.1f} {y:.1f}")
        pen_is_down = point is not None
    return "".join(drawn)


def _round_up(value: float) -> float:
    """The next of 4, 8, 12, 20, 40, 80, ...: a quarter of each is a readable axis label."""
    if value <= 0:
        return 4
    scale = 10 ** math.floor(math.log10(value / 4)) if value >= 4 else 1
    return next(step * scale for step in (4, 8, 12, 20, 40) if step * scale >= value)
