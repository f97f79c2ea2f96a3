"""Closed polygons for the drawings, as N×2 arrays or lists of points; x to the right, y down."""

from __future__ import annotations

import numpy as np


def rect(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def oval(cx, cy, rx, ry=None, start=0.0, stop=360.0, n=40):
    """Ellipse, or the part of it between two angles: degrees, clockwise from the right since y is down."""
    angles = np.radians(np.linspace(start, stop, n, endpoint=stop - start < 360))
    return np.stack([cx + rx * np.cos(angles), cy + (rx if ry is None else ry) * np.sin(angles)], axis=1)


def blob(*points, n=7):
    """Smooth closed curve through the points (Catmull-Rom)."""
    p = np.asarray(points, float)
    before, after, later = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = (np.arange(n) / n)[:, None, None]
    curve = p + 0.5 * t * (
        after - before + t * (2 * before - 5 * p + 4 * after - later + t * (3 * (p - after) + later - before))
    )
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def stroke(*points, width):
    """An open line with thickness, as a polygon. The curve is smooth if it has more than two points."""
    p = np.asarray(points, float)
    if len(p) > 2:
        ends = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        t = (np.arange(8) / 8)[:, None, None]
        a, b, c, d = ends[:-3], ends[1:-2], ends[2:-1], ends[3:]
        inner = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        p = np.concatenate([inner.transpose(1, 0, 2).reshape(-1, 2), p[-1:]])
    along = np.gradient(p, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = along[:, ::-1] * (-1, 1) * width / 2
    return np.concatenate([p + side, (p - side)[::-1]])


def flip(points):
    return np.asarray(points, float) * (-1, 1)


def turn(points, degrees, centre):
    a = np.radians(degrees)
    return (np.asarray(points, float) - centre) @ [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] + centre
