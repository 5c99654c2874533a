"""plot.py - the figures of steps.py as an SVG: bars beside the limit, lines over cache lengths."""

import html
import math
import statistics

COLOURS = ("#1b6ca8", "#7fb3d5", "#c0392b", "#e67e22", "#8e44ad", "#27ae60", "#7f8c8d", "#34495e")
ROW, LEFT, BAR = 20, 210, 420  # pixels
WIDTH = LEFT + BAR + 90


class Svg:
    def __init__(self):
        self.parts = []

    def add(self, tag, text=None, **attributes):
        inside = "".join(f' {n.replace("_", "-")}="{v}"' for n, v in attributes.items())
        self.parts.append(f"<{tag}{inside}/>" if text is None else
                          f"<{tag}{inside}>{html.escape(text)}</{tag}>")

    def text(self, x, y, text, **more):
        self.add("text", text, x=round(x, 1), y=round(y, 1), **more)

    def document(self, height):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                f'font-family="sans-serif" font-size="12">\n'
                f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def bars(svg, y, report, dtype, colours):
    """Medians at the main length, and the limit as a line; the y below."""
    main = report.settings["main_length"]
    rows = [(f["contestant"], statistics.median(f["rounds"])) for f in report.raw["steps"]
            if (f["dtype"], f["length"], f["mode"]) == (dtype, main, "steps")]
    if not rows:
        return y
    limit = report.limit(dtype)
    top = max([limit, *(value for _, value in rows)])
    svg.text(10, y + 14, f"{dtype}: tokens a second, cache of {main}", font_weight="bold")
    y += ROW + 4
    begin = y
    for name, value in rows:
        svg.text(LEFT - 8, y + 14, name, text_anchor="end")
        svg.add("rect", x=LEFT, y=y + 2, width=round(BAR * value / top, 1), height=ROW - 5,
                fill=colours[name])
        svg.text(LEFT + BAR * value / top + 5, y + 14, f"{value:.1f}")
        y += ROW
    x = round(LEFT + BAR * limit / top, 1)
    svg.add("line", x1=x, x2=x, y1=begin, y2=y, stroke="black", stroke_dasharray="4 3")
    svg.text(x, y + 13, f"limit by reading {limit:.1f}", text_anchor="end")
    return y + 2 * ROW


def lines(svg, y, report, dtype, colours):
    """Medians over the cache's length, both axes logarithmic; the y below."""
    points = {}
    for f in report.raw["steps"]:
        if f["dtype"] == dtype and f["mode"] == "steps":
            points.setdefault(f["contestant"], []).append(
                (f["length"], statistics.median(f["rounds"])))
    lengths = report.settings["lengths"]
    if len(lengths) < 2 or not points:
        return y
    values = [v for line in points.values() for _, v in line]
    low, high, height = min(values), max(values) * 1.05, 200
    svg.text(10, y + 14, f"{dtype}: tokens a second over the cache's length, both logarithmic",
             font_weight="bold")
    y += ROW + 8

    def place(length, value):
        along = math.log(length / lengths[0]) / math.log(lengths[-1] / lengths[0])
        up = math.log(value / low) / math.log(high / low) if high > low else 1
        return round(LEFT + BAR * along, 1), round(y + height * (1 - up), 1)

    for value in (low, high):
        svg.text(LEFT - 8, place(lengths[0], value)[1] + 4, f"{value:.1f}", text_anchor="end")
    for length in lengths:
        x = place(length, low)[0]
        svg.add("line", x1=x, x2=x, y1=y, y2=y + height, stroke="#ddd")
        svg.text(x, y + height + 16, str(length), text_anchor="middle")
    for i, (name, line) in enumerate(points.items()):
        svg.add("polyline", points=" ".join(f"{x},{v}" for x, v in
                                            (place(*p) for p in sorted(line))),
                fill="none", stroke=colours[name], stroke_width=2)
        svg.text(10, y + 12 + 16 * i, name, fill=colours[name])
    return y + height + 2 * ROW


def draw(report):
    """The SVG's text."""
    names = report.settings["contestants"]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    svg, y = Svg(), 10
    for dtype in report.raw["weight_bytes"]:
        y = bars(svg, y, report, dtype, colours)
    for dtype in report.settings["dtypes"]:
        y = lines(svg, y, report, dtype, colours)
    return svg.document(y)
