"""The many networks that attacks on each row need: trained, unlearned, and reduced to margins."""

from __future__ import annotations

import contextlib
import io
import numbers
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_consistent_length, check_random_state

from skunlearn._engine.data import Whole
from skunlearn._engine.files import digest, progress_bar, warn_of_file, write
from skunlearn._engine.hashing import cache_key, start_for_key
from skunlearn._engine.predict import log_proba
from skunlearn._engine.random import draw_seed, seeded
from skunlearn._engine.rows import take_rows
from skunlearn._engine.validation import check_forget, check_groups, check_number, given_labels
from skunlearn.base import BaseUnlearner
from skunlearn.metrics import attack_signal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from skunlearn._engine.typing import (
        Folder,
        HeldOutLabels,
        HeldOutRows,
        MaskLike,
        RandomState,
        RowsLike,
    )

_DIGEST = 16  # bytes


class ShadowMargins(NamedTuple):
    """Result of `shadow_margins`, in the order in which `u_lira` and `rmia` take it.

    Attributes
    ----------
    margins : ndarray of float64 of shape (n_models, n_forget)
        Margin of each candidate row in each model, after unlearning.
    member : ndarray of bool of shape (n_models, n_forget)
        Whether the model was trained on the row, and has unlearned it.
    margins_population : ndarray of float64 of shape (n_models, n_unseen) or None
        Margins of the rows of `X_unseen`.

    See Also
    --------
    skunlearn.shadow_margins : Trains and unlearns the models.
    skunlearn.metrics.u_lira : Attacks with `margins` and `member`.
    skunlearn.metrics.rmia : Attacks with all three.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import rmia
    >>> from skunlearn.evaluation.shadow import ShadowMargins
    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(8)[:, None] % 2 == np.arange(50) % 2
    >>> shadow = ShadowMargins(rng.normal(size=(8, 50)), member, rng.normal(size=(8, 100)))
    >>> 0.4 < rmia(*shadow).auc < 0.6
    True
    """

    margins: NDArray[np.float64]
    member: NDArray[np.bool_]
    margins_population: NDArray[np.float64] | None


