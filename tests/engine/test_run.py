"""The training run that all methods share: loaders, compiled modules, single rows, divergence."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import History, NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import BatchSampler, RandomSampler, WeightedRandomSampler

from skunlearn import (
    AMUN,
    DLFD,
    SCRUB,
    SISA,
    SSD,
    UNSIR,
    AdvancedNegGrad,
    BadTeacher,
    FineTune,
    NegGrad,
    RandomLabel,
    Retrain,
    all_unlearners,
)
from skunlearn._engine.finish import compare
from skunlearn._engine.run import Cost
from skunlearn.features import FeatureExtractor
from tests.networks import make_net

ALL = dict(all_unlearners())
TRAINED = {name: cls for name, cls in ALL.items() if name not in ("SISA", "Retrain")}

# Some methods do little, or much, to so small a network.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*changed almost nothing",
    "ignore:.*has damaged",
    "ignore:.*found no adversarial",
    "ignore:Forget and retained features cannot be told apart",
    "ignore:The .grad attribute of a Tensor",  # torch's own, while it compiles
)


@pytest.fixture
def problem():
    X = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), np.arange(120) < 10


def weights(unlearner):
    nets = getattr(unlearner, "estimators_", None) or [unlearner.estimator_]
    return torch.cat([p.detach().flatten() for net in nets for p in net.module_.parameters()])


class WithNorm(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, n_classes)

    def forward(self, X):
        return self.head(self.body(X))


class Sizes(Callback):
    """Number of rows of every training batch, by run."""

    seen = ()

    def on_train_begin(self, net, **kwargs):
        Sizes.seen = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training:
            Sizes.seen.append(len(batch[1]))


# -- short batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_fewer_forget_rows_than_a_batch_with_drop_last(problem, name):
    X, y, forget = problem
    net = make_net(max_epochs=2, batch_size=32, iterator_train__drop_last=True)
    unlearner = ALL[name](net, random_state=0).fit(X, y)
    before = weights(unlearner)
    unlearner.unlearn(X, y, forget=forget)
    assert not torch.equal(weights(unlearner), before)


@pytest.mark.parametrize(("cls", "sizes"), [(NegGrad, [8, 2]), (AdvancedNegGrad, [8] * 13)])
def test_a_short_batch_of_forget_rows_is_kept_and_one_of_retained_rows_dropped(problem, cls, sizes):
    X, y, forget = problem
    net = make_net(max_epochs=1, batch_size=8, iterator_train__drop_last=True, callbacks=[Sizes])
    cls(net, max_epochs=1, random_state=0).fit(X, y, forget=forget)
    assert Sizes.seen == sizes


def test_fewer_retained_rows_than_a_batch_with_drop_last(problem):
    X, y, _ = problem
    net = make_net(max_epochs=1, batch_size=32, iterator_train__drop_last=True, callbacks=[Sizes])
    FineTune(net, max_epochs=1, random_state=0).fit(X, y, forget=np.arange(120) < 110)
    assert Sizes.seen == [10]


@pytest.mark.parametrize("name", ALL)
def test_one_row_to_forget_with_batch_normalisation(problem, name):
    X, y, _ = problem
    unlearner = ALL[name](make_net(WithNorm, max_epochs=2, batch_size=16), random_state=0)
    unlearner.fit(X, y, forget=np.arange(120) == 3)
    assert np.isfinite(unlearner.predict_proba(X)).all()


def test_a_batch_of_one_row_leaves_the_statistics_of_batch_normalisation_alone(problem):
    X, y, _ = problem
    original = FineTune(make_net(WithNorm, max_epochs=2), random_state=0).fit(X, y).estimator_
    unlearner = NegGrad(FrozenEstimator(original), optimizer=torch.optim.SGD, lr=0.1)
    unlearner.unlearn(X, y, forget=np.arange(120) == 3)
    norm, before = (net.module_.body[1] for net in (unlearner.estimator_, original))
    assert torch.equal(norm.running_mean, before.running_mean)
    assert norm.num_batches_tracked == before.num_batches_tracked
    # By hand: ascent along the gradient in evaluation mode of the norm.
    module = original.module_.eval()
    loss = nn.functional.cross_entropy(module(torch.as_tensor(X[3:4])), torch.as_tensor(y[3:4]))
    gradient = torch.autograd.grad(loss, module.head.weight)[0]
    torch.testing.assert_close(
        unlearner.estimator_.module_.head.weight, module.head.weight + 0.1 * gradient
    )


def test_batch_normalisation_learns_from_retained_rows_beside_one_forget_row(problem):
    X, y, _ = problem
    original = FineTune(make_net(WithNorm, max_epochs=1), random_state=0).fit(X, y).estimator_
    unlearner = AdvancedNegGrad(FrozenEstimator(original), lr=1e-9, max_epochs=2, random_state=0)
    unlearner.unlearn(X, y, forget=np.arange(120) == 3)
    norm, before = (net.module_.body[1] for net in (unlearner.estimator_, original))
    # Of two passes over 119 rows in batches of 16; those of the forget row do not count.
    assert norm.num_batches_tracked - before.num_batches_tracked == 2 * 8
    assert norm.training == before.training


def test_a_last_batch_of_one_forget_row_is_not_dropped(problem):
    X, y, _ = problem
    net = make_net(WithNorm, max_epochs=1, batch_size=8, callbacks=[Sizes])
    NegGrad(net, random_state=0).fit(X, y, forget=np.arange(120) < 9)
    assert Sizes.seen == [8, 1]


# -- samplers --------------------------------------------------------------------------------------


def balanced(y):
    return WeightedRandomSampler(1 / np.bincount(y)[y], len(y))


@pytest.mark.parametrize("cls", [DLFD, RandomLabel, Retrain, SISA])
@pytest.mark.parametrize("name", ["iterator_train__sampler", "iterator_train__batch_sampler"])
def test_a_sampler_of_given_rows_is_refused_by_name(problem, cls, name):
    X, y, forget = problem
    sampler = WeightedRandomSampler(np.ones(120), 120)
    if "batch" in name:
        sampler = BatchSampler(sampler, 8, drop_last=False)
    net = make_net(**{name: sampler})
    with pytest.raises(ValueError, match=f"{name} of estimator is a .*Sampler made for certain"):
        cls(net, random_state=0).fit(X, y, forget=forget)
    with pytest.raises(ValueError, match="lambda y"):
        cls(make_net(**{name: list(range(120))})).fit(X, y)


def test_a_sampler_of_the_trained_network_or_of_predictions_is_refused(problem):
    X, y, forget = problem
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=4, module__out_features=2, train_split=None, verbose=0,
        criterion=nn.CrossEntropyLoss, iterator_train__sampler=RandomSampler(range(120)),
    ).fit(X, y)  # fmt: skip
    with pytest.raises(ValueError, match="iterator_train__sampler"):
        FineTune(FrozenEstimator(net)).unlearn(X, y, forget=forget)
    net.iterator_train__sampler = balanced  # skorch's set_params cannot, once it is initialised
    FineTune(FrozenEstimator(net), lr=0.5).unlearn(X, y, forget=forget)
    with pytest.raises(ValueError, match="iterator_valid__sampler"):
        FineTune(make_net(iterator_valid__sampler=RandomSampler(range(9)))).fit(X, y)


@pytest.mark.parametrize("name", ALL)
def test_a_factory_of_samplers_is_called_with_the_labels_of_the_run(problem, name):
    X, y, forget = problem
    called = []

    def factory(labels):
        called.append(labels)
        return balanced(labels)

    net = make_net(max_epochs=1, batch_size=16)
    del net.iterator_train__shuffle
    net.set_params(iterator_train__sampler=factory)
    unlearner = ALL[name](net, random_state=0).fit(X, np.where(y, "yes", "no"))
    assert all(np.isin(labels, [0, 1]).all() for labels in called)  # positions in classes_
    if name != "SISA":
        assert np.array_equal(called[0], y)
    called.clear()
    unlearner.unlearn(X, np.where(y, "yes", "no"), forget=forget)
    sizes = {"SSD": 0, "NegGrad": 10, "SISA": max(map(len, called), default=0)}
    sizes |= dict.fromkeys(["AMUN", "BadTeacher", "RandomLabel", "SalUn"], 120)
    assert sizes.get(name, 110) in {0, *map(len, called)}


def test_a_factory_gets_the_labels_that_train_split_leaves(problem):
    X, y, _ = problem
    called = []

    def factory(labels):
        called.append(labels)
        return balanced(labels)

    net = make_net(max_epochs=1, train_split=ValidSplit(5, stratified=False))
    del net.iterator_train__shuffle
    net.set_params(iterator_train__sampler=factory)
    FineTune(net, random_state=0).fit(X, y)
    assert np.array_equal(called[-1], y[24:])  # the first fold is set aside


def test_a_factory_balances_the_rows_of_a_run(problem):
    X, y, forget = problem
    y = (np.arange(120) % 12 == 0).astype(int)
    rows = []

    class Labels(Callback):
        def on_batch_end(self, net, batch=None, training=False, **kwargs):
            if training:
                rows.extend(batch[1].tolist())

    net = make_net(max_epochs=1, batch_size=16, callbacks=[Labels])
    del net.iterator_train__shuffle
    net.set_params(iterator_train__sampler=balanced)
    model = FineTune(net, max_epochs=20, random_state=0).fit(X, y)
    rows.clear()
    model.unlearn(X, y, forget=forget)
    assert np.mean(rows) == pytest.approx(0.5, abs=0.05)  # of 2,200 draws; 1 / 12 of the rows


# -- compiled modules ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_compiling_changes_nothing_but_how_a_module_runs(problem, name):
    X, y, forget = problem
    compiled = {"compile": True, "compile__backend": "eager"}
    params = {"batch_size": 32, "max_epochs": 3}
    plain, fast = (
        ALL[name](make_net(**params, **given), random_state=0).fit(X, y, forget=forget)
        for given in ({}, compiled)
    )
    np.testing.assert_allclose(fast.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    fast.unlearn(X[10:], y[10:], forget=np.arange(110) < 5)
    plain.unlearn(X[10:], y[10:], forget=np.arange(110) < 5)
    np.testing.assert_allclose(fast.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    if name != "SISA":
        assert hasattr(fast.estimator_.module_, "_orig_mod")
        features = [FeatureExtractor(model).transform(X) for model in (fast, plain)]
        np.testing.assert_allclose(*features, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("way", ["parameter", "instance"])
def test_a_trained_compiled_network(problem, name, way):
    X, y, forget = problem
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    given = {"compile": True, "compile__backend": "eager"}
    if way == "instance":
        module, given = torch.compile(module, backend="eager"), {}
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=3,
        batch_size=32, lr=0.5, **given,
    ).fit(X, y)  # fmt: skip
    before = net.predict_proba(X)
    unlearner = TRAINED[name](FrozenEstimator(net), random_state=0)
    unlearner.unlearn(X, y, forget=forget)
    assert np.array_equal(net.predict_proba(X), before)
    assert hasattr(unlearner.estimator_.module_, "_orig_mod")
    assert unlearner.predict_proba(X).sum(axis=1) == pytest.approx(1, abs=1e-5)
    kept = {id(p) for p in net.module_.parameters()}
    assert not kept & {id(p) for p in unlearner.estimator_.module_.parameters()}


# -- what callbacks see ----------------------------------------------------------------------------


def test_callbacks_and_loaders_never_see_marks_of_forget_rows(problem):
    X, y, forget = problem
    seen = []

    class Labels(Callback):
        def on_batch_begin(self, net, batch=None, training=False, **kwargs):
            assert len(batch) == 2
            seen.extend(batch[1].tolist())

    def collate(pairs):
        assert all(len(pair) == 2 for pair in pairs)
        seen.extend(int(label) for _, label in pairs)
        return torch.utils.data.default_collate(pairs)

    net = make_net(max_epochs=1, callbacks=[Labels], iterator_train__collate_fn=collate)
    BadTeacher(net, max_epochs=1, random_state=0).fit(X, y, forget=forget)
    assert set(seen) == {0, 1}


@pytest.mark.parametrize("cls", [AMUN, BadTeacher, UNSIR])
@pytest.mark.parametrize("use_caching", [True, False])
def test_scores_on_the_training_rows_know_their_labels(problem, cls, use_caching):
    X, y, forget = problem
    labels = []

    def score(net, X, y):
        labels.append(np.asarray(y))
        return 0.0

    scoring = EpochScoring(score, on_train=True, use_caching=use_caching, name="s")
    model = cls(make_net(max_epochs=2, lr=0.05), max_epochs=1, random_state=0).fit(X, y)
    model.estimator.set_params(callbacks=[("scoring", scoring)])
    model.unlearn(X, y, forget=forget)
    assert set(np.concatenate(labels)) == {0, 1}
    assert len(labels[0]) >= 110


def test_a_collate_function_that_sorts_is_refused_where_rows_are_told_apart(problem):
    X, y, forget = problem

    def collate(pairs):
        return torch.utils.data.default_collate(sorted(pairs, key=lambda pair: int(pair[1])))

    net = make_net(max_epochs=1, iterator_train__collate_fn=collate)
    with pytest.raises(ValueError, match="collate_fn of estimator's iterator_train must keep"):
        BadTeacher(net, random_state=0).fit(X, y, forget=forget)


# -- divergence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "request_", "who"),
    [
        (FineTune, False, "the training of the original"),
        (FineTune, True, "the training of the original"),
        (Retrain, True, "Retrain's training"),
        (SISA, False, "training"),
    ],
)
def test_a_training_that_diverges_says_which(problem, cls, request_, who):
    X, y, forget = problem
    model = cls(make_net(max_epochs=5), random_state=0).fit(X, y)
    before = weights(model)
    model.set_params(estimator__lr=1e30)
    with pytest.raises(ValueError, match=f"{who}.* has diverged"):
        model.fit(X, y, forget=forget if request_ else None)
    assert torch.equal(weights(model), before)


def test_a_loss_that_explodes_without_overflow_has_diverged(problem):
    X, y, _ = problem
    net = make_net(nn.Linear, module__in_features=4, module__out_features=2, max_epochs=1)
    del net.optimizer__momentum
    net.set_params(lr=1e8, batch_size=60)
    with pytest.raises(ValueError, match="has diverged: its loss went from 0"):
        FineTune(net, random_state=0).fit(X, y)


def test_a_broken_network_is_not_blamed_on_the_method(problem):
    X, y, forget = problem
    net = FineTune(make_net(), random_state=0).fit(X, y).estimator_
    with torch.no_grad():
        next(net.module_.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="the network that it starts from is broken"):
        FineTune(FrozenEstimator(net)).unlearn(X, y, forget=forget)


def test_schedules_that_end_before_the_run_are_refused(problem):
    X, y, forget = problem
    given = {"max_lr": 0.1, "step_every": "batch"}
    schedule = LRScheduler(OneCycleLR, total_steps=2 * 8, **given)
    net = make_net(max_epochs=2, batch_size=16, callbacks=[("schedule", schedule)])
    model = FineTune(net, max_epochs=2, random_state=0).fit(X, y)
    model.unlearn(X, y, forget=forget)  # takes 14 steps of the 16
    model.set_params(max_epochs=3)
    with pytest.raises(ValueError, match="OneCycleLR for 16 steps, but this training takes 21"):
        model.unlearn(X, y, forget=forget)
    with pytest.raises(ValueError, match="OneCycleLR for 16 steps, but this training takes 18"):
        Retrain(net, max_epochs=3).fit(X, y, forget=np.arange(120) < 30)


def test_few_rows_and_many_folds_of_a_train_split(problem):
    X, y, _ = problem
    net = make_net(train_split=ValidSplit(10), max_epochs=1)
    with pytest.raises(ValueError, match=r"train_split of estimator cannot set .* from 5"):
        FineTune(net, random_state=0).fit(X, y, forget=np.arange(120) >= 5)
    with pytest.raises(ValueError, match=r"train_split of estimator cannot set .* from 5"):
        Retrain(net, random_state=0).fit(X, y, forget=np.arange(120) >= 5)
    model = FineTune(net, lr=0.5, random_state=0).fit(X, y)
    model.unlearn(X, y, forget=np.arange(120) >= 5, X_val=X[:9], y_val=y[:9])


# -- damage ----------------------------------------------------------------------------------------


def test_copies_of_a_watched_network_hold_no_other(problem):
    X, y, _ = problem
    original = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y).estimator_
    method = FineTune(FrozenEstimator(original), random_state=0)
    method.classes_ = np.arange(2)
    with Cost() as method._counter:
        nets = [method._copy(original) for _ in range(3)]
        method._cost.watch(original)
        nets.append(deepcopy(original))  # by somebody who does not know that it is watched
        hooks = [
            [hook for hook in net.module_._forward_pre_hooks.values() if isinstance(hook, Cost)]
            for net in nets
        ]
        assert [[len(hook._handles) for hook in each] for each in hooks] == [[4], [4], [4], [0]]
    assert not any(net.module_._forward_pre_hooks for net in nets[:3])


class CopiesByItself(FineTune):
    def _unlearn(self, request):
        return deepcopy(request.original).partial_fit(request.retain)


def test_a_copy_that_a_method_makes_by_itself_keeps_no_hook(problem):
    X, y, forget = problem
    unlearner = CopiesByItself(make_net(max_epochs=1), random_state=0).fit(X, y)
    module = unlearner.unlearn(X, y, forget=forget).estimator_.module_
    assert not module._forward_pre_hooks
    assert not module._forward_pre_hooks_with_kwargs


def test_a_copy_that_is_made_outside_of_a_run_is_not_watched(problem):
    X, y, _ = problem
    original = FineTune(make_net(max_epochs=1), random_state=0).fit(X, y).estimator_
    method = FineTune(FrozenEstimator(original), random_state=0)
    method.classes_ = np.arange(2)
    assert not method._copy(original).module_._forward_pre_hooks


def test_what_a_run_has_cost_on_retained_rows_stands_in_its_history(problem):
    X, y, forget = problem
    model = FineTune(make_net(max_epochs=5), random_state=0).fit(X, y)
    proba = model.predict_proba(X[~forget])
    model.unlearn(X, y, forget=forget)
    last, rows = model.unlearning_history_[-1], np.arange(110)
    for when, given in (("before", proba), ("after", model.predict_proba(X[~forget]))):
        assert last[f"retain_accuracy_{when}"] == np.mean(given.argmax(1) == y[~forget])
        loss = -np.log(given[rows, y[~forget]]).mean()
        assert last[f"retain_loss_{when}"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.filterwarnings("default:.*has damaged")
@pytest.mark.parametrize(
    ("unlearner", "remedy"),
    [
        (NegGrad(None, lr=50.0, max_epochs=5), "smaller lr"),
        (AdvancedNegGrad(None, forget_weight=3.0, lr=0.5), "smaller forget_weight"),
        (SCRUB(None, lr=20.0, max_epochs=3, temperature=1.0), "ascent_epochs"),
        (SSD(None, threshold=1e-6, dampening=0.0), "larger threshold"),
        (Retrain(None, lr=1e-9, max_epochs=1), "more epochs"),
    ],
)
def test_a_damaged_network_is_warned_of_with_the_remedy(problem, unlearner, remedy):
    X, y, forget = problem
    net = make_net(max_epochs=30, optimizer__momentum=0.0)
    unlearner.set_params(estimator=net, random_state=0).fit(X, y)
    unlearner.optimizer = torch.optim.SGD
    with pytest.warns(UserWarning, match=f"has damaged the network.*{remedy}"):
        unlearner.unlearn(X, y, forget=forget)


@pytest.mark.filterwarnings("default:.*has damaged")
def test_many_requests_that_cost_little_each_are_warned_of(problem):
    X, y, _ = problem

    class Worsen(FineTune):  # gives the wrong label to one more row in twelve at each request
        def _unlearn(self, request):
            net = self._copy(request.original)
            with torch.no_grad():
                net.module_.bias += torch.tensor([-0.25, 0.25])
            return net

    net = make_net(nn.Linear, module__in_features=4, module__out_features=2, max_epochs=1)
    net = FineTune(net, random_state=0).fit(X, y).estimator_
    with torch.no_grad():
        net.module_.weight[:] = torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]])
        net.module_.bias[:] = 0
    model, costs = Worsen(FrozenEstimator(net)), []
    for i in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.unlearn(X[i:], y[i:], forget=np.arange(120 - i) < 1)
        last = model.unlearning_history_[-1]
        costs.append(last["retain_accuracy_before"] - last["retain_accuracy_after"])
        assert any("from 1.00 to" in str(w.message) for w in caught) == (sum(costs) > 0.2)
    assert max(costs) < 0.2 < sum(costs)


def test_a_new_fit_forgets_how_good_the_network_was(problem):
    X, y, forget = problem
    net = make_net(nn.Linear, module__in_features=4, module__out_features=2, max_epochs=1)
    net = FineTune(net, random_state=0).fit(X, y).estimator_
    with torch.no_grad():
        net.module_.weight[:] = torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]])
        net.module_.bias[:] = 0
    model = FineTune(FrozenEstimator(net), lr=1e-6, random_state=0).fit(X, y)
    model.unlearn(X, y, forget=forget)
    assert model.unlearning_history_[-1, "retain_accuracy_before"] == 1
    wrong = np.argsort(np.abs(X[:, 0]))[:36]
    y[wrong] = 1 - y[wrong]
    model.fit(X, y)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*has damaged")
        model.unlearn(X, y, forget=forget)
    assert model.unlearning_history_[-1, "retain_accuracy_before"] < 0.8


@pytest.mark.parametrize(
    ("cls", "n", "before", "after", "is_damage"),
    [
        (FineTune, 100, (0.5, 0.9), (0.5, 0.72), False),
        (FineTune, 100, (0.5, 0.9), (0.5, 0.68), True),
        (UNSIR, 100, (0.5, 0.9), (0.5, 0.6), False),  # whose own cost is .4
        (UNSIR, 100, (0.5, 0.9), (0.5, 0.4), True),
        (FineTune, 5, (0.5, 1.0), (0.5, 0.65), False),  # up to two rows of five
        (FineTune, 5, (0.5, 1.0), (0.5, 0.55), True),
        (FineTune, 100, (0.3, 0.9), (1.0, 0.9), False),  # a guess has .69, and half as much more
        (FineTune, 100, (0.3, 0.9), (1.1, 0.9), True),
        (FineTune, 100, (0.7, 0.9), (1.1, 0.9), False),  # no better than a guess before
        (FineTune, 100, (0.5, 0.5), (0.5, 0.9), False),
    ],
)
def test_what_counts_as_damage(cls, n, before, after, is_damage):
    net = make_net()
    net.history = History()
    net.classes_inferred_ = np.arange(2)
    method = {"name": cls.__name__, "usual_cost": cls._usual_cost, "remedy": cls._remedy}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        best = compare(net, ((*before, n), None), ((*after, n), None), best=0.0, **method)
    assert best == before[1]
    assert ["has damaged" in str(warning.message) for warning in caught] == [True] * is_damage
    assert net.history[-1]["retain_accuracy_before"] == before[1]
    assert net.history[-1]["retain_loss_after"] == after[0]


@pytest.mark.parametrize(
    ("args", "kwargs", "n"),
    [
        ((torch.zeros(5, 2),), {}, 5),
        ((), {"a": torch.zeros(5, 2), "b": torch.zeros(3)}, 5),
        (([torch.zeros(4, 2), torch.zeros(2, 9)],), {}, 4),  # a graph: nodes, edges
        (({"ids": torch.zeros(6, 2)},), {}, 6),
        ((nn.utils.rnn.pack_sequence([torch.zeros(3, 1), torch.zeros(2, 1)]),), {}, 2),
        ((), {}, 0),  # a module that makes up its own input
    ],
)
def test_a_batch_costs_as_many_samples_as_it_has_rows(args, kwargs, n):
    cost = Cost()
    cost(None, args, kwargs)
    assert cost.samples == n
    with torch.no_grad():
        cost(None, args, kwargs)
    assert cost.samples == pytest.approx(n * 4 / 3)
