"""Shared by the displays: colours, panels, and labels that do not overlap."""

import numpy as np
from sklearn.isotonic import isotonic_regression

# Okabe and Ito's colours, those first that also differ in grey.
COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
    "#F0E442",
)

GREY = "0.4"


def panels(ax, shape, size, n=None):
    """Return axes to draw `n` panels on, as a list, and whether they are a new figure's.

    Parameters
    ----------
    ax : matplotlib Axes, array-like of Axes or None
        What the caller was given; None makes a figure.
    shape : tuple of int
        Rows and columns of a new figure.
    size : tuple of float
        Width and height of one of its panels, in inches.
    n : int, default=None
        How many panels are wanted, if not rows times columns; the others are left out.
    """
    n = shape[0] * shape[1] if n is None else n
    if ax is None:
        import matplotlib.pyplot as plt

        figsize = (shape[1] * size[0] + 0.4, shape[0] * size[1] + 0.6)
        _, axes = plt.subplots(*shape, figsize=figsize, layout="constrained", squeeze=False)
        for left_over in axes.flat[n:]:
            left_over.remove()
        return list(axes.flat[:n]), True
    axes = list(np.atleast_1d(np.asarray(ax, dtype=object)).flat)
    if len(axes) != n:
        raise ValueError(
            f"ax must be {n} matplotlib Axes, one for each panel; got {len(axes)}. "
            "Leave it out to have a figure made."
        )
    return axes, False


def style(artist, defaults, kwargs):
    """Defaults of an artist class, replaced by what a user passes, under whichever alias."""
    from matplotlib.cbook import normalize_kwargs

    return defaults | normalize_kwargs(kwargs, artist)


def spread(positions, gap):
    """Move numbers as little as possible, in squares, so that neighbours are `gap` apart."""
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(positions, dtype=float)[order] - steps) + steps
    return moved


def place_labels(ax, texts, xy, sizes, avoid=(), bars=(), **kwargs):
    """Write a label near each point, clear of the points, of `avoid` and of the other labels.

    Of 128 places around each point the cheapest is taken: near, covering nothing, and with a
    straight way to the point. Then all labels look again, knowing where the others are.

    Parameters
    ----------
    ax : matplotlib Axes
        With its final limits.
    texts : list of str
        The labels.
    xy : ndarray of shape (n, 2)
        The points, in data coordinates.
    sizes : array-like of shape (n,)
        Diameters of the markers, in points.
    avoid, bars : array-like of shape (m, 2)
        Other places to keep free, and such as may be covered if there is no better place, in data
        coordinates.
    **kwargs
        Passed to `Axes.annotate`.

    Returns
    -------
    labels : list of matplotlib Annotation
    """
    from matplotlib.patheffects import withStroke

    figure = ax.figure.canvas.figure  # the whole, where the axes lie in a subfigure
    figure.draw_without_rendering()  # a constrained layout places the axes only now
    scale = 72 / figure.dpi

    def to_points(values):
        return ax.transData.transform(np.reshape(values, (-1, 2)).astype(float)) * scale

    anchors, bars = to_points(xy), to_points(bars)
    n = len(anchors)
    radii = np.asarray(sizes) / 2
    # The corners and the middles of a marker are covered if a label touches it.
    rim = np.array([(i, j) for i in (-0.8, 0, 0.8) for j in (-0.8, 0, 0.8)])
    rims = (anchors[:, None] + radii[:, None, None] * rim).reshape(-1, 2)
    fixed = np.concatenate([rims, to_points(avoid)])
    frame = ax.get_window_extent().extents * scale
    labels = [ax.annotate(text, point, **kwargs) for text, point in zip(texts, xy)]
    extents = [label.get_window_extent() for label in labels]
    halves = np.array([(e.width, e.height) for e in extents]).reshape(-1, 2) * scale / 2 + (2, 0.5)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    reach = np.repeat([3, 8, 15, 24, 35, 50, 70, 95], 16)
    step = np.tile(np.stack([np.cos(angles), np.sin(angles)], axis=1), (8, 1))
    share = np.linspace(0, 1, 8)[1:, None]
    boxes = np.full((n, 2, 2), np.inf)
    leaders = np.full((n, len(share), 2), np.inf)
    places = np.zeros(n, dtype=int)

    def inside(points, low, high):
        return ((low < points) & (points < high)).all(axis=-1)

    for i in [*range(n)] * 3:
        others = np.arange(n) != i
        edge = anchors[i] + (reach + radii[i])[:, None] * step
        # The nearest point of the box, not its centre, is at this distance from the marker.
        centre = edge + halves[i] * np.where(abs(step) < 0.3, 0, np.sign(step))
        low, high = centre - halves[i], centre + halves[i]
        leader = anchors[i] + share * (edge - anchors[i])[:, None]
        way = np.concatenate([anchors[others], leaders[others].reshape(-1, 2)])
        box_low, box_high = boxes[others, 0], boxes[others, 1]
        cost = (
            reach
            + 20 * inside(fixed, low[:, None], high[:, None]).sum(axis=1)
            + 6 * inside(bars, low[:, None], high[:, None]).sum(axis=1)
            + 20 * inside(way, low[:, None], high[:, None]).sum(axis=1)
            + 200 * ((low[:, None] < box_high) & (box_low < high[:, None])).all(axis=2).sum(axis=1)
            + 20 * inside(leader[:, :, None], box_low, box_high).sum(axis=(1, 2))
            + 10 * (abs(leader[:, :, None] - way) < 3).all(axis=3).sum(axis=(1, 2))
            + 500 * ((low < frame[:2]) | (high > frame[2:])).any(axis=1)
        )
        places[i] = best = np.argmin(cost)
        boxes[i] = low[best], high[best]
        leaders[i] = leader[best] if reach[best] > 3 else anchors[i]
    # What a label has to cover is painted over around the letters.
    halo = [withStroke(linewidth=4, foreground=ax.get_facecolor())]
    for i, label in enumerate(labels):
        label.remove()
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
        labels[i] = ax.annotate(
            texts[i],
            xy[i],
            xytext=boxes[i].mean(axis=0) - anchors[i],
            textcoords="offset points",
            ha="center",
            va="center",
            path_effects=halo,
            arrowprops=line if reach[places[i]] > 3 else None,
            **kwargs,
        )
    return labels


def label_ends(ax, texts, y, **kwargs):
    """Write a label right of the axes at each height of `y`, moved apart where they would touch."""
    if not texts:
        return []
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()
    size = kwargs.setdefault("fontsize", 8)
    heights = ax.transData.transform(np.column_stack([np.zeros(len(y)), y]))[:, 1] * 72 / figure.dpi
    shifts = spread(heights, 1.3 * size) - heights
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "relpos": (0, 0.5)}
    line |= {"shrinkA": 0, "shrinkB": 0}
    return [
        ax.annotate(
            text,
            (1, value),
            xycoords=ax.get_yaxis_transform(),
            xytext=(14, shift),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            arrowprops=line if abs(shift) > size / 4 else None,
            **kwargs,
        )
        for text, value, shift in zip(texts, y, shifts)
    ]
