"""Compare unlearners side by side: the same originals, references and rows, one table."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils.parallel import Parallel, delayed

from skunlearn._engine.files import progress_bar, read_row
from skunlearn._engine.hashing import cache_key, start_for_key
from skunlearn._engine.validation import (
    check_forget,
    check_number,
    check_sides_groups,
    given_labels,
)
from skunlearn.base import BaseUnlearner
from skunlearn.evaluation._figures import forgotten_classes, warn_of_classes
from skunlearn.evaluation._seed import COLUMNS, ORIGINAL, REFERENCE, REFERENCE_2, run_seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

    from skunlearn._engine.typing import (
        Estimator,
        Folder,
        HeldOutLabels,
        HeldOutRows,
        MaskLike,
        Memory,
        RowsLike,
    )
    from skunlearn.inspection import TradeoffDisplay


@dataclass(frozen=True, repr=False)
class UnlearnerComparison:
    """Result of `compare_unlearners`: metrics per method and seed.

    Attributes
    ----------
    records : list of dict
        A row for each method and seed.

    See Also
    --------
    skunlearn.compare_unlearners : Runs the methods and measures them.
    pareto_front : Indices of the Pareto-optimal points.

    Examples
    --------
    >>> from skunlearn.evaluation.compare import UnlearnerComparison
    >>> records = [
    ...     {"method": "FineTune", "seed": 0, "nomus": 0.75},
    ...     {"method": "FineTune", "seed": 1, "nomus": 0.25},
    ... ]
    >>> mean, deviation = UnlearnerComparison(records).summary(["nomus"])["FineTune"]["nomus"]
    >>> print(f"{mean:.2f} ± {deviation:.2f}")
    0.50 ± 0.35
    """

    records: list[dict[str, Any]]

    @property
    def table(self) -> Any:  # numpydoc ignore=RT01
        """The rows as a pandas DataFrame, or as they are where pandas is not installed."""
        try:
            from pandas import DataFrame
        except ImportError:
            return self.records
        return DataFrame(self.records)

    def summary(
        self, columns: Sequence[str] = COLUMNS[2:]
    ) -> dict[str, dict[str, tuple[float, float]]]:
        """Mean and standard deviation over seeds of each method.

        Parameters
        ----------
        columns : sequence of str
            The metrics, by column of the table.

        Returns
        -------
        summary : dict of str to dict of str to tuple of float
            ``summary[method][column]`` is ``(mean, standard deviation)``, the latter over n - 1,
            and NaN of one seed.
        """
        found = {}
        for name in dict.fromkeys(row["method"] for row in self.records):
            rows = [row for row in self.records if row["method"] == name]
            found[name] = {}
            for column in columns:
                values = np.array([row.get(column, np.nan) for row in rows], dtype=float)
                spread = values.std(ddof=1) if len(values) > 1 else np.nan
                found[name][column] = float(values.mean()), float(spread)
        return found

    def __repr__(self):
        columns = COLUMNS[2:]
        summary = self.summary(columns)
        n_seeds = len({row["seed"] for row in self.records})
        width = max(map(len, summary))
        lines = [
            f"{type(self).__name__}: mean ± standard deviation over {n_seeds} seed(s)",
            " " * width + "".join(f"{name.replace('_', ' '):>22}" for name in columns),
        ]
        for name, metrics in summary.items():
            cells = (
                "-" if np.isnan(mean) else f"{mean:.3f}" + (f" ± {std:.3f}" * (std == std))
                for mean, std in metrics.values()
            )
            lines.append(f"{name:{width}}" + "".join(f"{cell:>22}" for cell in cells))
        return "\n".join(lines)

    def plot_tradeoff(self, *, ax: Axes | None = None, **kwargs: Any) -> TradeoffDisplay:
        """Draw utility against forgetting, with lines of equal NoMUS.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made.
        **kwargs
            Passed to `TradeoffDisplay.from_predictions`.

        Returns
        -------
        display : skunlearn.inspection.TradeoffDisplay
            The plot, a point for each method.
        """
        return self._display("forgetting_score", "utility", ax, kwargs)

    def plot_closeness(self, *, ax: Axes | None = None, **kwargs: Any) -> TradeoffDisplay:
        """Draw NoMUS against closeness to the retrained network.

        Closeness is the Jensen-Shannon distance of predictions on forget rows to the retrained
        network, over the distance between two retrainings: 1 is as good as retraining.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made.
        **kwargs
            Passed to `TradeoffDisplay.from_predictions`.

        Returns
        -------
        display : skunlearn.inspection.TradeoffDisplay
            The plot, a point for each method.
        """
        return self._display("relative_js_distance", "nomus", ax, kwargs)

    def plot_front(self, *, ax: Axes | None = None, **kwargs: Any) -> TradeoffDisplay:
        """Draw closeness to the retrained network against cost, and the front of both.

        A method is on the front if no other is both cheaper and closer.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            What to draw on. By default a figure is made, on which cost has a logarithmic scale.
        **kwargs
            Passed to `TradeoffDisplay.from_predictions`.

        Returns
        -------
        display : skunlearn.inspection.TradeoffDisplay
            On its axes the front is the line that is labelled "front".
        """
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(6.6, 5), layout="constrained")
            ax.set_xscale("log")
        display = self._display("cost", "relative_js_distance", ax, kwargs)
        front = pareto_front(display.x, display.y)
        display.ax_.plot(
            display.x[front],
            display.y[front],
            drawstyle="steps-post",
            color="0.5",
            linewidth=1,
            zorder=2,
            label="front",
        )
        # It costs nothing, and so has no place on the axis of costs.
        original, _ = self.summary(["relative_js_distance"])[ORIGINAL]["relative_js_distance"]
        display.ax_.axhline(original, color="0.5", linewidth=0.8, linestyle=":", zorder=1)
        display.ax_.annotate(
            ORIGINAL,
            (1, original),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
        )
        return display

    def _display(self, x, y, ax, kwargs):
        from skunlearn.inspection import TradeoffDisplay

        rows = [row for row in self.records if None not in (row[x], row[y])]
        if not rows:
            why = next((f", which {r['no_nomus']}" for r in self.records if "no_nomus" in r), "")
            raise ValueError(
                f"no method has both {x} and {y}{why}. TradeoffDisplay.from_predictions draws "
                "other columns of the records."
            )
        kwargs = {"original": ORIGINAL, "retrained": REFERENCE, "ax": ax, **kwargs}
        return TradeoffDisplay.from_predictions(rows, x=x, y=y, **kwargs)


def pareto_front(cost: ArrayLike, loss: ArrayLike) -> NDArray[np.intp]:
    """Find the indices of the Pareto-optimal points.

    Of these no other is as good in one metric and better in the other.

    Parameters
    ----------
    cost, loss : array-like of shape (n,)
        Two metrics, of both of which smaller is better.

    Returns
    -------
    front : ndarray of int
        The indices of the front, by rising cost. Of equals, the first.

    Raises
    ------
    ValueError
        If `cost` and `loss` differ in length.

    See Also
    --------
    UnlearnerComparison.plot_front : Draws closeness against cost, with the front of both.

    Examples
    --------
    >>> from skunlearn.evaluation.compare import pareto_front
    >>> pareto_front([1, 2, 3, 4], [0.9, 0.4, 0.5, 0.1])
    array([0, 1, 3])
    """
    cost, loss = np.asarray(cost, dtype=float), np.asarray(loss, dtype=float)
    if cost.ndim != 1 or cost.shape != loss.shape:
        raise ValueError(
            f"cost and loss must be of one shape (n,); got {cost.shape} and {loss.shape}."
        )
    order = np.lexsort((loss, cost))
    best = np.minimum.accumulate(np.r_[np.inf, loss[order]])
    return order[loss[order] < best[:-1]]


def compare_unlearners(
    unlearners: Sequence[Estimator] | Mapping[str, Estimator],
    X: RowsLike,
    y: ArrayLike | None = None,
    *,
    forget: MaskLike,
    X_unseen: RowsLike,
    y_unseen: ArrayLike | None = None,
    X_val: HeldOutRows = None,
    y_val: HeldOutLabels = None,
    groups: ArrayLike | None = None,
    groups_unseen: ArrayLike | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    folder: Folder | None = None,
    memory: Memory = None,
    n_jobs: int | None = None,
    feature_layer: str | None = "auto",
    n_splits: int = 40,
    error_score: float | Literal["raise"] = "raise",
) -> UnlearnerComparison:
    """Run unlearners on the same networks and rows, beside networks that never saw the rows.

    For each seed an original network is trained on all rows, and two references on the retained
    ones. Every unlearner starts from that original, and what it makes of it is measured in the same
    way as the original and the references themselves, which are in the table too, as "Original",
    "Retrain" and "Retrain again".

    Parameters
    ----------
    unlearners : list of estimator, or dict of str to estimator
        Unlearners on the same network, which is not trained yet; a list is named by their classes.
        A search over one, such as ``GridSearchCV(DLFD(net), ...)``, is fitted for each seed, with
        the mask, and the parameters it finds are used; its own cost is not counted. Shorter
        trainings from scratch, such as ``{"half": Retrain(net, max_epochs=15)}``, belong in every
        comparison.
    X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
        The rows to forget together with the rows to retain.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Their labels. May be left out if `X` is a data set that yields pairs.
    forget : array-like of bool of shape (n_samples,)
        True for the rows to forget: at least 2, and not all.
    X_unseen, y_unseen : array-like
        Rows on which all metrics are reported; no network is trained, tuned or stopped on them.
    X_val, y_val : array-like, default=None
        Other held-out rows, which the unlearners may use.
    groups, groups_unseen : array-like of shape (n_samples,) and (n_unseen,), default=None
        The person, or other group, of each row, both or neither. The interval of NoMUS is then over
        people, and there are columns for the attacks on people.
    seeds : sequence of int, default=(0, 1, 2, 3, 4)
        One original, two references and one run of each method for each.
    folder : str or path, default=None
        Where to write each row of the table as soon as it is there, as JSON. A call that was
        stopped goes on where it was when it is made again, and one with more methods or seeds
        runs those alone: a row is found by a digest of all that it depends on. The files hold
        metrics, neither rows nor networks, and nothing is ever deleted.
    memory : str, joblib.Memory or None, default=None
        Where to keep originals and references, so that a call that goes on need not train them
        again. The folder then holds networks that remember the rows to forget; see
        :class:`~skunlearn.BaseUnlearner`.
    n_jobs : int, default=None
        Seeds at a time, by joblib; ``joblib.parallel_config`` is honoured.
    feature_layer : str or None, default="auto"
        Layer whose features are read for collapse, as in `FeatureExtractor`. None leaves these
        metrics out, which take as long as all others.
    n_splits : int, default=40
        Number of attacks whose accuracy is averaged: four times as many as elsewhere, for methods
        are told apart by less than a single network is told from chance.
    error_score : "raise" or numpy.nan, default="raise"
        What becomes of an unlearner that raises a ValueError, such as one that has diverged. NaN
        leaves its row without metrics and goes on; the row says why in a column `error`.

    Returns
    -------
    comparison : UnlearnerComparison
        Its `table` has a row for each method and seed. Besides the metrics that
        :func:`~skunlearn.unlearning_report` explains there are

        * ``nomus_low`` and ``nomus_high``, a 95 % interval over rows;
        * where nine rows in ten of a class, or all, are to be forgotten,
          ``utility_of_kept_classes``, ``utility_of_forgotten_classes`` and the attack within the
          class, such as ``class_attack_auc``. NoMUS and the forgetting score are then NaN (None in
          the records), a column ``no_nomus`` says why, and so does a warning;
        * ``balanced_utility``, the mean over classes of accuracy on unseen rows, where a row has
          one label;
        * ``cost``, the samples that went through the network forwards and backwards, as a share of
          those that "Retrain" took; one that went forwards only counts a third, and backwards
          counts in full, through however few layers;
        * ``seconds`` of `unlearn`.

        The closeness of the references is that to each other, and so what two
        retrainings have in common.

    Raises
    ------
    ValueError
        If an argument is not as described, or as an unlearner raises it, see `error_score`. Rows
        that are in the `folder` stay there.

    See Also
    --------
    skunlearn.unlearning_report : All metrics of one network, with intervals.
    skunlearn.inspection.TradeoffDisplay : What the comparison draws itself with.

    Notes
    -----
    Read three metrics together: NoMUS, closeness to the retrained network, and cost; NoMUS alone is
    reached by whatever un-fits the whole network. What was tuned on `X_unseen` cannot be reported
    on it. Differences smaller than the spread over seeds are ties. Where the original's own
    distance to the retrained network is near 1, no metric can tell that anything was forgotten, and
    what does nothing is on the front.

    If it takes longer than two seconds and tqdm is installed, a progress bar is shown. The
    environment variable ``TQDM_DISABLE=1`` hides it.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune, NegGrad
    >>> from skunlearn.evaluation.compare import compare_unlearners
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 32), nn.ReLU(), nn.Linear(32, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.3,
    ...     max_epochs=20, batch_size=20,
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(300, 8)), rng.choice(["no", "yes"], 300)
    >>> comparison = compare_unlearners(
    ...     [FineTune(net), NegGrad(net)], X[100:], y[100:], forget=np.arange(200) < 50,
    ...     X_unseen=X[:100], y_unseen=y[:100], seeds=[0],
    ... )
    >>> [row["method"] for row in comparison.records]
    ['Original', 'Retrain', 'Retrain again', 'FineTune', 'NegGrad']
    """
    check_number("n_splits", n_splits, 1, integer=True)
    if error_score != "raise" and error_score == error_score:
        raise ValueError(f"error_score must be 'raise' or numpy.nan; got {error_score!r}.")
    named = _named(unlearners)
    net = _common_network(named)
    y, y_unseen = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
    mask = check_forget(forget, len(y), X)
    if np.count_nonzero(mask) < 2 or mask.all():
        raise ValueError(
            "forget must mark at least 2 rows and leave others to retain; got "
            f"{np.count_nonzero(mask)} True of {len(mask)}."
        )
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different integers, one at least; got {seeds}.")
    for seed in seeds:
        check_number("seeds", seed, 0, integer=True)
    groups = check_sides_groups((y, y_unseen), groups=groups, groups_unseen=groups_unseen)
    if y.ndim == 1 and len(gone := forgotten_classes(y, mask)):
        warn_of_classes(gone, np.isin(y_unseen, gone).all())
    data = X, y, mask, X_unseen, y_unseen, X_val, y_val
    settings = feature_layer, n_splits
    if folder is not None:
        folder = Path(folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
    common = None
    if folder is not None:
        model = next(model for model in named.values() if model is not None)
        start = start_for_key(_unlearner(model), X, y, seeds[0])
        common = cache_key(net, data, settings, start, *(g for g in groups if g is not None))
    records, missing = {}, {}
    for seed in seeds:
        for name, model in named.items():
            path = None
            if folder is not None:
                path = folder / f"{cache_key(net, common, name, model, seed)}.json"
                if path.exists() and (row := read_row(path)) is not None:
                    records[name, seed] = row
                    continue
            missing.setdefault(seed, {})[name] = model, path
    runs = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(run_seed)(net, data, groups, seed, todo, settings, memory, error_score == "raise")
        for seed, todo in missing.items()
    )
    with contextlib.closing(runs):
        for rows in progress_bar(runs, len(missing), len(seeds), "seed"):
            records |= {(row["method"], row["seed"]): row for row in rows}
    return UnlearnerComparison([records[name, seed] for name in named for seed in seeds])


def _named(unlearners):
    """The methods by name, the networks that everything is compared with first."""
    if not isinstance(unlearners, Mapping):
        names = [type(_unlearner(model)).__name__ for model in unlearners]
        if len(set(names)) < len(names):
            raise ValueError(
                f"unlearners must have different names; got {names}. Pass a dict of names."
            )
        unlearners = dict(zip(names, unlearners))
    if taken := {ORIGINAL, REFERENCE, REFERENCE_2} & unlearners.keys():
        raise ValueError(
            f"unlearners must not be called {sorted(taken)}: these are always compared, and those "
            "are their names. Pass a dict of other names."
        )
    return dict.fromkeys((ORIGINAL, REFERENCE, REFERENCE_2)) | dict(unlearners)


def _unlearner(model):
    """The unlearner itself, or what a search searches over."""
    inner = model if isinstance(model, BaseUnlearner) else getattr(model, "estimator", None)
    if not isinstance(inner, BaseUnlearner):
        raise ValueError(f"unlearners must hold unlearners, or searches over one; got {model!r}.")
    return inner


def _common_network(named):
    models = {name: _unlearner(model) for name, model in named.items() if model is not None}
    if not models:
        raise ValueError("unlearners must hold at least one; got none.")
    for name, model in models.items():
        if isinstance(model.estimator, FrozenEstimator):
            raise ValueError(
                "unlearners must be given the network untrained, for each seed trains its own; got "
                f"a FrozenEstimator in {name!r}. Pass the wrapped network instead."
            )
    keys = {name: cache_key(model.estimator) for name, model in models.items()}
    if len(set(keys.values())) > 1:
        raise ValueError(
            "unlearners must have the same network as their estimator, or they cannot start from "
            f"the same original; that of {next(iter(keys))!r} differs from that of "
            f"{next(name for name, key in keys.items() if key != next(iter(keys.values())))!r}."
        )
    return next(iter(models.values())).estimator
