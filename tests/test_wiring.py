"""Every public parameter changes a result, or is refused, or says here why it does neither.

The parameters are read from the signatures: a new one without an entry fails.
"""

import inspect
import json
import tempfile
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

import skunlearn
from skunlearn import (
    SISA,
    AdvancedNegGrad,
    FineTune,
    all_unlearners,
    callbacks,
    datasets,
    evaluation,
    inspection,
    metrics,
    model_selection,
    transport,
)
from skunlearn.evaluation import RequestLog
from skunlearn.features import FeatureExtractor
from tests.networks import make_net

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")

UNCHANGING = {
    "memory": "only saves time; tests/engine/test_cache.py",
    "n_jobs": "only saves time",
    "folder": "only saves time",
    "checkpoint_dir": "only where things are kept; tests/methods/test_sisa.py",
    "ax": "only where it is drawn",
    "data_home": "only where things are kept",
    "download_if_missing": "needs the network",
}

NOT_CALLED = {
    "BaseUnlearner": "abstract; every unlearner is tried",
    "ClassUtility": "a result",
    "CorrelationCollapse": "a result",
    "Significance": "a result",
    "Interval": "a result",
    "PerExampleAttack": "a result",
    "ForgetSplit": "a result",
    "LabelledDataset": "tests/engine/test_rows.py",
    "Whole": "a holder; tests/engine/test_rows.py",
    "NetworkUnlearner": "abstract; every unlearner is tried",
    "all_unlearners": "no parameters",
    "show_versions": "no parameters",
    "get_scorer_names": "no parameters",
    "fetch_cmu_faces": "needs the network; tests/datasets/test_archives.py",
    "fetch_spoken_digits": "needs the network; tests/datasets/test_archives.py",
}


class Other:
    """Another value of a parameter, with what else both calls are given for it to matter."""

    def __init__(self, value, **context):
        self.value = value
        self.context = context


class Refused:
    """A value that is refused, with the message."""

    def __init__(self, value, match):
        self.value = value
        self.match = match


def leaves(value):
    """What a result is made of: arrays, strings and the like."""
    if hasattr(value, "figure_"):
        value.figure_.canvas.draw()
        yield np.asarray(value.figure_.canvas.buffer_rgba()).astype(int)
    elif isinstance(value, nn.Module):
        yield from leaves(value.state_dict())
    elif isinstance(value, torch.Tensor):
        yield value.detach().numpy()
    elif isinstance(value, dict):
        yield sorted(map(str, value))
        for _, inner in sorted(value.items(), key=lambda item: str(item[0])):
            yield from leaves(inner)
    elif isinstance(value, list | tuple):
        yield len(value)
        for inner in value:
            yield from leaves(inner)
    elif is_dataclass(value):
        yield from leaves({k: v for k, v in asdict(value).items() if k != "date"})
    elif isinstance(value, pd.DataFrame):
        yield from leaves(value.to_dict("list"))
    else:
        yield value


def same(a, b):
    """Whether two results agree, up to rounding."""
    a, b = list(leaves(a)), list(leaves(b))
    return len(a) == len(b) and all(map(_same, a, b))


def _same(a, b):
    if isinstance(a, np.ndarray | np.number | float) and isinstance(
        b, np.ndarray | np.number | float
    ):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape:
            return False
        if a.dtype.kind in "fc" and b.dtype.kind in "fc":
            return np.allclose(a, b, rtol=1e-4, atol=1e-7, equal_nan=True)
        return bool((a == b).all())
    return type(a) is type(b) and a == b


def names_of(function):
    """The public parameters of a function, or of a class."""
    return [
        name
        for name, p in inspect.signature(function).parameters.items()
        if name not in ("self", "cls")
    ]


def check_wiring(function, run, base, others):
    """Check each parameter of a function or class; `run` takes arguments and returns a result."""
    others = UNCHANGING | others
    names = names_of(function)
    where = f"{function.__qualname__}, in tests/test_wiring.py"
    assert set(names) <= set(others), f"{set(names) - set(others)} have no entry for {where}"
    unknown = set(others) - set(names) - set(UNCHANGING)
    assert not unknown, f"{unknown} are no parameters of {where}"
    before, silent = run(base), []
    assert same(before, run(base)), f"the same arguments give two results of {where}"
    for name in names:
        other, results, arguments = others[name], before, base
        if isinstance(other, str):
            continue
        if isinstance(other, Other):
            arguments, other = base | other.context, other.value
            results = run(arguments)
        if isinstance(other, Refused):
            with pytest.raises(ValueError, match=other.match):
                run(arguments | {name: other.value})
        elif same(results, run(arguments | {name: other})):
            silent.append(name)
    assert not silent, f"{silent} change nothing in {where}"


# -- unlearners ------------------------------------------------------------------------------------


class Network(nn.Module):
    def __init__(self, n_features_in, n_classes, width=8):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(n_features_in, width), nn.BatchNorm1d(width), nn.Tanh()
        )
        self.head = nn.Linear(width, n_classes)

    def forward(self, X):
        return self.head(self.hidden(X))


def rows(seed, n):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    return X, (X[:, 0] + rng.normal(size=n) > 0).astype(int) + (X[:, 1] > 0.7)


X, Y = rows(0, 96)
X_OTHER, Y_OTHER = rows(1, 96)
X_VAL, Y_VAL = rows(2, 40)
X_VAL_OTHER, Y_VAL_OTHER = rows(3, 40)
FORGET = np.arange(96) < 24
REQUEST = {"X": X, "y": Y, "forget": FORGET, "X_val": X_VAL, "y_val": Y_VAL}
OTHER_REQUEST = {
    "X": X_OTHER,
    "y": np.roll(Y, 1),
    "forget": np.arange(96) % 4 == 0,
    "X_val": X_VAL_OTHER,
    "y_val": np.roll(Y_VAL, 1),
}


@cache
def trained(seed=0):
    net = make_net(Network, max_epochs=6, lr=0.05)
    return FineTune(net, random_state=seed).fit(X, Y).estimator_


