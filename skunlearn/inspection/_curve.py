"""Plots of any metric against epochs, batches, or the share of rows that are forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from skorch.history import History

from skunlearn._engine.validation import check_values
from skunlearn.inspection._drawing import COLORS, GREY, label_ends, panels, style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from skunlearn._engine.typing import Array
    from skunlearn.base import BaseUnlearner

_STYLES = ("-", "--", "-.", (0, (1, 1)))

_REFERENCE_STYLES = ((0, (6, 2)), (0, (1, 2)), (0, (4, 2, 1, 2)))

_LEVELS = ("epoch", "batch")


class UnlearningCurveDisplay:
    """Metrics as they change over a run of unlearning, or with how much is forgotten.

    A line is the mean of several runs, a band their standard deviation above and below it (over
    n - 1; of a single run there is none). Lines are named where they end. Horizontal lines show
    what to compare with, such as the original and the retrained network.

    Make it with :meth:`from_estimator`, :meth:`from_history` or :meth:`from_predictions`.

    Parameters
    ----------
    curves : dict
        The name of each curve, mapped to a pair: where it was measured, of shape (n_points,), and
        the values, of shape (n_runs, n_points), NaN where a run has none.
    x_name : str
        What the curves run over, with its unit.
    y_name : str
        What the values are, with their unit.
    references : dict of float, default=None
        Values to mark with a horizontal line, by name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What is drawn on.
    figure_ : matplotlib Figure
        What the axes belong to.
    lines_ : dict of matplotlib Line2D
        The means, by name.
    bands_ : dict of matplotlib PolyCollection
        The bands, by name, of curves that have several runs.
    references_ : dict of matplotlib Line2D
        The horizontal lines, by name.
    labels_ : list of matplotlib Annotation
        The names right of the axes.

    See Also
    --------
    TradeoffDisplay : Where several methods end, not how they came there.

    Notes
    -----
    With few runs a standard deviation is itself uncertain: of three runs it is easily wrong by a
    factor of two.

    Examples
    --------
    >>> from skunlearn.inspection import UnlearningCurveDisplay
    >>> display = UnlearningCurveDisplay.from_predictions(
    ...     [1, 5, 10],
    ...     {"SISA": [[0.9, 0.8, 0.8], [0.9, 0.9, 0.7]], "DLFD": [0.9, 0.9, 0.9]},
    ...     x_name="rows forgotten (%)",
    ...     y_name="utility",
    ... )
    >>> display.lines_["SISA"].get_ydata()
    array([0.9 , 0.85, 0.75])
    >>> list(display.bands_)
    ['SISA']
    """

    ax_: Axes
    figure_: Figure
    lines_: dict[str, Line2D]
    bands_: dict[str, PolyCollection]
    references_: dict[str, Line2D]
    labels_: list[Annotation]

    def __init__(
        self,
        *,
        curves: Mapping[str, tuple[Array, Array]],
        x_name: str,
        y_name: str,
        references: Mapping[str, float] | None = None,
    ) -> None:
        self.curves = curves
        self.x_name = x_name
        self.y_name = y_name
        self.references = references

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseUnlearner
        | Sequence[BaseUnlearner]
        | Mapping[str, BaseUnlearner | Sequence[BaseUnlearner]],
        keys: str | Sequence[str],
        *,
        level: Literal["epoch", "batch"] | None = None,
        y_name: str | None = None,
        references: Mapping[str, float] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the last unlearning run of fitted unlearners.

        Parameters
        ----------
        estimator : unlearner, list of unlearners, or dict of either
            Unlearners that have unlearned. A list is several runs of one curve, such as with
            several seeds; a dict names several curves.
        keys : str or list of str
            What to draw of ``unlearning_history_``, such as ``"forgetting_score"``.
        level : {"epoch", "batch"} or None, default=None
            Whether to read the values of epochs or of batches. By default epochs, if any of them
            has the key.
        y_name : str, default=None
            What the values are, with their unit. By default the key.
        references : dict of float, default=None
            Values to mark with a horizontal line, by name.
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.

        Returns
        -------
        display : UnlearningCurveDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If an unlearner has not unlearned, or there is no such key in its history.
        """

        def history(unlearner):
            if not hasattr(unlearner, "unlearning_history_"):
                raise ValueError(
                    "estimator must be an unlearner that has unlearned; got "
                    f"{type(unlearner).__name__} without unlearning_history_. Call its unlearn "
                    "first; the history of a network goes to from_history."
                )
            return unlearner.unlearning_history_

        def histories(value):
            return (
                [history(u) for u in value] if isinstance(value, list | tuple) else history(value)
            )

        read = (
            {name: histories(value) for name, value in estimator.items()}
            if isinstance(estimator, Mapping)
            else histories(estimator)
        )
        return cls.from_history(
            read, keys, level=level, y_name=y_name, references=references, ax=ax, **kwargs
        )

    @classmethod
    def from_history(
        cls,
        history: History | Sequence[History] | Mapping[str, History | Sequence[History]],
        keys: str | Sequence[str],
        *,
        level: Literal["epoch", "batch"] | None = None,
        y_name: str | None = None,
        references: Mapping[str, float] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what skorch has recorded during training or unlearning.

        Parameters
        ----------
        history : skorch.history.History, list of History, or dict of either
            A list is several runs of one curve, a dict names several curves.
        keys : str or list of str
            What to draw, such as ``"valid_loss"``.
        level : {"epoch", "batch"} or None, default=None
            Whether to read the values of epochs or of batches, which are counted from the
            beginning, those of training and those of validation each on their own. By default
            epochs, if any of them has the key. Batches and epochs without a value are left out.
        y_name : str, default=None
            What the values are, with their unit. By default the key.
        references : dict of float, default=None
            Values to mark with a horizontal line, by name.
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.

        Returns
        -------
        display : UnlearningCurveDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If a history is not skorch's, or has no such key.

        Examples
        --------
        >>> from skorch.history import History
        >>> from skunlearn.inspection import UnlearningCurveDisplay
        >>> history = History()
        >>> for score in (0.3, 0.2, 0.1):
        ...     history.new_epoch()
        ...     history.record("epoch", len(history))
        ...     history.record("forgetting_score", score)
        >>> display = UnlearningCurveDisplay.from_history(history, "forgetting_score")
        >>> display.lines_["forgetting_score"].get_xdata()
        array([1, 2, 3])
        """
        check_matplotlib_support(f"{cls.__name__}.from_history")
        if level not in (None, *_LEVELS):
            raise ValueError(f"level must be one of {_LEVELS} or None; got {level!r}.")
        keys = [keys] if isinstance(keys, str) else list(keys)
        if not keys:
            raise ValueError("keys must name at least one value of the history; got none.")
        named = _named_runs(history)
        if level is None:
            epochs = [epoch for runs in named.values() for run in runs for epoch in run]
            level = _LEVELS[not all(any(key in epoch for epoch in epochs) for key in keys)]
        curves = {
            ", ".join([name] * bool(name) + [key] * (len(keys) > 1 or not name)): _curve(
                runs, key, level
            )
            for name, runs in named.items()
            for key in keys
        }
        y_name = ("value" if len(keys) > 1 else keys[0]) if y_name is None else y_name
        return cls(curves=curves, x_name=level, y_name=y_name, references=references).plot(
            ax=ax, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        x: ArrayLike,
        y: ArrayLike | Mapping[str, ArrayLike],
        *,
        x_name: str,
        y_name: str,
        references: Mapping[str, float] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw values that are known already.

        Parameters
        ----------
        x : array-like of shape (n_points,)
            Where the values were measured, such as the share of rows that are forgotten.
        y : array-like of shape (n_points,) or (n_runs, n_points), or dict of them
            The values of a curve, of one run or of several, or of several curves by name.
        x_name : str
            What the curves run over, with its unit.
        y_name : str
            What the values are, with their unit.
        references : dict of float, default=None
            Values to mark with a horizontal line, by name.
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.

        Returns
        -------
        display : UnlearningCurveDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If the shapes do not fit, or a value is NaN or infinite.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        x = check_values("x", x, (1,), "numbers of shape (n_points,)")
        curves = {}
        for name, values in (y if isinstance(y, Mapping) else {"": y}).items():
            what = f"y[{name!r}]" if name else "y"
            values = np.atleast_2d(
                check_values(
                    what, values, (1, 2), "numbers of shape (n_points,) or (n_runs, n_points)"
                )
            )
            if values.shape[1] != len(x):
                raise ValueError(
                    f"{what} must have a value for each of the {len(x)} points of x; got "
                    f"{values.shape[1]}."
                )
            curves[name] = (x, values)
        return cls(curves=curves, x_name=x_name, y_name=y_name, references=references).plot(
            ax=ax, **kwargs
        )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made. The names of the curves are written right
            of it.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.

        Returns
        -------
        display : UnlearningCurveDisplay
            The object itself.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.colors import to_rgb
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        (ax,), _ = panels(ax, (1, 1), (5.2, 3.2))
        self.lines_, self.bands_, self.references_ = {}, {}, {}
        for i, (name, (x, y)) in enumerate(self.curves.items()):
            n = np.isfinite(y).sum(axis=0)
            mean = np.nansum(y, axis=0) / n
            defaults = {
                "color": COLORS[i % 7],  # not yellow
                "linestyle": _STYLES[i % len(_STYLES)],
                "linewidth": 1.6,
                "marker": "o" if len(x) < 13 else None,
                "markersize": 4,
                "label": name,
            }
            (self.lines_[name],) = ax.plot(x, mean, **style(Line2D, defaults, kwargs))
            if n.max() > 1:
                spread = np.sqrt(np.nansum((y - mean) ** 2, axis=0) / np.maximum(n - 1, 1))
                self.bands_[name] = ax.fill_between(
                    x,
                    mean - spread,
                    mean + spread,
                    color=self.lines_[name].get_color(),
                    alpha=0.2,
                    linewidth=0,
                )
        last = max(x[-1] for x, _ in self.curves.values())
        for line in list(self.lines_.values()):
            x, y = line.get_data()
            if x[-1] < last:  # lead on to the name
                ax.plot([x[-1], last], [y[-1], y[-1]], color=line.get_color(), linewidth=0.5)
        for i, (name, value) in enumerate((self.references or {}).items()):
            self.references_[name] = ax.axhline(
                value,
                color=GREY,
                linewidth=1,
                linestyle=_REFERENCE_STYLES[i % len(_REFERENCE_STYLES)],
                zorder=1,
            )
        ax.set(xlabel=self.x_name, ylabel=self.y_name)
        if all((np.mod(x, 1) == 0).all() for x, _ in self.curves.values()):  # epochs
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.spines[["top", "right"]].set_visible(False)
        ends = {
            name: (line.get_ydata()[-1], line.get_color())
            for name, line in self.lines_.items()
            if name and len(self.curves) > 1
        }
        ends |= {name: (line.get_ydata()[0], GREY) for name, line in self.references_.items()}
        self.labels_ = label_ends(ax, list(ends), [value for value, _ in ends.values()])
        for label, (_, color) in zip(self.labels_, ends.values()):
            label.set_color([0.7 * part for part in to_rgb(color)])  # light ones are hard to read
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _named_runs(history):
    """The runs of each curve, by name; a `ValueError` for what is no history."""
    named = history if isinstance(history, Mapping) else {"": history}
    named = {
        name: [runs] if isinstance(runs, History) else list(runs) for name, runs in named.items()
    }
    every = [run for runs in named.values() for run in runs]
    if not every or not all(isinstance(run, History) for run in every):
        raise ValueError(
            "history must be a skorch History, a list of them, or a dict of either; got "
            f"{[type(run).__name__ for run in every][:5]}."
        )
    return named


def _curve(runs, key, level):
    """Where any of the runs has a value, and the values of each run there, or NaN."""
    points = [_read(run, key, level) for run in runs]
    x = np.unique(np.concatenate([list(values) for values in points]))
    y = [[values.get(at, np.nan) for at in x.tolist()] for values in points]
    return x, np.array(y, dtype=float)


def _read(history, key, level):
    """Values of a history by where they were recorded: epoch, or batch from the beginning."""
    if level == "epoch":
        # A history that was cut or loaded may not number its epochs.
        rows = [(epoch.get("epoch", i), epoch) for i, epoch in enumerate(history, 1)]
    else:
        # Batches of validation stand between those of training.
        batches = [batch for epoch in history for batch in epoch.get("batches", ())]
        is_valid = key.startswith("valid")
        rows = list(enumerate((b for b in batches if ("valid_batch_size" in b) == is_valid), 1))
    values = {at: row[key] for at, row in rows if key in row}
    if not values:
        epochs = {name for epoch in history for name in epoch} - {"batches"}
        batches = {name for epoch in history for b in epoch.get("batches", ()) for name in b}
        raise ValueError(
            f"keys must be recorded for each {level}; got {key!r}. Recorded are {sorted(epochs)} "
            f"for epochs and {sorted(batches)} for batches."
        )
    return values
