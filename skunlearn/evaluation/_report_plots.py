"""The plots of a report, as SVG within its page."""

import html
import math

BLUE, RED, GREY = "#1f5fa8", "#c2452d", "#888"

SMALLEST_LOSS = 1e-4  # below which losses are drawn as this


def losses_svg(losses):
    """A panel for each network: the share of forget and unseen rows with at most a given loss."""
    largest = max(max(map(max, each.values())) for each in losses.values())
    top = max(math.ceil(math.log10(max(largest, 1))), 1)
    panels = "".join(
        _panel(i * 168, name.replace("_", " "), each, top)
        for i, (name, each) in enumerate(losses.items())
    )
    width = max(168 * len(losses) + 8, 420)
    key = (
        f'<text x="34" y="152" fill="{RED}">forget rows</text>'
        f'<text x="100" y="152" fill="{BLUE}">unseen rows</text>'
        '<text x="170" y="152">loss in nats; share of rows with at most that loss</text>'
    )
    return _svg(width, 158, panels + key, "Losses of forget rows and unseen rows")


def _panel(left, name, losses, top):
    def x(loss):
        share = (math.log10(max(loss, SMALLEST_LOSS)) + 4) / (top + 4)
        return left + 30 + 126 * min(max(share, 0), 1)

    def y(share):
        return 120 - 100 * share

    parts = [
        f'<text x="{left + 30}" y="12" font-weight="bold">{html.escape(name)}</text>',
        f'<path d="M{left + 30} 20V120H{left + 156}" fill="none" stroke="{GREY}"/>',
        *(
            f'<text x="{left + 26}" y="{y(share) + 3}" text-anchor="end">{share:g}</text>'
            for share in (0, 0.5, 1)
        ),
        *(
            f'<text x="{x(10.0**power):.1f}" y="132" text-anchor="middle">{10.0**power:g}</text>'
            for power in range(-4, top + 1, 2)
        ),
    ]
    for key, colour in (("unseen", BLUE), ("forget", RED)):
        values = losses[key]
        steps = " ".join(
            f"L{x(value):.1f} {y(i / len(values)):.1f}V{y((i + 1) / len(values)):.1f}"
            for i, value in enumerate(values)
        )
        line = f"M{x(values[0]):.1f} 120 {steps} H{left + 156}"
        parts.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    return "".join(parts)


def distances_svg(metrics):
    """Jensen–Shannon distances on forget rows with their intervals; empty if there are none."""
    rows = [
        (label, metrics[metric][network])
        for label, metric, network in (
            ("unlearned to retrained", "js_distance", "unlearned"),
            ("original to retrained", "js_distance", "original"),
            ("between two retrainings", "js_distance", "retrained_2"),
            ("unlearned to original", "js_distance_to_original", "unlearned"),
            ("retrained to original", "js_distance_to_original", "retrained"),
        )
        if network in metrics.get(metric, {})
    ]
    if not rows:
        return ""
    largest = max(_end(interval) for _, interval in rows) or 1.0

    def x(value):
        return 140 + 300 * value / largest

    parts = []
    for i, (label, interval) in enumerate(rows):
        y = 16 + 18 * i
        parts.append(f'<text x="132" y="{y + 3}" text-anchor="end">{label}</text>')
        if not math.isnan(interval.low):
            low, high = x(interval.low), x(interval.high)
            parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{BLUE}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(interval.value):.1f}" cy="{y}" r="3.5" fill="{BLUE}"/>')
    bottom = 16 + 18 * len(rows)
    parts.append(f'<path d="M140 6V{bottom}H440" fill="none" stroke="{GREY}"/>')
    parts += [
        f'<text x="{x(value):.1f}" y="{bottom + 12}" text-anchor="middle">{value:.2f}</text>'
        for value in (0, largest / 2, largest)
    ]
    return _svg(470, bottom + 18, "".join(parts), "Distances of predictions on forget rows")


def _end(interval):
    return interval.value if math.isnan(interval.high) else interval.high


def _svg(width, height, content, title):
    return (
        f'<figure><svg role="img" viewBox="0 0 {width} {height}" font-size="9" '
        f'font-family="sans-serif" style="width:{width / 4:.0f}mm;max-width:100%">'
        f"<title>{title}</title>{content}</svg></figure>"
    )