TRAINING = {
    "max_epochs": 1,
    "lr": 0.003,
    "optimizer": torch.optim.Adam,
    "batch_size": 9,
    "random_state": 1,
}
HYPERPARAMETERS = {
    "AMUN": {"radius": 1.5, "perturb_steps": 2, "include_forget": True},
    "AdvancedNegGrad": {"forget_weight": 0.9, "loss_cap": "val"},
    "BadTeacher": {"temperature": 3.0},
    "CFk": {"k": 1},
    "EUk": {"k": 1},
    "Distill": {
        "noise": 0.5,
        "temperature": 1.0,
        "ce_weight": 1.0,
        "cache_teacher": "only saves time; tests/methods/test_distill.py",
    },
    "DLFD": {
        "perturb_steps": 3,
        "step_size": 0.4,
        "perturb_at": "hidden",
        "clip": (-0.1, 0.1),
        "transport": "exact",
        "reg": 1.0,
        "ot_weight": -1.0,
        "ce_weight_start": 5.0,
        "ce_weight_end": 5.0,
        "feature_layer": "hidden.0",
        "clean_weight": 0.0,
        "bn_batches": 0,
        # The score is always below one half, and then the rows are not perturbed.
        "forgetting_threshold": 0.5,
    },
    "FineTune": {},
    "L1Sparse": {"l1_weight": 0.3},
    "NegGrad": {},
    "RandomLabel": {},
    "Retrain": {"estimator": "only its parameters count, not its weights"},
    "SCRUB": {
        "ascent_epochs": 0,
        "forget_batch_size": 5,
        "kl_weight": 3.0,
        "ce_weight": 0.1,
        "temperature": 1.0,
        "restore_best": True,
    },
    "SISA": {"n_shards": 2, "n_slices": 2, "aggregate": "vote"},
    "SSD": {
        "threshold": 2.0,
        "dampening": 0.2,
        "random_state": "decides which rows are read where there are more than 1,000",
    },
    "SalUn": {"weight_share": 0.1},
    "UNSIR": {
        "noise_rows": 5,
        "noise_ratio": 1.0,
        "noise_steps": 3,
    },
}
# What a method takes, as every method does, and does not read.
NOT_READ = {
    "BadTeacher": {"y": "its teachers read no labels"},
    "Retrain": {"X_val": "it trains as the network does", "y_val": "likewise"},
    "SISA": {
        "X": Refused(X_OTHER, "rows"),
        "y": Refused(np.roll(Y, 1), "rows"),
        "groups": Refused(np.arange(96), "groups"),
        "X_val": "its networks are trained as the original is",
        "y_val": "likewise",
    },
    "SSD": {"X_val": "it trains nothing", "y_val": "it trains nothing"},
}
UNLEARNERS = dict(all_unlearners())


def unlearned(cls, params, request=REQUEST):
    """What is left of a run: the networks, what they answer, and what was recorded."""
    params = dict(params)
    seed = params.pop("estimator", 0)  # of a network that is trained already
    if cls is SISA:
        net = make_net(Network, max_epochs=3 + seed, lr=0.05)
        model = cls(net, **params).fit(X, Y)
        nets = model.unlearn(**request).estimators_
    else:
        model = cls(FrozenEstimator(trained(seed)), **params).unlearn(**request)
        nets = [model.estimator_]
    recorded = [
        {k: v for k, v in epoch.items() if k not in ("dur", "batches")}
        for epoch in getattr(model, "unlearning_history_", [])
    ]
    batches = [
        batch
        for epoch in getattr(model, "unlearning_history_", [])
        for batch in epoch.get("batches", [])
    ]
    return {
        "networks": [net.module_ for net in nets if net is not None],
        "answers": model.predict_proba(X_OTHER),
        "recorded": [recorded, batches],
    }


def base_of(cls):
    wanted = {"max_epochs": 2, "random_state": 0, "batch_size": 16, "ce_weight_start": 0.5}
    wanted |= {"perturb_steps": 2} if cls.__name__ == "DLFD" else {}
    return {name: value for name, value in wanted.items() if name in names_of(cls)}


each_unlearner = pytest.mark.parametrize("cls", UNLEARNERS.values(), ids=UNLEARNERS.keys())


@each_unlearner
def test_hyperparameters_of_unlearners(cls):
    common = {name: value for name, value in TRAINING.items() if name in names_of(cls)}
    others = {"estimator": 1, **common, **HYPERPARAMETERS[cls.__name__]}
    check_wiring(cls, lambda params: unlearned(cls, params), base_of(cls), others)


@each_unlearner
def test_what_a_request_holds(cls):
    others = OTHER_REQUEST | NOT_READ.get(cls.__name__, {})
    check_wiring(
        cls.unlearn, lambda request: unlearned(cls, base_of(cls), request), REQUEST, others
    )


# -- functions and displays ------------------------------------------------------------------------


RNG = np.random.default_rng(0)
PROBA, PROBA_2, PROBA_3 = (RNG.dirichlet([1, 1, 1], size=30) for _ in range(3))
INDICATORS, INDICATORS_2, INDICATORS_3 = (RNG.random((30, 3)) for _ in range(3))
LABELS = np.repeat([0, 1, 2], 10)
FORGET_LOSS, UNSEEN_LOSS = RNG.exponential(1, 40), RNG.exponential(1.5, 50)
FEATURES = RNG.normal(size=(90, 4)) + np.arange(90)[:, None] % 3
FEATURES_2, FEATURES_3 = FEATURES + RNG.normal(size=(2, 90, 4))
CLASSES = np.arange(90) % 3
MARGINS, MARGINS_2 = RNG.normal(size=(2, 8, 60))
MEMBER = (np.arange(8)[:, None] + np.arange(60)) % 2 == 0
MARGINS_OF_MEMBERS = MARGINS + MEMBER
SETS = {"retain": FORGET_LOSS + 1, "forget": FORGET_LOSS, "unseen": UNSEEN_LOSS}


