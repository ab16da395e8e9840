"""The features of retained, forget and unseen rows in two dimensions."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skunlearn._engine.random import draw_seed
from skunlearn._engine.rows import take_rows
from skunlearn._engine.statistics import few_of
from skunlearn._engine.validation import check_number, check_values, given_labels
from skunlearn.features import FeatureExtractor
from skunlearn.inspection._drawing import COLORS, panels, style
from skunlearn.inspection._rows import SETS, by_network, by_network_and_set, check_mask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from numpy.typing import ArrayLike
    from typing_extensions import Self

    from skunlearn._engine.typing import (
        Array,
        BySet,
        Estimator,
        MaskLike,
        RandomState,
        RowsLike,
        Transformer,
    )

_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}

# With both a colour and a shape of its own, a class is found in grey, too.
_MARKERS = ("o", "^", "s", "v", "D", "P", "X", "<", "p", ">")

_N_CLASSES = 10


class FeatureDistributionDisplay:
    """A layer's features in two dimensions, by class and by set of rows.

    Every row of panels is a network, every column a set: retained, forget and unseen rows. Classes
    have colours and shapes; the retained rows are repeated in light grey behind the other sets.
    **Classes that lie apart before unlearning and on one heap after it are a correlation
    collapse**: the features no longer tell the labels. Forget rows of a network that has forgotten
    scatter as the unseen ones do.

    Make it with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    projections : dict
        The name of each network, mapped to a dict with some of the keys "retain", "forget",
        "unseen", and arrays of shape (n_rows, 2). An empty name is not drawn.
    y : dict of ndarray of shape (n_rows,)
        The class of each of these rows, by set.
    axis_names : dict of tuple of str, default=None
        What the two axes are, by network.
    shared : bool, default=False
        Whether all networks were projected by one transformation, so that all panels get the same
        limits; otherwise only those of a network do.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_networks, n_sets)
        The panels.
    figure_ : matplotlib Figure
        What the axes belong to.
    points_ : dict of dict of dict of matplotlib PathCollection
        The points, by network, set and class. Classes beyond ten go by "other", or by
        "others" if a class is called "other" itself, and so on.
    legend_ : matplotlib Legend
        The key to the classes.

    See Also
    --------
    LossDistributionDisplay : The losses of the same rows.
    skunlearn.features.FeatureExtractor : Where the features come from.

    Notes
    -----
    A plot of two dimensions is a lead, not evidence: classes may be apart in the directions
    left out, and t-SNE and UMAP invent distances between groups and make all equally dense.

    Two networks have different feature spaces. By default each has a projection of its own, so
    that each shows its own best view, mirrored where that brings it nearer to the first;
    positions, directions and sizes must not be compared from one row of panels to the next. With
    ``shared=True`` the projection is fitted on the first network and applied to all: this shows
    movement and shrinkage where the others were made from the first one's weights; a network
    trained from scratch, such as the retrained one, comes out as a meaningless heap.

    At most ten classes have colours, those most frequent among the forget rows; the others are
    drawn alike.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.inspection import FeatureDistributionDisplay
    >>> rng = np.random.default_rng(0)
    >>> features = {"retain": rng.normal(size=(50, 8)), "forget": rng.normal(size=(10, 8))}
    >>> y = {"retain": rng.integers(0, 3, 50), "forget": rng.integers(0, 3, 10)}
    >>> display = FeatureDistributionDisplay.from_predictions(features, y)
    >>> [axes.get_title() for axes in display.axes_.flat]
    ['retain (n = 50)', 'forget (n = 10)']

    One projection for two networks, of any transformer:

    >>> from sklearn.random_projection import GaussianRandomProjection
    >>> shrunk = {name: Z / 2 for name, Z in features.items()}
    >>> display = FeatureDistributionDisplay.from_predictions(
    ...     {"original": features, "unlearned": shrunk}, y,
    ...     projection=GaussianRandomProjection(2, random_state=0), shared=True,
    ... )
    >>> display.axes_.shape
    (2, 2)
    """

    axes_: Array
    figure_: Figure
    points_: dict[str, dict[str, dict[Any, PathCollection]]]
    legend_: Legend

    def __init__(
        self,
        *,
        projections: Mapping[str, Mapping[str, Array]],
        y: Mapping[str, Array],
        axis_names: Mapping[str, tuple[str, str]] | None = None,
        shared: bool = False,
    ) -> None:
        self.projections = projections
        self.y = y
        self.axis_names = axis_names
        self.shared = shared

    @classmethod
    def from_estimator(
        cls,
        estimator: Estimator | Mapping[str, Estimator],
        X: RowsLike,
        y: ArrayLike | None,
        *,
        forget: MaskLike,
        X_unseen: RowsLike,
        y_unseen: ArrayLike | None,
        layer: str = "auto",
        projection: Literal["pca", "tsne", "umap"] | Transformer = "pca",
        shared: bool = False,
        n_rows: int = 500,
        random_state: RandomState = None,
        ax: Axes | Sequence[Axes] | Array | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the features of fitted networks.

        Parameters
        ----------
        estimator : unlearner, skorch.NeuralNet or Pipeline, or dict of them
            Fitted, as `FeatureExtractor` takes it, or several by name, such as
            ``{"Original": ..., "Unlearned": ...}``.
        X : array-like or torch Dataset of n_samples rows
            The rows to retain and those to forget, as they were trained on.
        y : array-like of shape (n_samples,), or None
            Their class labels; None for a data set that yields pairs.
        forget : array-like of bool of shape (n_samples,)
            True for the rows to forget. Where it is True everywhere, no retained rows are drawn.
        X_unseen : array-like or torch Dataset of n_unseen rows
            Rows that none of the networks saw.
        y_unseen : array-like of shape (n_unseen,), or None
            Their class labels; None for a data set that yields pairs.
        layer : str, default="auto"
            Name of the submodule whose output is the features; ``"auto"`` takes the input of the
            linear layer that runs last.
        projection : {"pca", "tsne", "umap"} or transformer, default="pca"
            From features to two dimensions. "umap" needs umap-learn. A transformer is cloned, and
            must return two columns.
        shared : bool, default=False
            Whether the projection that is fitted on the first network is used for all, rather than
            one for each. t-SNE cannot do it.
        n_rows : int, default=500
            How many rows of each set are drawn, at most.
        random_state : int, RandomState instance or None, default=None
            Seeds the choice of rows and the projections given by name.
        ax : array-like of matplotlib Axes, default=None
            One for each network and set, network by network. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.scatter` for every class.

        Returns
        -------
        display : FeatureDistributionDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If `forget` is not a boolean mask of shape (n_samples,) or marks no row, if labels and
            rows do not fit, if there is no such layer or projection, or `ax` has not as many axes
            as there are panels.
        ImportError
            If `projection` is "umap" and umap-learn is not installed.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        y, y_unseen = given_labels("y", X, y), given_labels("y_unseen", X_unseen, y_unseen)
        mask = check_mask(forget, y)
        check_number("n_rows", n_rows, 2, integer=True)
        rng = check_random_state(random_state)
        rows, labels = {}, {}
        for key, data, target, among in (
            ("retain", X, y, np.flatnonzero(~mask)),
            ("forget", X, y, np.flatnonzero(mask)),
            ("unseen", X_unseen, y_unseen, np.arange(len(y_unseen))),
        ):
            if len(among):
                few = among[np.sort(few_of(len(among), n_rows, rng))]
                rows[key], labels[key] = take_rows(data, few), target[few]
        features = {
            name: {
                key: FeatureExtractor(network, layer=layer).transform(few)
                for key, few in rows.items()
            }
            for name, network in by_network(estimator).items()
        }
        return cls.from_predictions(
            features,
            labels,
            projection=projection,
            shared=shared,
            n_rows=n_rows,
            random_state=rng,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        features: BySet,
        y: Mapping[str, ArrayLike],
        *,
        projection: Literal["pca", "tsne", "umap"] | Transformer = "pca",
        shared: bool = False,
        n_rows: int = 500,
        random_state: RandomState = None,
        ax: Axes | Sequence[Axes] | Array | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw features that are known already.

        Parameters
        ----------
        features : dict
            A dict with some of the keys "retain", "forget", "unseen" and the features of these
            rows, each array-like of shape (n_rows, n_features); or such dicts by name of the
            network, all of the same rows.
        y : dict of array-like of shape (n_rows,)
            The class labels of the rows of each set.
        projection : {"pca", "tsne", "umap"} or transformer, default="pca"
            From features to two dimensions. "umap" needs umap-learn. A transformer is cloned, and
            must return two columns.
        shared : bool, default=False
            Whether the projection that is fitted on the first network is used for all, rather than
            one for each. t-SNE cannot do it.
        n_rows : int, default=500
            How many rows of each set are drawn, at most.
        random_state : int, RandomState instance or None, default=None
            Seeds the choice of rows and the projections given by name.
        ax : array-like of matplotlib Axes, default=None
            One for each network and set, network by network. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.scatter` for every class.

        Returns
        -------
        display : FeatureDistributionDisplay
            What was drawn, with its axes and artists as attributes.

        Raises
        ------
        ValueError
            If `features` and `y` are not such dicts or do not fit, if features are NaN or
            infinite, or there is no such projection.
        ImportError
            If `projection` is "umap" and umap-learn is not installed.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        check_number("n_rows", n_rows, 2, integer=True)
        features = by_network_and_set("features", features, _check_features)
        labels = _check_labels(y, features)
        rng = check_random_state(random_state)
        few = {key: np.sort(few_of(len(value), n_rows, rng)) for key, value in labels.items()}
        seed = draw_seed(rng)
        projections, axis_names, transformer, width, first = {}, {}, None, None, None
        for name, sets in features.items():
            Z = np.concatenate([sets[key][few[key]] for key in few])
            ratios = None  # of the network that the projection was fitted on only
            if shared and transformer is not None:
                if Z.shape[1] != width:
                    raise ValueError(
                        "shared=True needs as many features of each network; got "
                        f"{Z.shape[1]} of {name!r} and {width} of the first."
                    )
                Z = np.asarray(transformer.transform(Z))
            else:
                width = Z.shape[1]
                transformer = _make_projection(projection, len(Z), seed)
                if shared and not hasattr(transformer, "transform"):
                    raise ValueError(
                        "shared=True needs a projection that can transform other rows than those "
                        f"it was fitted on; got {projection!r}. Use 'pca' or 'umap'."
                    )
                Z = np.asarray(transformer.fit_transform(Z))
                if Z.ndim != 2 or Z.shape[1] != 2:
                    raise ValueError(
                        f"projection must return 2 columns; got shape {Z.shape} of {projection!r}."
                    )
                ratios = getattr(transformer, "explained_variance_ratio_", None)
            if first is None:
                first = Z - Z.mean(axis=0)
            elif not shared:  # a projection has no sign of its own
                Z = Z * np.where((first * Z).sum(axis=0) < 0, -1, 1)
            title = _TITLES.get(projection if isinstance(projection, str) else None)
            title = title or type(transformer).__name__
            axis_names[name] = tuple(
                f"{title} {i + 1}"
                + (f" ({ratios[i]:.0%} of variance)" if ratios is not None else "")
                for i in range(2)
            )
            ends = np.cumsum([len(rows) for rows in few.values()])[:-1]
            projections[name] = dict(zip(few, np.split(Z, ends)))
        display = cls(
            projections=projections,
            y={key: labels[key][rows] for key, rows in few.items()},
            axis_names=axis_names,
            shared=shared,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | Sequence[Axes] | Array | None = None, **kwargs: Any) -> Self:
        """Draw the points.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, default=None
            One for each network and set, network by network. By default a figure is made.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.scatter` for every class.

        Returns
        -------
        display : FeatureDistributionDisplay
            The object itself.

        Raises
        ------
        ValueError
            If `ax` has not as many axes as there are networks times sets.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        from matplotlib.collections import PathCollection

        keys = [key for key in SETS if key in self.y]
        shape = (len(self.projections), len(keys))
        axes, is_new = panels(ax, shape, (2.3, 2.3))
        self.axes_ = np.array(axes, dtype=object).reshape(shape)
        self.figure_ = axes[0].figure
        classes, styles = self._styles()
        everything = [Z for sets in self.projections.values() for Z in sets.values()]
        self.points_ = {}
        handles = {}
        for row, (name, sets) in zip(self.axes_, self.projections.items()):
            values = np.concatenate(everything if self.shared else list(sets.values()))
            low, high = values.min(axis=0), values.max(axis=0)
            centre, half = (low + high) / 2, 0.54 * ((high - low).max() or 1)
            self.points_[name] = {}
            for axis, key in zip(row, keys):
                if key != "retain" and "retain" in sets:
                    axis.scatter(*sets["retain"].T, s=4, color="0.88", linewidths=0, zorder=1)
                self.points_[name][key] = {}
                for label, (color, marker) in styles.items():
                    chosen = (
                        self.y[key] == label if label in classes else ~np.isin(self.y[key], classes)
                    )
                    if not chosen.any():
                        continue
                    defaults = {
                        "s": 26 if key == "forget" else 16,
                        "color": color,
                        "marker": marker,
                        "edgecolor": "0.2",
                        "linewidth": 0.3,
                        "label": str(label),
                        "zorder": 2,
                    }
                    points = axis.scatter(
                        *sets[key][chosen].T, **style(PathCollection, defaults, kwargs)
                    )
                    self.points_[name][key][label] = points
                    handles.setdefault(label, points)
                axis.set(
                    xlim=(centre[0] - half, centre[0] + half),
                    ylim=(centre[1] - half, centre[1] + half),
                    xticks=[],
                    yticks=[],
                    box_aspect=1,
                )
                if name == next(iter(self.projections)):
                    axis.set_title(f"{key} (n = {len(self.y[key])})", fontsize="medium")
            x_name, y_name = (self.axis_names or {}).get(name, ("", ""))
            row[0].set_xlabel(x_name, fontsize="small")
            title = [textwrap.fill(name, 26)] if name else []
            row[0].set_ylabel("\n".join([*title, y_name]), fontsize="small")
        ordered = [handles[label] for label in styles if label in handles]
        where = (
            {"loc": "outside right center", "title": "class"}
            if is_new
            else {"loc": "best", "fontsize": "x-small", "title": "class"}
        )
        owner = self.figure_ if is_new else self.axes_[0, -1]
        self.legend_ = owner.legend(handles=ordered, frameon=False, **where)
        return self

    def _styles(self):
        """The classes that get a colour, and the colour and shape of each entry of the legend."""
        names, counts = np.unique(np.concatenate(list(self.y.values())), return_counts=True)
        if len(names) > _N_CLASSES:
            rest = "other"
            while rest in names.tolist():
                rest += "s"
            wanted = self.y.get("forget", np.concatenate(list(self.y.values())))
            in_forget = np.array([(wanted == name).sum() for name in names])
            names = np.sort(names[np.lexsort([-counts, -in_forget])[:_N_CLASSES]])
            styles = {rest: ("0.6", ".")}
        else:
            styles = {}
        coloured = {
            name: (COLORS[i % len(COLORS)], _MARKERS[i]) for i, name in enumerate(names.tolist())
        }
        return list(coloured), styles | coloured  # the others first, below all


def _check_features(name, value):
    return check_values(name, value, (2,), "features of shape (n_rows, n_features)")


def _check_labels(y, features):
    """The labels of each set, as many as there are features of each network."""
    first = next(iter(features.values()))
    if not isinstance(y, Mapping) or set(y) != set(first):
        raise ValueError(
            f"y must map the sets of features, {list(first)}, to labels; got "
            f"{list(y) if isinstance(y, Mapping) else type(y).__name__}."
        )
    labels = {
        key: check_values(f"y[{key!r}]", y[key], (1,), "labels of shape (n_rows,)") for key in first
    }
    for name, sets in features.items():
        sizes = {key: len(value) for key, value in sets.items()}
        if sizes != {key: len(value) for key, value in labels.items()}:
            raise ValueError(
                f"features[{name!r}] must have a row for each label in y, "
                f"{ ({key: len(value) for key, value in labels.items()}) }; got {sizes}."
            )
    return labels


def _make_projection(projection, n_rows, seed):
    if not isinstance(projection, str):
        return clone(projection)
    if projection == "pca":
        return PCA(2, random_state=seed)
    if projection == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(2, perplexity=min(30, max(1, (n_rows - 1) / 3)), random_state=seed)
    if projection == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise ImportError(
                "projection='umap' requires umap-learn. You can install it with "
                "`pip install umap-learn`; 'pca' and 'tsne' need nothing more."
            ) from error
        return UMAP(n_components=2, random_state=seed)
    raise ValueError(
        f"projection must be one of {list(_TITLES)} or a transformer; got {projection!r}."
    )