class KlomMargins(NamedTuple):
    """Result of `klom_margins`, in the order in which `klom` takes it.

    Attributes
    ----------
    unlearned : ndarray of float64 of shape (n_models, n_rows)
        Margins in models trained on all rows and unlearned.
    retrained : ndarray of float64 of shape (n_models, n_rows)
        Margins in models trained on the retained rows alone.

    See Also
    --------
    skunlearn.klom_margins : Trains the models, and unlearns half of them.
    skunlearn.metrics.u_lira : ``u_lira(*margins.unlearned_or_retrained(forget))``.
    skunlearn.metrics.unlearning_epsilon : How surely each row tells the two.
    skunlearn.metrics.klom : The divergence of the two, row by row.

    Examples
    --------
    >>> import numpy as np
    >>> from skunlearn.metrics import klom
    >>> from skunlearn.evaluation.shadow import KlomMargins
    >>> margins = KlomMargins(unlearned=np.zeros((2, 3)), retrained=np.zeros((2, 3)))
    >>> klom(*margins, n_bins=2)
    array([0., 0., 0.])
    """

    unlearned: NDArray[np.float64]
    retrained: NDArray[np.float64]

    def unlearned_or_retrained(
        self, rows: MaskLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The margins as `u_lira` takes them, to ask whether a network was retrained.

        This is the question that published attacks ask. `shadow_margins` asks another one: whether
        a row was unlearned or never seen, among networks that have all unlearned something.

        Parameters
        ----------
        rows : array-like of bool of shape (n_rows,), default=None
            Which rows, usually those to forget. All of them by default.

        Returns
        -------
        margins : ndarray of float64 of shape (2 * n_models, n_rows)
            An unlearned network, a retrained one, and so on.
        member : ndarray of bool of shape (2 * n_models, n_rows)
            True for the unlearned networks.
        """
        n_models, n_rows = self.unlearned.shape
        keep = np.ones(n_rows, bool) if rows is None else check_forget(rows, n_rows)
        pairs = np.stack([self.unlearned[:, keep], self.retrained[:, keep]], axis=1)
        margins = pairs.reshape(2 * n_models, -1)
        first = np.arange(len(margins)) % 2 == 0
        return margins, np.broadcast_to(first[:, None], margins.shape).copy()


def shadow_margins(
    unlearner: BaseUnlearner,
    X: RowsLike,
    y: ArrayLike | None = None,
    *,
    forget: MaskLike,
    X_unseen: RowsLike | None = None,
    y_unseen: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    X_val: HeldOutRows = None,
    y_val: HeldOutLabels = None,
    n_models: int = 16,
    folder: Folder | None = None,
    n_jobs: int | None = None,
    random_state: RandomState = None,
) -> ShadowMargins:
    """Train and unlearn the models that `u_lira` and `rmia` need.

    Of the candidate rows, those that `forget` marks, each model is trained on a random half along
    with all other rows, and unlearns that half; the rest it never sees. Models come in pairs: what
    the first of a pair has unlearned, the second has never seen, and the other way round.

    Parameters
    ----------
    unlearner : BaseUnlearner
        The method, on a network that is not trained yet. It is cloned, and the clones are given
        seeds of their own.
    X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
        Rows, as for the unlearner's `fit`.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Their labels. May be left out if `X` is a data set that yields pairs.
    forget : array-like of bool of shape (n_samples,)
        True for the candidates: rows such as those that will be asked to be forgotten. A model
        unlearns half of them, so mark twice as many as an ordinary request has.
    X_unseen, y_unseen : array-like, default=None
        Rows on which no model is trained, the population that `rmia` compares with.
    groups : array-like of shape (n_samples,), default=None
        The person each row is from. If given, the candidates of a person go into a half together.
    X_val, y_val : array-like, default=None
        Held-out rows for the unlearner's `fit`.
    n_models : int, default=16
        How many models to train, and unlearn; an even number. `u_lira` needs 6 at least, and is a
        strong attack with 64.
    folder : str or path, default=None
        Where to write the margins of each model as soon as it is done. A call that was stopped
        goes on where it was when it is made again, and one with a greater `n_models` trains the
        additional ones only. Files are found by a digest of all that matters: change the network,
        the unlearner, the rows or `random_state`, and none of them is used. (Of a data set that
        reads its rows when asked, the attributes alone count.) They hold margins, neither rows
        nor networks, and are of NumPy's format without pickles. Nothing is ever deleted.
    n_jobs : int, default=None
        Models trained at a time, by joblib; ``joblib.parallel_config`` is honoured.
    random_state : int, RandomState or None, default=None
        Seeds the halves and the models. An int, if `folder` is given.

    Returns
    -------
    shadow : ShadowMargins
        A tuple ``(margins, member, margins_population)``.

    Raises
    ------
    ValueError
        If an argument is not as described, or as the unlearner's `fit` raises it.

    See Also
    --------
    skunlearn.metrics.u_lira : ``u_lira(shadow.margins, shadow.member)``.
    skunlearn.metrics.rmia : ``rmia(*shadow)``.
    klom_margins : The models of another question, with one set of rows to forget.

    Notes
    -----
    If it takes longer than two seconds and tqdm is installed, a progress bar is shown.

    A class must not lie in the candidates alone, for a model may then be without it; or name all
    of them in the network's parameter `classes`.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import Retrain, shadow_margins
    >>> from skunlearn.metrics import u_lira
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(100, 4)), rng.integers(2, size=100)
    >>> candidates = np.arange(100) < 40
    >>> shadow = shadow_margins(Retrain(net), X, y, forget=candidates, n_models=6, random_state=0)
    >>> shadow.margins.shape
    (6, 40)
    >>> 0.3 < u_lira(shadow.margins, shadow.member).accuracy < 0.7  # they never saw a candidate
    True
    """
    check_number("n_models", n_models, 2, integer=True)
    if n_models % 2:
        raise ValueError(f"n_models must be even, for models come in pairs; got {n_models}.")
    y, forget = _check(unlearner, X, y, forget, folder, random_state)
    if groups is None:
        units = np.arange(np.count_nonzero(forget))
    else:
        groups = check_groups(groups)
        check_consistent_length(y, groups)
        units = np.unique(groups[forget], return_inverse=True)[1]
    n_units = units.max() + 1
    if n_units < 2:
        raise ValueError(
            "forget must mark rows that can be dealt into halves; got "
            f"{np.count_nonzero(forget)} of {n_units} {'row' if groups is None else 'group'}."
        )
    rng = check_random_state(random_state)
    members, seeds = [], []
    for _ in range(n_models // 2):  # a longer run begins with the models of a shorter one
        member = rng.permutation(n_units)[units] < n_units // 2
        members += [member, ~member]
        seeds += draw_seed(rng), draw_seed(rng)
    tasks = []
    for member, seed in zip(members, seeds):
        unlearned = np.zeros_like(forget)
        unlearned[forget] = member
        tasks.append((unlearned | ~forget, unlearned, seed))
    margins = _margins(
        unlearner, X, y, forget, X_unseen, y_unseen, X_val, y_val, tasks, folder, n_jobs
    )
    n_forget = np.count_nonzero(forget)
    population = None if X_unseen is None else margins[:, n_forget:]
    return ShadowMargins(margins[:, :n_forget], np.array(members), population)


def klom_margins(
    unlearner: BaseUnlearner,
    X: RowsLike,
    y: ArrayLike | None = None,
    *,
    forget: MaskLike,
    X_unseen: RowsLike | None = None,
    y_unseen: ArrayLike | None = None,
    X_val: HeldOutRows = None,
    y_val: HeldOutLabels = None,
    n_models: int = 20,
    folder: Folder | None = None,
    n_jobs: int | None = None,
    random_state: RandomState = None,
) -> KlomMargins:
    """Train, unlearn and retrain the models that `klom` needs.

    Half of the models are trained on all rows and unlearn those that `forget` marks; the other half
    is trained on the retained rows alone, with the same settings.

    Parameters
    ----------
    unlearner : BaseUnlearner
        The method, on a network that is not trained yet. It is cloned, and the clones are given
        seeds of their own.
    X : array-like of shape (n_samples, ...) or torch.utils.data.Dataset
        Rows, as for the unlearner's `fit`.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Their labels. May be left out if `X` is a data set that yields pairs.
    forget : array-like of bool of shape (n_samples,)
        True for the rows to forget.
    X_unseen, y_unseen : array-like, default=None
        Rows on which no model is trained. Their margins follow those of `X`.
    X_val, y_val : array-like, default=None
        Held-out rows for the unlearner's `fit`.
    n_models : int, default=20
        How many models to unlearn, and how many to retrain; at least 2. The paper has 100.
    folder : str or path, default=None
        Where to write the margins of each model as soon as it is done; see `shadow_margins`.
    n_jobs : int, default=None
        Models trained at a time, by joblib; ``joblib.parallel_config`` is honoured.
    random_state : int, RandomState or None, default=None
        Seeds the models. An int, if `folder` is given.

    Returns
    -------
    margins : KlomMargins
        A tuple ``(unlearned, retrained)`` of two arrays of shape (n_models, n_samples + n_unseen).

    Raises
    ------
    ValueError
        If an argument is not as described, or as the unlearner's `fit` raises it.

    See Also
    --------
    skunlearn.metrics.klom : ``klom(*margins)``.
    shadow_margins : The models of membership inference on each row.

    Notes
    -----
    If it takes longer than two seconds and tqdm is installed, a progress bar is shown.

    A whole class can be forgotten if the network's parameter `classes` names all of them.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from skunlearn import FineTune, klom_margins
    >>> from skunlearn.metrics import klom
    >>> def small_network(n_features_in, n_classes):
    ...     return nn.Sequential(nn.Linear(n_features_in, 8), nn.ReLU(), nn.Linear(8, n_classes))
    >>> net = NeuralNetClassifier(
    ...     small_network, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, lr=0.1
    ... )
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(100, 4)), rng.integers(2, size=100)
    >>> forget = np.arange(100) < 20
    >>> margins = klom_margins(FineTune(net), X, y, forget=forget, n_models=4, random_state=0)
    >>> divergence = klom(*margins, n_bins=2)
    >>> divergence.shape
    (100,)
    >>> forgotten = np.percentile(divergence[forget], [50, 95])
    """
    check_number("n_models", n_models, 2, integer=True)
    y, forget = _check(unlearner, X, y, forget, folder, random_state)
    if forget.all():
        raise ValueError(f"forget must leave rows to retain; got True for all {len(forget)} rows.")
    rng = check_random_state(random_state)
    everything = np.ones_like(forget)
    tasks = []
    for _ in range(n_models):  # a longer run has the models of a shorter one
        one, other = draw_seed(rng), draw_seed(rng)
        tasks += [(everything, forget, one), (~forget, ~everything, other)]
    margins = _margins(
        unlearner, X, y, everything, X_unseen, y_unseen, X_val, y_val, tasks, folder, n_jobs
    )
    return KlomMargins(margins[::2], margins[1::2])


def _check(unlearner, X, y, forget, folder, random_state):
    """Return labels and mask as arrays, once the arguments that both functions share are right."""
    if not isinstance(unlearner, BaseUnlearner):
        raise ValueError(f"unlearner must be one of skunlearn's; got {unlearner!r}.")
    if isinstance(unlearner.estimator, FrozenEstimator):
        raise ValueError(
            "unlearner must train its networks itself, each on other rows or from another seed; "
            "got one with a FrozenEstimator. Pass the wrapped network instead."
        )
    if folder is not None and not isinstance(random_state, numbers.Integral):
        raise ValueError(
            "random_state must be an integer if folder is given, for without it every call has "
            f"other models; got {random_state!r}."
        )
    y = given_labels("y", X, y)
    forget = check_forget(forget, len(y), X)
    if not forget.any():
        raise ValueError(f"forget marks none of the {len(forget)} rows: nothing to unlearn.")
    return y, forget


def _margins(unlearner, X, y, measured, X_unseen, y_unseen, X_val, y_val, tasks, folder, n_jobs):
    """Margins, of shape (n_tasks, n_rows), of the rows to measure and then of unseen ones.

    A task is a mask of the rows to train on, one of those to unlearn, and a seed.
    """
    if X_unseen is not None:
        y_unseen = given_labels("y_unseen", X_unseen, y_unseen)
    content = X, y, measured, X_unseen, y_unseen, X_val, y_val
    margins, paths = [None] * len(tasks), [None] * len(tasks)
    if folder is not None:
        folder = Path(folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        params = unlearner.get_params(deep=False)
        for name in ("estimator", "memory", "n_jobs", "random_state"):
            params.pop(name, None)
        common = cache_key(
            unlearner.estimator, type(unlearner), params, content, start_for_key(unlearner, X, y, 0)
        )
        for i, task in enumerate(tasks):
            paths[i] = folder / f"{joblib.hash((common, task))}.npz"
            if paths[i].exists():
                margins[i] = _read(paths[i])
    missing = [i for i, row in enumerate(margins) if row is None]
    results = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_run)(unlearner, content, *tasks[i], paths[i]) for i in missing
    )
    with contextlib.closing(results):
        # Results first, so that they are asked once more, and their workers and bar are dismissed.
        for row, i in zip(progress_bar(results, len(missing), len(tasks), "model"), missing):
            margins[i] = row
    return np.array(margins)


def _read(path):
    """Margins from a file; None, with a warning, if it is not as it was written."""
    content = path.read_bytes()
    if digest(content[:-_DIGEST]) != content[-_DIGEST:]:
        return warn_of_file(path)
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        return kept["margins"]


def _run(unlearner, content, train, forget, seed, path):
    """Train and unlearn one model; return the margins, and write them where `path` says."""
    X, y, measured, X_unseen, y_unseen, X_val, y_val = content
    model = clone(unlearner).set_params(random_state=seed)
    which = np.flatnonzero(train)
    mask = forget[which] if forget.any() else None
    held_out = {"X_val": Whole(X_val), "y_val": Whole(y_val)}  # however many there are
    model.fit(take_rows(X, which), y[which], forget=mask, **held_out)

    def margins_of(X, y):
        logs = None if y.ndim == 2 else log_proba(model, X)
        answers = model.predict_proba(X) if logs is None else logs[0]
        return -attack_signal(y, answers, signal="logit", labels=model.classes_)

    which = np.flatnonzero(measured)
    # A data loader draws from the global generator, for which other threads may have plans.
    with seeded(seed, getattr(unlearner.estimator, "device", "cpu")):
        margins = margins_of(take_rows(X, which), y[which])
        if X_unseen is not None:
            margins = np.concatenate([margins, margins_of(X_unseen, y_unseen)])
    if path is not None:
        content = io.BytesIO()
        np.savez(content, margins=margins)
        content = content.getvalue()
        write(path, content + digest(content))
    return margins