@cache
def model(seed=0):
    return FineTune(FrozenEstimator(trained(seed)), max_epochs=2, random_state=0).unlearn(**REQUEST)


@cache
def bayes(n=96):
    return GaussianNB().fit(X[:n], Y[:n])


def small(method=FineTune, **params):
    return method(make_net(Network, max_epochs=2, lr=0.05), max_epochs=1, random_state=0, **params)


UNSEEN = {"X_unseen": X_VAL, "y_unseen": Y_VAL}
UNSEEN_OTHERS = {"X_unseen": X_VAL_OTHER, "y_unseen": np.roll(Y_VAL, 1)}
SEEN = {"X": X, "y": Y, "forget": FORGET}
SEEN_OTHERS = {name: OTHER_REQUEST[name] for name in SEEN}
OF_PEOPLE = {"groups": np.arange(96) // 2, "groups_unseen": 100 + np.arange(40) // 4}
ATTACK = {"n_splits": 3, "random_state": 1}
LOSSES = {"loss_forget": FORGET_LOSS, "loss_unseen": UNSEEN_LOSS}
LOSSES_OTHERS = {"loss_forget": FORGET_LOSS + 1, "loss_unseen": UNSEEN_LOSS + 1}
SIGNALS = {"signal_forget": FORGET_LOSS, "signal_unseen": UNSEEN_LOSS}
SIGNALS_OTHERS = {"signal_forget": FORGET_LOSS - 1, "signal_unseen": UNSEEN_LOSS - 1}
GROUPS, GROUPS_OTHERS = (
    {
        "groups_forget": np.arange(len(FORGET_LOSS)) // n,
        "groups_unseen": 1000 + np.arange(len(UNSEEN_LOSS)) // n,
    }
    for n in (2, 4)
)

# For each function the arguments that it is called with, and another value for each parameter.
FUNCTIONS = {
    metrics.attack_signal: (
        {"y_true": LABELS, "y_proba": PROBA, "signal": "loss", "labels": [0, 1, 2]},
        {"y_true": 2 - LABELS, "y_proba": PROBA_2, "signal": "logit", "labels": [2, 1, 0]},
    ),
    metrics.average_gap: (
        {"scores": [0.9, 0.8, 0.3], "reference_scores": [0.8, 0.9, 0.7]},
        {"scores": [0.9, 0.8, 0.4], "reference_scores": [0.8, 0.9, 0.9]},
    ),
    metrics.calibrated_signal: (
        {
            "y_true": LABELS,
            "y_proba": PROBA,
            "y_proba_reference": PROBA_2,
            "labels": [0, 1, 2],
        },
        {
            "y_true": 2 - LABELS,
            "y_proba": PROBA_3,
            "y_proba_reference": PROBA_3,
            "labels": [2, 1, 0],
        },
    ),
    metrics.change_signal: (
        {
            "y_true": LABELS,
            "y_proba_before": PROBA,
            "y_proba_after": PROBA_2,
            "signal": "loss",
            "labels": [0, 1, 2],
        },
        {
            "y_true": 2 - LABELS,
            "y_proba_before": PROBA_3,
            "y_proba_after": PROBA_3,
            "signal": "distance",
            "labels": [2, 1, 0],
        },
    ),
    metrics.class_utility: (
        {"y_true": LABELS, "y_pred": np.minimum(LABELS, 1), "forgotten": [1]},
        {"y_true": np.roll(LABELS, 3), "y_pred": np.roll(LABELS, 4), "forgotten": [0, 1]},
    ),
    metrics.correlation_collapse: (
        {
            "Z_original": FEATURES,
            "Z_unlearned": FEATURES_2,
            "y": CLASSES,
            "Z_retrained": FEATURES_3,
            "random_state": 0,
        },
        {
            "Z_original": FEATURES_3,
            "Z_unlearned": FEATURES_3,
            "y": np.sort(CLASSES),
            "Z_retrained": None,
            "cv": 3,
            "random_state": 1,
        },
    ),
    metrics.feature_transport_distance: (
        {"Z_1": FEATURES, "Z_2": FEATURES_2[:70], "random_state": 0},
        {
            "Z_1": FEATURES_3,
            "Z_2": FEATURES[:50] ** 2,
            "n_rows": 40,
            "random_state": Other(1, n_rows=40),
        },
    ),
    metrics.forgetting_score: (LOSSES | {"random_state": 0}, LOSSES_OTHERS | ATTACK),
    metrics.membership_inference_accuracy: (LOSSES | {"random_state": 0}, LOSSES_OTHERS | ATTACK),
    metrics.membership_inference_auc: (SIGNALS, SIGNALS_OTHERS),
    metrics.membership_inference_report: (
        SIGNALS | GROUPS | {"random_state": 0, "max_fpr": 0.1},
        SIGNALS_OTHERS | GROUPS_OTHERS | ATTACK | {"max_fpr": 0.4, "confidence_level": 0.5},
    ),
    metrics.membership_inference_test: (
        SIGNALS | GROUPS | {"random_state": 0},
        SIGNALS_OTHERS | GROUPS_OTHERS | {"n_permutations": 9, "random_state": 1},
    ),
    metrics.memorisation: (
        {"margins_original": MARGINS, "margins_retrained": MARGINS_2},
        {"margins_original": MARGINS + 1, "margins_retrained": MARGINS},
    ),
    metrics.relative_mmd_test: (
        {
            "y_true": LABELS,
            "y_proba": PROBA,
            "y_proba_retrained": PROBA_2,
            "y_proba_original": PROBA_3,
            "labels": [0, 1, 2],
            "groups": np.arange(len(PROBA)) // 2,
        },
        {
            "y_true": np.roll(LABELS, 3),
            "y_proba": PROBA_3,
            "y_proba_retrained": PROBA,
            "y_proba_original": PROBA,
            "labels": [2, 1, 0],
            "groups": np.arange(len(PROBA)),
        },
    ),
    metrics.same_class: (
        {"y_unseen": LABELS, "y_forget": [1, 1]},
        {"y_unseen": np.roll(LABELS, 3), "y_forget": [0, 1]},
    ),
    metrics.membership_inference_tpr: (
        SIGNALS | {"max_fpr": 0.1},
        SIGNALS_OTHERS | {"max_fpr": 0.4},
    ),
    metrics.jensen_shannon_distance: (
        {"y_proba": PROBA, "y_proba_reference": PROBA_2},
        {"y_proba": PROBA_3, "y_proba_reference": PROBA_3, "multilabel": True},
    ),
    metrics.klom: (
        {"margins_unlearned": MARGINS, "margins_retrained": MARGINS_2},
        {"margins_unlearned": MARGINS + 1, "margins_retrained": MARGINS, "n_bins": 5, "eps": 0.1},
    ),
    metrics.linear_cka: ({"Z": FEATURES, "y": CLASSES}, {"Z": FEATURES_2, "y": np.sort(CLASSES)}),
    metrics.linear_probe_score: (
        {"Z": FEATURES, "y": CLASSES, "random_state": 0},
        {"Z": FEATURES_2 * [1, -1, 1, -1], "y": np.sort(CLASSES), "cv": 3, "random_state": 1},
    ),
    metrics.nomus_score: (
        {"utility": 0.8, "forgetting_score": 0.2},
        {"utility": 0.7, "forgetting_score": 0.1, "weight": 0.9},
    ),
    metrics.overshoot: (LOSSES, LOSSES_OTHERS),
    metrics.prediction_agreement: (
        {"y_pred": LABELS, "y_pred_reference": LABELS},
        {"y_pred": 2 - LABELS, "y_pred_reference": 2 - LABELS},
    ),
    metrics.relative_jensen_shannon_distance: (
        {"y_proba": PROBA, "y_proba_reference": PROBA_2, "y_proba_reference_2": PROBA_3},
        {
            "y_proba": PROBA**2 / (PROBA**2).sum(1, keepdims=True),
            "y_proba_reference": PROBA,
            "y_proba_reference_2": PROBA,
            "multilabel": True,
        },
    ),
    metrics.rmia: (
        {
            "margins": MARGINS_OF_MEMBERS,
            "member": MEMBER,
            "margins_population": MARGINS_2,
            "gamma": 1.1,
            "max_fpr": 0.1,
        },
        {
            "margins": MARGINS_2,
            "member": ~MEMBER,
            "margins_population": MARGINS_2 * 2,
            "gamma": 3.0,
            "max_fpr": 0.4,
        },
    ),
    metrics.sample_log_loss: (
        {"y_true": LABELS, "y_proba": PROBA, "labels": [0, 1, 2]},
        {"y_true": 2 - LABELS, "y_proba": PROBA_2, "labels": [2, 1, 0]},
    ),
    metrics.scatter_ratio: (
        {"Z": FEATURES, "y": CLASSES},
        {"Z": FEATURES_2, "y": np.sort(CLASSES)},
    ),
    metrics.tug_of_war_score: (
        {"scores": [0.9, 0.8, 0.3], "reference_scores": [0.8, 0.9, 0.7]},
        {"scores": [0.9, 0.8, 0.4], "reference_scores": [0.8, 0.9, 0.9]},
    ),
    metrics.u_lira: (
        {"margins": MARGINS_OF_MEMBERS, "member": MEMBER, "max_fpr": 0.1},
        {"margins": MARGINS_2, "member": ~MEMBER, "max_fpr": 0.4},
    ),
    metrics.unlearning_epsilon: (
        {"margins_unlearned": MARGINS, "margins_retrained": MARGINS_2},
        {"margins_unlearned": MARGINS + 1, "margins_retrained": MARGINS, "delta": 0.2},
    ),
    metrics.worst_rows: (
        {"values": np.arange(20.0)},
        {"values": np.arange(20.0) ** 2, "share": 0.5},
    ),
    metrics.utility_score: (
        {"y_true": LABELS, "y_pred": LABELS},
        {"y_true": 2 - LABELS, "y_pred": 2 - LABELS},
    ),
    metrics.zero_retrain_forgetting: (
        {"y_proba": PROBA, "y_proba_random": PROBA_2},
        {"y_proba": PROBA_3, "y_proba_random": PROBA_3, "multilabel": True},
    ),
    evaluation.relearning_time: (
        {"X": X[:24], "y": (X[:24, 2] > 0).astype(int), "target": 0.9, "lr": 0.1, "every": 1},
        {
            "unlearner": Other(1, lr=0.02),
            "X": X_OTHER[:24],
            "y": np.arange(24) % 3,
            "target": 0.6,
            "scoring": Other("neg_log_loss", target=-1.0),
            "max_epochs": 1,
            "every": 11,
            "lr": 0.01,
            "random_state": 1,
        },
    ),
    metrics.get_scorer: (
        {"name": "nomus", "X_forget": X[FORGET], "y_forget": Y[FORGET]},
        {
            "name": "utility",
            "X_forget": X_OTHER[:24],
            "y_forget": np.roll(Y[FORGET], 1),
            "n_splits": 3,
            "random_state": 1,
            "weight": 0.9,
        },
    ),
    datasets.make_identity_images: (
        {"n_identities": 10, "images_per_identity": 3, "image_size": 8, "random_state": 0},
        {
            "n_identities": 12,
            "images_per_identity": 4,
            "image_size": 12,
            "n_channels": 1,
            "n_classes": 4,
            "label_noise": 0.9,
            "random_state": 1,
            "return_X_y": True,
        },
    ),
    model_selection.ForgetKFold: (
        {"n_splits": 3, "forget": FORGET},
        {
            "n_splits": 4,
            "shuffle": True,
            "random_state": Other(1, shuffle=True, random_state=0),
            "forget": OTHER_REQUEST["forget"],
            "forget_in_test": False,
        },
    ),
    model_selection.ForgetShuffleSplit: (
        {"n_splits": 3, "forget": FORGET, "random_state": 0},
        {
            "n_splits": 4,
            "test_size": 0.4,
            "train_size": 0.3,
            "random_state": 1,
            "forget": OTHER_REQUEST["forget"],
            "forget_in_test": False,
        },
    ),
    model_selection.forget_mask: (
        {"groups": ["a", "b", "a"], "identities": ["a"]},
        {"groups": ["a", "b", "b"], "identities": ["b"]},
    ),
    model_selection.forget_split: (
        {"groups": np.arange(90) // 3, "random_state": 0},
        {
            "groups": np.arange(90) // 2,
            "forget_size": 0.3,
            "val_size": 0.1,
            "test_size": 0.1,
            "stratify": np.repeat([0, 1, 2], 30),
            "random_state": 1,
        },
    ),
    transport.transport_distance: (
        {"u": torch.tensor(FEATURES), "v": torch.tensor(FEATURES_2[:70])},
        {
            "u": torch.tensor(FEATURES_3),
            "v": torch.tensor(-FEATURES_2[:70]),
            "method": "exact",
            "reg": 0.5,
            "tol": Other(1e-9, reg=0.01),
            "max_iter": Other(1, reg=0.01, tol=1e-9),
            "n_projections": Other(3, method="sliced", generator=0),
            "generator": Other(1, method="sliced", generator=0),
        },
    ),
    callbacks.ForgettingMonitor: (
        {"X_forget": X[FORGET], "y_forget": Y[FORGET], "X_unseen": X_VAL, "y_unseen": Y_VAL},
        {
            "X_forget": X_OTHER[:24],
            "y_forget": np.roll(Y[FORGET], 1),
            "X_unseen": X_VAL_OTHER,
            "y_unseen": np.roll(Y_VAL, 1),
            "classes": [2, 1, 0],
            "every": 1,
            "n_rows": 10,
            "random_state": 1,
        },
    ),
    FeatureExtractor: (
        {"estimator": 0},
        {"estimator": 1, "layer": "hidden.0", "batch_size": "only the memory that it takes"},
    ),
    skunlearn.unlearn_pipeline: (
        SEEN | {"pipeline": StandardScaler, "X_val": X_VAL, "y_val": Y_VAL},
        SEEN_OTHERS | {"pipeline": MinMaxScaler, "X_val": X_VAL_OTHER, "y_val": np.roll(Y_VAL, 1)},
    ),
    skunlearn.unlearning_report: (
        SEEN
        | UNSEEN
        | {"unlearner": 0, "original": 0, "reference": 1, "reference_2": 2, "n_resamples": 20},
        SEEN_OTHERS
        | UNSEEN_OTHERS
        | {
            "unlearner": 1,
            "original": 1,
            "reference": 0,
            "reference_2": 0,
            "feature_layer": "hidden.0",
            "n_splits": 3,
            "n_resamples": Other(30, y=(Y + 1) % 3),  # of losses that are far above unseen ones
            "confidence_level": 0.5,
            "random_state": 1,
            "groups": Other(np.arange(96) // 3, **OF_PEOPLE),
            "groups_unseen": Other(100 + np.arange(40) // 2, **OF_PEOPLE),
            "criteria": {"utility": (0.5, None)},
            "request": "2026-017",
            "tester": "auditor",
            "key": bytes(16),
        },
    ),
    skunlearn.shadow_margins: (
        SEEN
        | UNSEEN
        | {"X_val": X_VAL, "y_val": Y_VAL, "groups": None, "n_models": 2, "random_state": 0},
        SEEN_OTHERS
        | UNSEEN_OTHERS
        | {
            "unlearner": 0.9,
            "groups": np.arange(96) // 2,
            "X_val": X_VAL_OTHER,
            "y_val": np.roll(Y_VAL, 1),
            "n_models": 4,
            "random_state": 1,
        },
    ),
    skunlearn.klom_margins: (
        SEEN | UNSEEN | {"X_val": X_VAL, "y_val": Y_VAL, "n_models": 2, "random_state": 0},
        SEEN_OTHERS
        | UNSEEN_OTHERS
        | {
            "unlearner": 0.9,
            "X_val": X_VAL_OTHER,
            "y_val": np.roll(Y_VAL, 1),
            "n_models": 4,
            "random_state": 1,
        },
    ),
    evaluation.compare_unlearners: (
        SEEN | UNSEEN | {"X_val": X_VAL, "y_val": Y_VAL, "seeds": [0], "n_splits": 5},
        SEEN_OTHERS
        | UNSEEN_OTHERS
        | {
            "unlearners": 0.9,
            "X_val": X_VAL_OTHER,
            "y_val": np.roll(Y_VAL, 1),
            "seeds": [1],
            "feature_layer": "hidden.0",
            "groups": Other(np.arange(96) // 3, **OF_PEOPLE),
            "groups_unseen": Other(100 + np.arange(40) // 2, **OF_PEOPLE),
            "n_splits": 3,
            "error_score": Refused("return", "error_score must be"),
        },
    ),
    RequestLog: (
        {"path": "one", "key": bytes(range(16))},
        {"path": "two", "key": bytes(range(1, 17)), "retrain_after": {"utility_drop": 0.5}},
    ),
    RequestLog.receive: (
        {"request": "a"},
        {"request": "b", "received": "2026-01-05"},
    ),
    RequestLog.close: (
        {"request": "a", "forgotten": False, "reason": "withdrawn"},
        {
            "request": "b",
            "forgotten": Refused(True, "must be False for a request that never began"),
            "reason": "a mistake",
        },
    ),
    RequestLog.returned: (
        {"X": X, "forget": None},
        {"X": X_OTHER, "forget": FORGET},
    ),
    RequestLog.retrained: (
        {"X": X_OTHER, "unlearner": 0},
        {"X": Refused(X, "24 rows that were forgotten"), "unlearner": 1},
    ),
    RequestLog.unlearn: (
        SEEN
        | UNSEEN
        | {"unlearner": 0.05, "X_val": X_VAL_OTHER, "y_val": Y_VAL_OTHER}
        | {"request": "a", "report": {"n_resamples": 9}},
        SEEN_OTHERS
        | UNSEEN_OTHERS
        | {
            "X_unseen": X[40:80],
            "unlearner": 0.9,
            "request": "b",
            "received": "2026-01-05",
            "X_val": X_OTHER[:40],
            "y_val": np.roll(Y_VAL_OTHER, 1),
            "groups": "of an ensemble; tests/evaluation/test_requests.py",
            "on_return": Refused("mend", "on_return must be"),
            "save": print,
            "report": {"n_resamples": 9, "confidence_level": 0.5},
        },
    ),
    evaluation.pareto_front: (
        {"cost": [1, 2, 3], "loss": [3, 2, 1]},
        {"cost": [1, 2, 1], "loss": [3, 4, 1]},
    ),
}


def scored(arguments):
    return metrics.get_scorer(**arguments)(model(), X_VAL, Y_VAL)


def splits(cls):
    return lambda arguments: list(cls(**arguments).split(X, Y))


def distance(arguments):
    if "generator" in arguments:
        seed = arguments["generator"]
        arguments = arguments | {"generator": torch.Generator().manual_seed(seed)}
    return transport.transport_distance(**arguments)


def relearnt(arguments):
    arguments = dict(arguments)
    net = trained(arguments.pop("unlearner", 0))
    unlearner = FineTune(FrozenEstimator(net), max_epochs=1, random_state=0, batch_size=4)
    return evaluation.relearning_time(unlearner.unlearn(**REQUEST), **arguments)


def monitored(arguments):
    monitor = callbacks.ForgettingMonitor(**arguments)
    net = make_net(Network, max_epochs=2, lr=0.05, callbacks=[monitor])
    history = FineTune(net, random_state=0).fit(X, Y).estimator_.history
    wanted = ("forgetting_score", "nomus", "utility")
    return [
        [{key: step[key] for key in wanted if key in step} for step in (epoch, *epoch["batches"])]
        for epoch in history
    ]


def extracted(arguments):
    net = trained(arguments["estimator"])
    return FeatureExtractor(**arguments | {"estimator": net}).fit(X).transform(X_VAL)


def piped(arguments):
    pipe = make_pipeline(arguments["pipeline"](), small())
    pipe.fit(X, Y)
    done = skunlearn.unlearn_pipeline(**arguments | {"pipeline": pipe})
    history = [epoch["valid_loss"] for epoch in done[-1].unlearning_history_]
    return done.predict_proba(X_VAL), history


def reported(arguments):
    networks = ("unlearner", "original", "reference", "reference_2")
    fitted = {name: model(arguments[name]) for name in networks}
    report = skunlearn.unlearning_report(**arguments | fitted)
    return report.metrics, report.criteria, report.tester, report.rows


def margins(function):
    def run(arguments):
        arguments = dict(arguments)
        lr = arguments.pop("unlearner", 0.05)
        unlearner = small(AdvancedNegGrad, loss_cap="val", lr=lr)
        return list(function(unlearner, **arguments))

    return run


def compared(arguments):
    arguments = dict(arguments)
    weight = arguments.pop("unlearners", 0.3)
    unlearner = small(AdvancedNegGrad, loss_cap="val", forget_weight=weight)
    records = evaluation.compare_unlearners([unlearner], **arguments).records
    return [{key: value for key, value in row.items() if key != "seconds"} for row in records]


def logged(arguments):
    """What a log says after a request, and the answers of the unlearner."""
    arguments = dict(arguments)
    given = {
        name: arguments.pop(name) for name in ("path", "key", "retrain_after") if name in arguments
    }
    lr = arguments.pop("unlearner", 0.05)
    unlearner = small(AdvancedNegGrad, loss_cap="val", lr=lr)
    unlearner.fit(X, Y)
    request = SEEN | UNSEEN | {"request": "a", "X_val": X_VAL, "y_val": Y_VAL} | arguments
    request |= request.pop("report", {"n_resamples": 5})
    with tempfile.TemporaryDirectory() as folder:
        key = given.pop("key", bytes(16))
        log = RequestLog(Path(folder, given.pop("path", "log")), key=key, **given)
        log.unlearn(unlearner, **request)
        entries = [log_line(line) for line in log.path.read_bytes().splitlines()]
    return entries, unlearner.predict_proba(X_VAL)


def log_line(line):
    """An entry of a log, without what is another each time."""
    entry = json.loads(line)
    varying = ("time", "seconds", "previous", "digest", "report_digest", "page_digest")
    varying += ("report_sha256", "page_sha256")
    return {name: value for name, value in entry.items() if name not in varying}


def noted(name):
    """What a method of a log returns, and what the log says then."""

    def run(arguments):
        with tempfile.TemporaryDirectory() as folder:
            log = RequestLog(Path(folder, "log"), key=bytes(16))
            if name == "close":
                log.receive("a")
                log.receive("b")
            if name in ("returned", "retrained"):
                log.unlearn(small().fit(X, Y), request="a", **SEEN, **UNSEEN, n_resamples=2)
            if name == "retrained":
                fitted = FineTune(FrozenEstimator(trained(arguments["unlearner"])), max_epochs=1)
                arguments = arguments | {"unlearner": fitted.set_params(random_state=0)}
                fitted.unlearn(**REQUEST)
            result = getattr(log, name)(**arguments)
            return result, log_line(log.path.read_bytes().splitlines()[-1])

    return run


RUNS = {
    RequestLog: logged,
    RequestLog.unlearn: logged,
    **{
        getattr(RequestLog, name): noted(name)
        for name in ("receive", "close", "returned", "retrained")
    },
    metrics.get_scorer: scored,
    evaluation.relearning_time: relearnt,
    model_selection.ForgetKFold: splits(model_selection.ForgetKFold),
    model_selection.ForgetShuffleSplit: splits(model_selection.ForgetShuffleSplit),
    transport.transport_distance: distance,
    callbacks.ForgettingMonitor: monitored,
    FeatureExtractor: extracted,
    skunlearn.unlearn_pipeline: piped,
    skunlearn.unlearning_report: reported,
    skunlearn.shadow_margins: margins(skunlearn.shadow_margins),
    skunlearn.klom_margins: margins(skunlearn.klom_margins),
    evaluation.compare_unlearners: compared,
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_parameters_of_functions(function):
    base, others = FUNCTIONS[function]
    run = RUNS.get(function, lambda arguments: function(**arguments))
    check_wiring(function, run, base, others)


def table(*values):
    names = ("Original", "Retrain", "Mine", "Old", "New")
    columns = ("forgetting_score", "utility", "gap", "cost")
    return [
        {"method": name, "name": name[::-1], **dict(zip(columns, row))}
        for name, row in zip(names, values)
    ]


TABLE = table((0.4, 0.9, 0.3, 1), (0.05, 0.8, 0.1, 2), (0.1, 0.7, 0.2, 3), (0.2, 0.75, 0.25, 1))
OTHER_TABLE = table((0.4, 0.9, 0.3, 1), (0.05, 0.8, 0.1, 2), (0.3, 0.6, 0.2, 3))
KWARGS = {"kwargs": {"alpha": 0.3}}
OF_FEATURES = {key: FEATURES[i::3] for i, key in enumerate(("retain", "forget", "unseen"))}
OF_FEATURES_2 = {key: FEATURES_2[i::3] * 2 for i, key in enumerate(("retain", "forget", "unseen"))}
OF_LABELS = {key: np.arange(30) % 3 for key in OF_FEATURES}
PROJECTED = {"a": {key: Z[:, :2] for key, Z in OF_FEATURES.items()}}
CURVES = {"a": (np.arange(3), np.array([[1.0, 2.0, 3.0]])), "b": (np.arange(3), np.ones((2, 3)))}
NAMED = {"original": "Mine", "retrained": "Mine"}


def two(mapping, other):
    return {"one": mapping, "two": other}


def drawn(function, **fixed):
    """Run a function that draws, on small axes."""

    def run(arguments):
        arguments = fixed | dict(arguments)
        arguments |= arguments.pop("kwargs", {})
        for name in ("estimator", "history"):
            if callable(arguments.get(name)):
                arguments[name] = arguments[name]()
        return function(**arguments)

    return run


def plotted(cls):
    return lambda arguments: cls(**arguments).plot()


def again(display):
    """Its method `plot`, from the beginning."""
    return lambda arguments: drawn(display().plot)(arguments)


def history(seed=0):
    return model(seed).unlearning_history_


CURVE = inspection.UnlearningCurveDisplay
LOSS = inspection.LossDistributionDisplay
FEATURE = inspection.FeatureDistributionDisplay
TRADEOFF = inspection.TradeoffDisplay
COMPARISON = evaluation.UnlearnerComparison
RECORDS = [row | {"seed": 0, "relative_js_distance": row["gap"], "nomus": 0.5} for row in TABLE]
CURVE_OTHERS = {"y_name": "loss", "references": {"Original": 0.5}, **KWARGS}
RECORDED = {"level": "batch", "keys": "valid_loss", **CURVE_OTHERS}
SHOWN = SEEN | UNSEEN | {"random_state": 0}
SHOWN_OTHERS = SEEN_OTHERS | UNSEEN_OTHERS

# For each function that draws: how it is run, what it is given, and another value for each of its
# parameters.
DRAWING = {
    "UnlearningCurveDisplay": (
        CURVE,
        plotted(CURVE),
        {"curves": CURVES, "x_name": "x", "y_name": "y", "references": None},
        {
            "curves": {"a": CURVES["a"]},
            "x_name": "epochs",
            "y_name": "loss",
            "references": {"Original": 2.0},
        },
    ),
    "UnlearningCurveDisplay.plot": (
        CURVE.plot,
        again(lambda: CURVE(curves=CURVES, x_name="x", y_name="y")),
        {},
        KWARGS,
    ),
    "UnlearningCurveDisplay.from_estimator": (
        CURVE.from_estimator,
        drawn(CURVE.from_estimator),
        {"estimator": model, "keys": "train_loss"},
        {"estimator": lambda: model(1), **RECORDED},
    ),
    "UnlearningCurveDisplay.from_history": (
        CURVE.from_history,
        drawn(CURVE.from_history),
        {"history": history, "keys": "train_loss"},
        {"history": lambda: history(1), **RECORDED},
    ),
    "UnlearningCurveDisplay.from_predictions": (
        CURVE.from_predictions,
        drawn(CURVE.from_predictions),
        {"x": [1, 2, 3], "y": [3, 1, 2], "x_name": "x", "y_name": "y"},
        {"x": [1, 2, 9], "y": [3, 2, 1], "x_name": "epochs", **CURVE_OTHERS},
    ),
    "LossDistributionDisplay": (
        LOSS,
        plotted(LOSS),
        {"losses": {"a": SETS}},
        {"losses": {"a": SETS | {"forget": UNSEEN_LOSS}}, "mia_accuracy": {"a": 0.7}},
    ),
    "LossDistributionDisplay.plot": (
        LOSS.plot,
        again(lambda: LOSS(losses={"a": SETS})),
        {},
        KWARGS,
    ),
    "LossDistributionDisplay.from_estimator": (
        LOSS.from_estimator,
        drawn(LOSS.from_estimator),
        {"estimator": bayes, **SHOWN},
        {
            "estimator": lambda: bayes(50),
            **SHOWN_OTHERS,
            "n_splits": 1,
            "random_state": 3,
            **KWARGS,
        },
    ),
    "LossDistributionDisplay.from_predictions": (
        LOSS.from_predictions,
        drawn(LOSS.from_predictions),
        {"losses": SETS, "random_state": 0},
        {
            "losses": SETS | {"forget": UNSEEN_LOSS},
            "n_splits": 1,
            "random_state": Other(3, n_splits=1),
            **KWARGS,
        },
    ),
    "FeatureDistributionDisplay": (
        FEATURE,
        plotted(FEATURE),
        {"projections": PROJECTED, "y": OF_LABELS},
        {
            "projections": {"a": {key: -(Z**2) for key, Z in PROJECTED["a"].items()}},
            "y": {key: 2 - y for key, y in OF_LABELS.items()},
            "axis_names": {"a": ("first", "second")},
            "shared": Other(
                True,
                projections=PROJECTED | {"b": {key: 3 * Z for key, Z in PROJECTED["a"].items()}},
            ),
        },
    ),
    "FeatureDistributionDisplay.plot": (
        FEATURE.plot,
        again(lambda: FEATURE(projections=PROJECTED, y=OF_LABELS)),
        {},
        KWARGS,
    ),
    "FeatureDistributionDisplay.from_estimator": (
        FEATURE.from_estimator,
        drawn(FEATURE.from_estimator),
        {"estimator": model, **SHOWN},
        {
            "estimator": lambda: model(1),
            **SHOWN_OTHERS,
            "layer": "hidden.0",
            "projection": TruncatedSVD(2, random_state=0),
            "shared": Other(True, estimator=lambda: {"a": model(), "b": model(1)}),
            "n_rows": 10,
            "random_state": Other(1, n_rows=10),
            **KWARGS,
        },
    ),
    "FeatureDistributionDisplay.from_predictions": (
        FEATURE.from_predictions,
        drawn(FEATURE.from_predictions),
        {"features": OF_FEATURES, "y": OF_LABELS, "random_state": 0},
        {
            "features": OF_FEATURES_2,
            "y": {key: 2 - y for key, y in OF_LABELS.items()},
            "projection": TruncatedSVD(2, random_state=0),
            "shared": Other(True, features=two(OF_FEATURES, OF_FEATURES_2)),
            "n_rows": 10,
            "random_state": Other(1, n_rows=10),
            **KWARGS,
        },
    ),
    "TradeoffDisplay": (
        TRADEOFF,
        plotted(TRADEOFF),
        {"methods": ["a", "b"], "x": np.array([0.1, 0.2]), "y": np.array([0.8, 0.9])},
        {
            "methods": ["a", "Original"],
            "x": np.array([0.1, 0.4]),
            "y": np.array([0.8, 0.4]),
            "x_interval": [[0.0, 0.2], [0.1, 0.3]],
            "y_interval": [[0.7, 0.9], [0.8, 1.0]],
            "x_name": "cost",
            "y_name": "gap",
        },
    ),
    "TradeoffDisplay.plot": (
        TRADEOFF.plot,
        again(
            lambda: TRADEOFF(
                methods=["Original", "Retrain", "Mine"], x=np.arange(3) / 9, y=np.arange(3) / 9
            )
        ),
        {},
        NAMED | KWARGS,
    ),
    "TradeoffDisplay.from_estimator": (
        TRADEOFF.from_estimator,
        drawn(TRADEOFF.from_estimator),
        {"estimator": lambda: {"Mine": bayes(), "Old": bayes(50)}, **SHOWN},
        {
            "estimator": lambda: {"Mine": bayes(60), "Old": bayes(50)},
            **SHOWN_OTHERS,
            "n_splits": 1,
            "random_state": Other(3, n_splits=1),
            **NAMED,
            **KWARGS,
        },
    ),
    "TradeoffDisplay.from_predictions": (
        TRADEOFF.from_predictions,
        drawn(TRADEOFF.from_predictions),
        {"table": TABLE},
        {"table": OTHER_TABLE, "x": "cost", "y": "gap", "method": "name", **NAMED, **KWARGS},
    ),
    "UnlearnerComparison": (
        COMPARISON,
        lambda arguments: COMPARISON(**arguments).records,
        {"records": RECORDS},
        {"records": RECORDS[:2]},
    ),
    "UnlearnerComparison.summary": (
        COMPARISON.summary,
        lambda arguments: COMPARISON(RECORDS).summary(**arguments),
        {"columns": ("utility",)},
        {"columns": ("gap",)},
    ),
    **{
        f"UnlearnerComparison.{name}": (
            getattr(COMPARISON, name),
            again_on,
            {},
            KWARGS,
        )
        for name, again_on in (
            (
                name,
                lambda arguments, name=name: drawn(getattr(COMPARISON(RECORDS), name))(arguments),
            )
            for name in ("plot_tradeoff", "plot_closeness", "plot_front")
        )
    },
}


@pytest.fixture
def small_figures():
    plt = pytest.importorskip("matplotlib.pyplot")
    with plt.rc_context({"figure.dpi": 60}):
        yield
    plt.close("all")


@pytest.mark.parametrize("name", DRAWING)
def test_parameters_of_what_draws(name, small_figures):
    function, run, base, others = DRAWING[name]
    check_wiring(function, run, base, others)


def test_everything_public_is_tried():
    modules = (skunlearn, metrics, inspection, datasets, model_selection)
    public = {name: getattr(module, name) for module in modules for name in module.__all__}
    for module in (evaluation, callbacks, transport):
        public |= {
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        }
    tried = {function.__name__ for function in FUNCTIONS} | set(DRAWING) | set(UNLEARNERS)
    missing = set(public) - tried - set(NOT_CALLED)
    assert not missing, f"{missing} have no entry in tests/test_wiring.py"
    methods = {
        f"{name}.{method}"
        for name, cls in public.items()
        if cls.__module__.startswith("skunlearn.inspection")
        or cls is evaluation.UnlearnerComparison
        for method, value in vars(cls).items()
        if not method.startswith("_") and (callable(value) or isinstance(value, classmethod))
    }
    assert methods <= set(DRAWING), f"{methods - set(DRAWING)} have no entry"
