"""A heat map of expert loads as inline SVG: one small PNG for each layer, clear where a load is even."""

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

from fathom.reports.axis import short, spanning
from fathom.reports.chart import BOTTOM, LEFT, RIGHT, TOP, WIDE, frame

COLD, HOT = (38, 110, 190), (222, 92, 34)
GAP = 6
"""Between layers."""


def heat_map(
    title: str,
    rows: Sequence[Sequence[float]],
    groups: Sequence[tuple[str, int]],
    x_range: tuple[float, float],
    x_name: str,
) -> str:
    """Draw loads relative to the mean (1 is even) over time: one pixel row for each expert, grouped by layer.

    `rows` are experts by time; `groups` names consecutive rows: (layer, number of experts).
    """
    if not rows or not rows[0]:
        return '<p class="none">Nothing was recorded.</p>'
    pixel = max(min(420 / len(rows), 12.0), 1.5)
    height = int(TOP + len(rows) * pixel + GAP * (len(groups) - 1) + BOTTOM)
    axis = spanning(x_range, LEFT, WIDE - RIGHT, room=0)
    parts, row, top = [], 0, float(TOP)
    for name, count in groups:
        tall = count * pixel
        picture = base64.b64encode(png([[heat(load) for load in line] for line in rows[row : row + count]])).decode()
        parts.append(
            f'<rect class="bed" x="{LEFT}" y="{top:.1f}" width="{WIDE - RIGHT - LEFT}" height="{tall:.1f}"/>'
            f'<image class="pixels" x="{LEFT}" y="{top:.1f}" width="{WIDE - RIGHT - LEFT}" height="{tall:.1f}" '
            f'preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{top + tall / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        row, top = row + count, top + tall + GAP
    bottom = top - GAP
    for value in axis.ticks(9):
        at = axis.place(value)
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{short(value)}</text>'
        )
    parts.append(f'<text class="name" x="{WIDE - RIGHT}" y="{height - 4}" text-anchor="end">{escape(x_name)}</text>')
    return frame(title, "".join(parts), WIDE, height)


def heat(load: float) -> tuple[int, int, int, int]:
    """Colour of a load relative to the mean: clear at 1, orange towards 2 and more, blue towards 0."""
    away = min(abs(load - 1), 1.0)
    red, green, blue = HOT if load > 1 else COLD
    return red, green, blue, round(255 * away)


def png(pixels: Sequence[Sequence[tuple[int, int, int, int]]]) -> bytes:
    """Write rows of (red, green, blue, alpha) as a PNG picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 6, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(value for pixel in line for value in pixel) for line in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
