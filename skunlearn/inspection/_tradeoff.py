"""Plots of methods as points: one metric against another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skunlearn._engine.random import one_seed
from skunlearn._engine.rows import take_rows
from skunlearn._engine.validation import check_values, given_labels
from skunlearn.inspection._drawing import COLORS, GREY, panels, place_labels, style
from skunlearn.inspection._rows import by_network, check_mask, row_losses
from skunlearn.metrics import forgetting_score, utility_score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation
    from numpy.typing import ArrayLike
    from pandas import DataFrame
    from typing_extensions import Self

    from skunlearn._engine.typing import Array, MaskLike, Predictor, RandomState, RowsLike

_NAMES = {
    "forgetting_score": "forgetting score (|MIA accuracy − 0.5|; right is better)",
    "utility": "utility (accuracy on unseen rows; up is better)",
    "nomus": "NoMUS",
    "cost": "cost (share of the samples that retraining takes)",
    "relative_js_distance": "distance to the retrained network (1 is that of two retrainings)",
}


class TradeoffDisplay:
    """Utility against forgetting, or any two metrics, of many methods.

    Every point is a method; bars are its intervals. With the forgetting score on the horizontal
    axis, the axis runs from right to left, so that **up and right is better**. Where the axes are
    "forgetting_score" and "utility", dotted lines join points of the same NoMUS.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    methods : list of str
        The name of each method.
    x, y : ndarray of shape (n_methods,)
        Where each method stands.
    x_interval, y_interval : ndarray of shape (n_methods, 2), default=None
        Lower and upper end of each bar.
    x_name, y_name : str, default="forgetting_score", "utility"
        What the axes are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        What the axes belong to.
    points_ : dict of matplotlib ErrorbarContainer
        The points, by kind: "original", "retrained" and "methods", if there are any.
    labels_ : list of matplotlib Annotation
        The names, in the order of `methods`.
    iso_lines_ : dict of matplotlib Line2D
        The lines of the same NoMUS, by value.

    See Also
    --------
    UnlearningCurveDisplay : How a method came there.
    skunlearn.metrics.nomus_score : What the dotted lines join.

    Notes
    -----
    NoMUS does not use retained rows, and differences that are small beside the bars mean
    nothing: a method right of the retrained network, or above it, has not forgotten better.

    Examples
    --------
    >>> from skunlearn.inspection import TradeoffDisplay
    >>> table = [
    ...     {"method": "Original", "utility": 0.70, "forgetting_score": 0.20},
    ...     {"method": "Retrain", "utility": 0.69, "forgetting_score": 0.02},
    ...     {"method": "DLFD", "utility": 0.68, "forgetting_score": 0.03},
    ...     {"method": "DLFD", "utility": 0.66, "forgetting_score": 0.05},
    ... ]
    >>> display = TradeoffDisplay.from_predictions(table)
    >>> display.methods
    ['Original', 'Retrain', 'DLFD']
    >>> display.x
    array([0.2 , 0.02, 0.04])
    """

    ax_: Axes
    figure_: Figure
    points_: dict[str, ErrorbarContainer]
    labels_: list[Annotation]
    iso_lines_: dict[float, Line2D]

    def __init__(
        self,
        *,
        methods: Sequence[str],
        x: Array,
        y: Array,
        x_interval: Array | None = None,
        y_interval: Array | None = None,
        x_name: str = "forgetting_score",
        y_name: str = "utility",
    ) -> None:
        self.methods = methods
        self.x = x
        self.y = y
        self.x_interval = x_interval
        self.y_interval = y_interval
        self.x_name = x_name
        self.y_name = y_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Predictor | Mapping[str, Predictor],
        X: RowsLike,
        y: ArrayLike | None,
        *,
        forget: MaskLike,
        X_unseen: RowsLike,
        y_unseen: ArrayLike | None,
        n_splits: int = 10,
        random_state: RandomState = None,
        original: str = "Original",
        retrained: str = "Retrain",
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Measure fitted classifiers and draw their utility against their forgetting score.

        Parameters
        ----------
        estimator : estimator or dict of estimators
            A fitted classifier with `predict_proba`, or several by name.
        X : array-like or torch Dataset of n_samples rows
            The rows to retain and those to forget; only the latter are read.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), or None
            Their true labels; None for a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget.
        X_unseen : array-like or torch Dataset of n_unseen rows
            Rows that none of the networks saw.
        y_unseen : array-like of shape (n_unseen,) or (n_unseen, n_labels), or None
            Their true labels; None for a data set that yields pairs.
        n_splits : int, default=10
            Number of attacks the forgetting score averages.
        random_state : int, RandomState instance or None, default=None
            Seeds the attack, the same on each network. Pass an int for repeatable numbers.
        original, retrained : str, default="Original", "Retrain"
            Which methods to mark as such, if they are there.
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.errorbar` for every kind of point.

        Returns
        -------
        display : TradeoffDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If `forget` is not a boolean mask of shape (n_samples,) or marks no row, or labels and
            rows do not fit.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        y, y_unseen = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
        mask = check_mask(forget, y)
        X_forget, y_forget = take_rows(X, np.flatnonzero(mask)), y[mask]
        seed = one_seed(random_state)
        table = [
            {
                "method": name,
                "utility": utility_score(y_unseen, network.predict(X_unseen)),
                "forgetting_score": forgetting_score(
                    row_losses(network, X_forget, y_forget),
                    row_losses(network, X_unseen, y_unseen),
                    n_splits=n_splits,
                    random_state=seed,
                ),
            }
            for name, network in by_network(estimator).items()
        ]
        return cls.from_predictions(table, original=original, retrained=retrained, ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        table: DataFrame | Iterable[Mapping[str, Any]],
        *,
        x: str = "forgetting_score",
        y: str = "utility",
        method: str = "method",
        original: str = "Original",
        retrained: str = "Retrain",
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a table of metrics that are known already.

        Parameters
        ----------
        table : pandas.DataFrame or list of dict
            With a row for each method, or several, such as one for each seed: then the point is
            their mean, and the bars are their standard deviation (over n - 1) to either side. A
            method with one row has bars if there are columns ``<x>_low`` and ``<x>_high``, or the
            same of `y`, with their ends.
        x, y : str, default="forgetting_score", "utility"
            The columns to draw.
        method : str, default="method"
            The column, or the index of a data frame, with the names.
        original, retrained : str, default="Original", "Retrain"
            Which methods to mark as such, if they are there.
        ax : matplotlib Axes, default=None
            What to draw on; a logarithmic scale set on it beforehand is kept. By default a figure
            is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.errorbar` for every kind of point.

        Returns
        -------
        display : TradeoffDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If the table is empty, lacks a column, or has NaN or infinity in one of them.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        if hasattr(table, "to_dict"):
            named = method not in table.columns and method == table.index.name
            rows = (table.reset_index() if named else table).to_dict("records")
        else:
            rows = list(table)
        if not rows:
            raise ValueError("table must have at least one row; got none.")
        lacking = sorted({name for name in (method, x, y) for row in rows if name not in row})
        if lacking:
            raise ValueError(
                f"table must have the columns {[method, x, y]} in every row; {lacking} is missing "
                f"from some that have {list(rows[0])}."
            )
        names = list(dict.fromkeys(row[method] for row in rows))
        means, intervals = {}, {}
        for column in (x, y):
            means[column], intervals[column] = [], []
            for name in names:
                own = [row for row in rows if row[method] == name]
                values = check_values(
                    f"column {column!r} of table, for {name!r},",
                    [row[column] for row in own],
                    (1,),
                    "numbers",
                ).astype(float)
                mean = values.mean()
                bar = values.std(ddof=1) if len(values) > 1 else 0.0
                ends = [mean - bar, mean + bar]
                if len(own) == 1 and f"{column}_low" in own[0]:
                    ends = [own[0][f"{column}_low"], own[0][f"{column}_high"]]
                means[column].append(mean)
                intervals[column].append(ends)
        display = cls(
            methods=[str(name) for name in names],
            x=np.array(means[x]),
            y=np.array(means[y]),
            x_interval=np.array(intervals[x]),
            y_interval=np.array(intervals[y]),
            x_name=x,
            y_name=y,
        )
        return display.plot(ax=ax, original=original, retrained=retrained, **kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        original: str = "Original",
        retrained: str = "Retrain",
        **kwargs: Any,
    ) -> Self:
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on; a logarithmic scale set on it beforehand is kept. By default a figure
            is made.
        original, retrained : str, default="Original", "Retrain"
            Which methods to mark as such, if they are there.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.errorbar` for every kind of point.

        Returns
        -------
        display : TradeoffDisplay
            The object itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.lines import Line2D

        (ax,), _ = panels(ax, (1, 1), (6.2, 4.4))
        methods = np.array(self.methods, dtype=object)
        kinds = {
            "original": (methods == original, "s", 8, "black"),
            "retrained": (methods == retrained, "*", 14, "black"),
            "methods": ((methods != original) & (methods != retrained), "o", 6, COLORS[0]),
        }
        self.points_ = {}
        for kind, (chosen, marker, size, color) in kinds.items():
            if not chosen.any():
                continue
            errors = {}
            for name, interval in (("x", self.x_interval), ("y", self.y_interval)):
                if interval is not None:
                    middle = getattr(self, name)[chosen]
                    low, high = np.asarray(interval)[chosen].T
                    # A point may lie outside its interval, as a distance of noise from 0 does.
                    errors[f"{name}err"] = np.maximum([middle - low, high - middle], 0)
            defaults = {
                "fmt": marker,
                "color": color,
                "markersize": size,
                "markeredgecolor": "white",
                "markeredgewidth": 0.7,
                "elinewidth": 0.8,
                "ecolor": "0.6",
                "zorder": 3,
            }
            self.points_[kind] = ax.errorbar(
                self.x[chosen], self.y[chosen], **errors, **style(Line2D, defaults, kwargs)
            )
        ax.margins(0.1)
        ax.set(xlabel=_NAMES.get(self.x_name, self.x_name))
        ax.set(ylabel=_NAMES.get(self.y_name, self.y_name))
        ax.spines[["top", "right"]].set_visible(False)
        self.iso_lines_, covered = {}, []
        if self.x_name == "forgetting_score":
            left, right = ax.get_xlim()
            ax.set_xlim(max(left, right), min(left, right, 0))
            low, high = sorted(ax.get_xlim())
            ax.set_xticks([tick for tick in ax.get_xticks() if max(low, 0) <= tick <= high])
            if self.y_name == "utility":
                covered = self._draw_iso_lines(ax)
        here, bars = np.column_stack([self.x, self.y]), []
        for interval, column in ((self.x_interval, 0), (self.y_interval, 1)):
            if interval is not None:
                bar = np.repeat(here[:, None], 9, axis=1)
                bar[:, :, column] = np.linspace(*np.asarray(interval).T, 9, axis=1)
                bars += list(bar.reshape(-1, 2))
        sizes = np.select([chosen for chosen, *_ in kinds.values()], [k[2] for k in kinds.values()])
        self.labels_ = place_labels(
            ax, self.methods, here, sizes, covered, bars, fontsize=8, zorder=4
        )
        for label, name in zip(self.labels_, self.methods):
            if name in (original, retrained):
                label.set_fontweight("bold")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_iso_lines(self, ax):
        """Join points of the same NoMUS, and return what their names cover.

        On a line, utility = 2 * NoMUS - 1 + 2 * forgetting score.
        """
        from matplotlib.ticker import MaxNLocator

        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        low, high = (1 + bottom - 2 * left) / 2, (1 + top - 2 * right) / 2
        # How far a name reaches: about a seventh of the axes.
        length = 0.15 / np.hypot(1 / (left - right), 2 / (top - bottom))
        covered = []
        for level in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high):
            if not low < level < high:
                continue
            x = np.array([min(left, (top + 1 - 2 * level) / 2), right])  # from the border
            (self.iso_lines_[round(float(level), 6)],) = ax.plot(
                x,
                2 * level - 1 + 2 * x,
                color="0.7",
                linewidth=0.8,
                linestyle=":",
                zorder=1,
                scalex=False,
                scaley=False,
            )
            if x[0] - max(right, (bottom + 1 - 2 * level) / 2) < length:
                continue  # too short to write along
            ax.text(
                x[0],
                2 * level - 1 + 2 * x[0],
                f"   NoMUS {level:.3g}",
                color=GREY,
                fontsize=7,
                rotation=np.degrees(np.arctan2(-2, -1)),
                rotation_mode="anchor",
                transform_rotates_text=True,
                va="bottom",
                clip_on=True,
                zorder=1,
            )
            along = np.linspace(x[0], x[0] - length, 8)
            covered += list(np.column_stack([along, 2 * level - 1 + 2 * along]))
        return covered
