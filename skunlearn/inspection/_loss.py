"""Plots of the losses that a membership inference attack reads."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skunlearn._engine.random import one_seed
from skunlearn._engine.validation import check_values, given_labels
from skunlearn.inspection._drawing import COLORS, panels, style
from skunlearn.inspection._rows import (
    SETS,
    by_network,
    by_network_and_set,
    check_mask,
    row_losses,
)
from skunlearn.metrics import membership_inference_accuracy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from skunlearn._engine.typing import Array, BySet, MaskLike, Predictor, RandomState, RowsLike

_LINES = {
    "retain": {"color": "black", "linestyle": ":", "linewidth": 1.3},
    "forget": {"color": COLORS[1], "linestyle": "-", "linewidth": 2.2},
    "unseen": {"color": COLORS[0], "linestyle": "--", "linewidth": 1.5},
}

# The smallest loss that a probability in single precision can give.
_FLOOR = 1e-7

_X_NAME, _Y_NAME = "cross-entropy of a row (log scale)", "share of rows"


class LossDistributionDisplay:
    r"""Distribution of the losses of forget, unseen and retained rows.

    Every panel is a network, every curve the share of a set's rows (from 0 to 1) whose
    cross-entropy, on a logarithmic axis, is at most the value on the horizontal axis. **Where the
    curves of forget and unseen rows coincide, an attack on the loss has nothing to go by**,
    whatever the curve of the retained rows does: forget rows left of the unseen ones are still
    remembered, right of them conspicuously wrong. The largest vertical distance of the two curves
    is twice what an attack with one threshold, the best, gains over chance level.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    losses : dict
        The name of each network, mapped to its losses: a dict with some of the keys "retain",
        "forget", "unseen", and arrays of shape (n_rows,), which may differ in length. An empty
        name is not drawn.
    mia_accuracy : dict of float, default=None
        The accuracy of the membership inference attack on each network, by name; from 0 to 1,
        0.5 is ideal. It stands in the title of the panel.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_networks,)
        One panel for each network.
    figure_ : matplotlib Figure
        What the axes belong to.
    lines_ : dict of dict of matplotlib Line2D
        The curves, by network and set.
    legend_ : matplotlib Legend
        The key to the curves.

    See Also
    --------
    skunlearn.metrics.membership_inference_accuracy : The attack on these losses.
    FeatureDistributionDisplay : The features of the same rows.

    Notes
    -----
    Losses below 1e-7, which single precision cannot tell from 0, are drawn at 1e-7. Look at the
    network retrained without the forget rows, too: with few rows, or where forget and unseen rows
    come from different people, its curves do not coincide either.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.inspection import LossDistributionDisplay
    >>> rng = np.random.default_rng(0)
    >>> losses = {
    ...     "Original": {"forget": rng.exponential(0.1, 90), "unseen": rng.exponential(1, 200)},
    ...     "Retrained": {"forget": rng.exponential(1, 90), "unseen": rng.exponential(1, 200)},
    ... }
    >>> display = LossDistributionDisplay.from_predictions(losses, random_state=0)
    >>> [axes.get_title() for axes in display.axes_]
    ['Original\nMIA accuracy 0.85', 'Retrained\nMIA accuracy 0.51']
    """

    axes_: Array
    figure_: Figure
    lines_: dict[str, dict[str, Line2D]]
    legend_: Legend

    def __init__(
        self,
        *,
        losses: Mapping[str, Mapping[str, Array]],
        mia_accuracy: Mapping[str, float] | None = None,
    ) -> None:
        self.losses = losses
        self.mia_accuracy = mia_accuracy

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
        ax: Axes | Sequence[Axes] | Array | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the losses of fitted classifiers.

        Parameters
        ----------
        estimator : estimator or dict of estimators
            A fitted classifier with `predict_proba`, or several by name, such as
            ``{"Original": ..., "Unlearned": ..., "Retrained": ...}``.
        X : array-like or torch Dataset of n_samples rows
            The rows to retain and those to forget, as they were trained on.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), or None
            Their true labels; None for a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget. Where it is True everywhere, no retained rows are drawn.
        X_unseen : array-like or torch Dataset of n_unseen rows
            Rows that none of the networks saw.
        y_unseen : array-like of shape (n_unseen,) or (n_unseen, n_labels), or None
            Their true labels; None for a data set that yields pairs.
        n_splits : int, default=10
            Number of attacks whose accuracy is averaged.
        random_state : int, RandomState instance or None, default=None
            Seeds the attack, the same on each network. Pass an int for repeatable numbers.
        ax : array-like of matplotlib Axes, default=None
            One for each network. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.ecdf` for every curve.

        Returns
        -------
        display : LossDistributionDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If `forget` is not a boolean mask of shape (n_samples,) or marks no row, if labels and
            rows do not fit, or `ax` has not as many axes as there are networks.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from skunlearn.inspection import LossDistributionDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> seen, forget = np.arange(150) % 3 > 0, np.arange(150) % 3 == 1
        >>> display = LossDistributionDisplay.from_estimator(
        ...     GaussianNB().fit(X[seen], y[seen]),
        ...     X[seen],
        ...     y[seen],
        ...     forget=forget[seen],
        ...     X_unseen=X[~seen],
        ...     y_unseen=y[~seen],
        ... )
        >>> list(display.lines_["GaussianNB"])
        ['retain', 'forget', 'unseen']
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        y, y_unseen = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
        mask = check_mask(forget, y)
        losses = {}
        for name, network in by_network(estimator).items():
            seen = row_losses(network, X, y)
            unseen = row_losses(network, X_unseen, y_unseen)
            losses[name] = {"retain": seen[~mask], "forget": seen[mask], "unseen": unseen}
            if mask.all():
                del losses[name]["retain"]
        return cls.from_predictions(
            losses, n_splits=n_splits, random_state=random_state, ax=ax, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        losses: BySet,
        *,
        n_splits: int = 10,
        random_state: RandomState = None,
        ax: Axes | Sequence[Axes] | Array | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw losses that are known already.

        Parameters
        ----------
        losses : dict
            A dict with some of the keys "retain", "forget", "unseen" and the losses of these rows,
            each array-like of shape (n_rows,), of numbers not below 0, as
            `skunlearn.metrics.sample_log_loss` returns them; or such dicts by name of the network.
        n_splits : int, default=10
            Number of attacks whose accuracy is averaged. The attack is made on each network that
            has losses of forget and of unseen rows, at least 2 of each.
        random_state : int, RandomState instance or None, default=None
            Seeds the attack, the same on each network. Pass an int for repeatable numbers.
        ax : array-like of matplotlib Axes, default=None
            One for each network. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.ecdf` for every curve.

        Returns
        -------
        display : LossDistributionDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If `losses` is not such a dict, or if losses are empty, NaN, infinite or negative.

        Examples
        --------
        >>> from skunlearn.inspection import LossDistributionDisplay
        >>> display = LossDistributionDisplay.from_predictions(
        ...     {"forget": [0.1, 0.2, 0.1], "unseen": [0.3, 4.0, 2.0, 1.0]}, random_state=0
        ... )
        >>> display.lines_[""]["forget"].get_label()
        'forget (n = 3)'
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        losses = by_network_and_set("losses", losses, _check_losses)
        seed = one_seed(random_state)
        mia_accuracy = {
            name: membership_inference_accuracy(
                sets["forget"], sets["unseen"], n_splits=n_splits, random_state=seed
            )
            for name, sets in losses.items()
            if min(len(sets.get(key, ())) for key in ("forget", "unseen")) > 1
        }
        return cls(losses=losses, mia_accuracy=mia_accuracy).plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | Sequence[Axes] | Array | None = None, **kwargs: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, default=None
            One for each network. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.ecdf` for every curve.

        Returns
        -------
        display : LossDistributionDisplay
            The object itself.

        Raises
        ------
        ValueError
            If `ax` has not as many axes as there are networks.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.lines import Line2D

        n = len(self.losses)
        n_columns = min(n, 3) if -n % 3 <= -n % 4 else 4  # whichever leaves fewer places empty
        axes, is_new = panels(
            ax, (-(-n // n_columns), n_columns), (2.6, 2.2) if n > 1 else (4.4, 3), n
        )
        values = np.concatenate([v for sets in self.losses.values() for v in sets.values()])
        values = np.maximum(values, _FLOOR)
        self.lines_ = {}
        for i, (axis, (name, sets)) in enumerate(zip(axes, self.losses.items())):
            self.lines_[name] = {
                key: axis.ecdf(
                    np.maximum(sets[key], _FLOOR),
                    **style(
                        Line2D, {"label": f"{key} (n = {len(sets[key])})", **_LINES[key]}, kwargs
                    ),
                )
                for key in SETS
                if key in sets
            }
            title = [textwrap.fill(name, 30)] if name else []
            if self.mia_accuracy and name in self.mia_accuracy:
                title.append(f"MIA accuracy {self.mia_accuracy[name]:.2f}")
            axis.set_title("\n".join(title), fontsize="medium")
            axis.set(xscale="log", xlim=(values.min() / 2, values.max() * 2), ylim=(0, 1.02))
            axis.spines[["top", "right"]].set_visible(False)
            if not is_new:
                axis.set(xlabel=_X_NAME, ylabel=_Y_NAME)
            else:
                axis.tick_params(labelbottom=i + n_columns >= n, labelleft=i % n_columns == 0)
        self.axes_, self.figure_ = np.array(axes, dtype=object), axes[0].figure
        handles = {key: line for lines in self.lines_.values() for key, line in lines.items()}
        handles = [handles[key] for key in SETS if key in handles]
        if is_new:
            self.figure_.supxlabel(_X_NAME, fontsize="medium")
            self.figure_.supylabel(_Y_NAME, fontsize="medium")
            self.legend_ = self.figure_.legend(
                handles=handles,
                loc="outside upper center",
                ncols=len(handles),
                columnspacing=1.2,
                fontsize="small",
                frameon=False,
            )
        else:
            self.legend_ = axes[0].legend(handles=handles, loc="upper left", fontsize="small")
        return self


def _check_losses(name, value):
    array = check_values(name, value, (1,), "numbers of shape (n_rows,)").astype(float)
    if array.min() < 0:
        raise ValueError(f"{name} must hold losses of 0 or more; got {array.min():.4g}.")
    return array
