"""The checks for others' unlearners: a right one passes all, and each usual mistake is named."""

import doctest
import warnings
from copy import deepcopy
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetRegressor
from skorch.callbacks import ProgressBar

from skunlearn import FineTune, NetworkUnlearner
from skunlearn.utils import estimator_checks
from skunlearn.utils.estimator_checks import check_unlearner, parametrize_with_unlearning_checks
from skunlearn.utils.estimator_checks._tools import global_state

# The example of the docstring, as it stands: its unlearner, and the test that it shows.
SHOWN = {"__name__": __name__}
shown = doctest.DocTestParser().get_examples(parametrize_with_unlearning_checks.__doc__)
exec("".join(example.source for example in shown), SHOWN)
Blur = SHOWN["Blur"]
test_the_unlearner_of_the_example = SHOWN["test_blur_keeps_the_contract"]


def train_by_hand(module, rows, n_steps=20):
    optimizer = torch.optim.SGD(module.train().parameters(), lr=0.1)
    X, y = rows.batch()
    for _ in range(n_steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(X), y).backward()
        optimizer.step()


BROKEN = []


def fails(check, problem):
    """Note that a check has to complain of an unlearner, in these words."""

    def note(cls):
        BROKEN.append(pytest.param(cls, check, problem, id=cls.__name__))
        return cls

    return note


@fails("check_hyperparameters_are_stored_untouched", "noise must be keyword-only")
class TakesPositions(Blur):
    def __init__(self, estimator, noise=0.1, *, memory=None, random_state=None):
        super().__init__(estimator, noise=noise, memory=memory, random_state=random_state)


@fails("check_hyperparameters_are_stored_untouched", "must store noise untouched")
class FillsIn(Blur):
    def __init__(self, estimator, *, noise=None, memory=None, random_state=None):
        noise = 0.1 if noise is None else noise
        super().__init__(estimator, noise=noise, memory=memory, random_state=random_state)


@fails("check_hyperparameters_are_stored_untouched", r"must take \['memory'\]")
class HasNoMemory(Blur):
    def __init__(self, estimator, *, noise=0.1, random_state=None):
        super().__init__(estimator, noise=noise, random_state=random_state)


@fails("check_hyperparameters_are_checked_before_training", "ValueError for noise=nan")
class TakesAnyNoise(Blur):
    def _check_hyperparameters(self):
        NetworkUnlearner._check_hyperparameters(self)


@fails("check_hyperparameters_are_checked_before_training", "before anything is trained")
class ChecksLate(Blur):
    def _check_hyperparameters(self):
        pass

    def _unlearn(self, request):
        super()._check_hyperparameters()
        if not self.noise >= 0:
            raise ValueError(f"noise must be at least 0; got {self.noise!r}.")
        return super()._unlearn(request)


@fails("check_parameters_reach_the_module", "estimator__module__")
class HasItsOwnModule(Blur):
    def _fit_original(self, template, *args):
        return super()._fit_original(clone(template).set_params(module__width=7), *args)


@fails("check_forget_must_be_a_mask", r"boolean mask .* array\(\[0, 5, 7\]\); it raised nothing")
class TakesIndices(Blur):
    def unlearn(self, X, y=None, *, forget, X_val=None, y_val=None):
        if len(forget) < len(X):
            forget = np.isin(np.arange(len(X)), forget)
        return super().unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)


@fails("check_nothing_to_forget", "fit must warn where forget marks no row")
class SaysNothing(Blur):
    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        forget = forget if np.any(forget) else None
        return super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)


@fails("check_nothing_to_retain", "needs retained rows and must .* it raised nothing")
class TakesAllRows(Blur):
    def _check_task(self, given, needs, reset=False):
        return super()._check_task(given, needs - {"retain"}, reset)

    def _unlearn(self, request):
        return super()._unlearn(request) if len(request.retain) else self._copy(request.original)


@fails("check_mask_decides", "it ignores forget")
class IgnoresTheMask(Blur):
    def _unlearn(self, request):
        rows = request.retain.join(request.forget)
        net = self._copy(request.original)
        return self._train(net, request, (rows.take(np.argsort(rows.index)), None, 1))


@fails("check_needs_are_honest", "does not list 'forget' among its needs")
class ReadsForgetRows(Blur):
    def _unlearn(self, request):
        X, _ = request.forget.batch()
        self.noise_ = float(X.abs().mean())
        net = self._copy(request.original)
        with torch.no_grad():
            net.module_.head.bias += self.noise_
        return net


@fails("check_needs_are_honest", "does not list 'forget_labels' among its needs")
class ReadsForgetLabels(Blur):
    needs: ClassVar = frozenset({"original", "retain", "forget"})

    def _unlearn(self, request):
        net = self._copy(request.original)
        with torch.no_grad():
            net.module_.head.bias[request.forget.y[0]] -= 1
        return net


@fails("check_plain_fit", "what every other unlearner trains")
class TrainsItsOwnOriginal(Blur):
    def _fit_original(self, template, *args):
        return super()._fit_original(clone(template).set_params(lr=0.05), *args)


@fails("check_plain_fit", "must not unlearn where forget is None")
class ForgetsUnasked(Blur):
    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        forget = np.arange(len(X)) == 0 if forget is None else forget
        return super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)


@fails("check_unlearning_changes_the_network_and_repeats", "every weight is that of the original")
class ReturnsTheOriginal(Blur):
    def _unlearn(self, request):
        return request.original


@fails("check_unlearning_changes_the_network_and_repeats", "bit for bit, fit and then unlearn")
class DrawsUnseeded(Blur):
    def _unlearn(self, request):
        net = super()._unlearn(request)
        with torch.no_grad():
            net.module_.head.bias += np.random.default_rng().normal()
        return net


@fails("check_unlearning_changes_the_network_and_repeats", "must depend on random_state")
class AlwaysDrawsTheSame(Blur):
    def fit(self, X, y=None, **request):
        given, self.random_state = self.random_state, 0
        super().fit(X, y, **request)
        self.random_state = given
        return self


@fails("check_requests_can_follow_one_another", "must unlearn when asked again")
class UnlearnsOnce(Blur):
    def unlearn(self, X, y=None, *, forget, X_val=None, y_val=None):
        if hasattr(self, "unlearning_history_"):
            return self
        return super().unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)


@fails("check_a_class_may_vanish", "must keep classes_")
class DropsTheClass(Blur):
    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)
        self.classes_ = np.unique(np.asarray(y)[~np.asarray(forget)])
        return self


INTERRUPTED = "check_interrupted_unlearning_changes_nothing"


@fails(INTERRUPTED, r"ends in a KeyboardInterrupt; \['estimator_'\] changed")
class AssignsTooEarly(Blur):
    def unlearn(self, X, y=None, *, forget, X_val=None, y_val=None):
        self.estimator_ = deepcopy(self.estimator_)
        return super().unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)


@fails(INTERRUPTED, "what it predicts changed")
class TrainsTheOriginal(Blur):
    def _unlearn(self, request):
        train_by_hand(request.original.module_, request.retain)
        return request.original


@fails(INTERRUPTED, "must not go on when unlearn ends in a KeyboardInterrupt; it raised nothing")
class TakesInterruptsForTheEnd(Blur):
    def _unlearn(self, request):
        return self._copy(request.original).partial_fit(request.retain)


@fails(INTERRUPTED, "ends in a RuntimeError; got ValueError")
class DisguisesErrors(Blur):
    def _carry_out(self, given, needs, reset=False):
        try:
            return super()._carry_out(given, needs, reset)
        except RuntimeError as error:
            raise ValueError("something went wrong") from error


class Log(list):
    def record(self, name, value):
        self.append((name, value))


@fails("check_history", "a skorch History as unlearning_history_")
class KeepsItsOwnLog(Blur):
    def _unlearn(self, request):
        net = super()._unlearn(request)
        net.history = Log(net.history)
        return net


@fails("check_history", "must not keep unlearning_history_ when it is fitted again")
class KeepsTheOldHistory(Blur):
    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        history = getattr(self, "unlearning_history_", None)
        super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)
        if history is not None:
            self.unlearning_history_ = history
        return self


@fails("check_an_unlearning_run_is_a_skorch_run", "must notify the network's callbacks")
class HasItsOwnLoop(Blur):
    def _unlearn(self, request):
        net = self._copy(request.original)
        train_by_hand(net.module_, request.retain)
        return net


@fails("check_an_unlearning_run_is_a_skorch_run", "must note .*'valid_loss'.* of every epoch")
@fails("check_the_networks_own_validation_split_is_used", "must validate on train_split")
class DoesNotValidate(Blur):
    def _train(self, net, request, *phases, **settings):
        return super()._train(net, replace(request, valid=None), *phases, **settings)


@fails("check_global_state_is_left_as_it_was", "unlearn must leave torch's random generator alone")
class SeedsGlobally(Blur):
    def unlearn(self, X, y=None, *, forget, X_val=None, y_val=None):
        torch.manual_seed(0)
        return super().unlearn(X, y, forget=forget, X_val=X_val, y_val=y_val)


@fails("check_global_state_is_left_as_it_was", "fit must leave NumPy's random generator alone")
class DrawsGlobally(Blur):
    def fit(self, X, y=None, **request):
        np.random.randint(2**31)  # noqa: NPY002
        return super().fit(X, y, **request)


@fails("check_frozen_network_is_left_untouched", "must not change the network in a FrozenEstimator")
class ChangesTheFrozenNetwork(TrainsTheOriginal):
    pass


@fails("check_frozen_network_is_left_untouched", "must not change the network in a FrozenEstimator")
class MovesStatisticsOfTheFrozenNetwork(Blur):
    def _unlearn(self, request):
        request.original.module_.train()
        request.original.module_(request.retain.batch()[0])
        return super()._unlearn(request)


@fails("check_users_network_is_never_changed", r"\['max_epochs'\] changed")
class SetsTheUsersNetwork(Blur):
    def _unlearn(self, request):
        self.estimator.max_epochs = 1
        return super()._unlearn(request)


PICKLE = "check_pickle_keeps_no_forgotten_row_and_no_original_weight"


@fails(PICKLE, "must not keep rows to forget")
class KeepsRows(Blur):
    def _unlearn(self, request):
        self.rows_ = request.forget
        return super()._unlearn(request)


@fails(PICKLE, "must not keep rows to forget")
class KeepsRowsAsFloat64(Blur):
    def fit(self, X, y=None, **request):
        self.seen_ = np.array(X, dtype=np.float64)
        return super().fit(X, y, **request)


@fails(PICKLE, "must not keep weights of the original")
class KeepsTheOriginal(Blur):
    def _unlearn(self, request):
        self.teacher_ = request.original.module_
        return super()._unlearn(request)


@fails("check_memory_trains_the_original_once", "must train the original once")
class DoesWithoutMemory(Blur):
    def fit(self, X, y=None, **request):
        memory, self.memory = self.memory, None
        try:
            return super().fit(X, y, **request)
        finally:
            self.memory = memory


@fails("check_inputs_of_many_kinds_give_the_same", "as arrays or as float64")
class DependsOnTheDtype(Blur):
    def fit(self, X, y=None, *, forget=None, X_val=None, y_val=None):
        self.noise_ = 0.0 if getattr(X, "dtype", None) == np.float32 else 1.0
        return super().fit(X, y, forget=forget, X_val=X_val, y_val=y_val)

    def _unlearn(self, request):
        net = super()._unlearn(request)
        with torch.no_grad():
            net.module_.head.bias[0] += self.noise_
        return net


@fails("check_several_labels_per_row", "multilabel=False and must raise")
class TakesIndicatorsUnawares(Blur):
    multilabel = False

    def fit(self, X, y=None, **request):
        self.multilabel = True
        return super().fit(X, y, **request)


@fails("check_bad_rows_are_refused_and_nothing_is_lost", "ValueError for X with NaN")
class FillsInRows(Blur):
    def unlearn(self, X, y=None, **request):
        return super().unlearn(np.nan_to_num(X), y, **request)


@fails("check_unsuitable_estimators_are_refused", "if estimator is a regressor")
class TakesAnyNetwork(Blur):
    def fit(self, X, y=None, **arguments):
        if isinstance(self.estimator, NeuralNetRegressor):
            return self
        return super().fit(X, y, **arguments)


@pytest.mark.parametrize(("cls", "check", "problem"), BROKEN)
def test_a_broken_unlearner_is_told_what_is_wrong(cls, check, problem):
    with pytest.raises(AssertionError, match=f"^{cls.__name__}.*{problem}"):
        estimator_checks._CHECKS[check](cls.__name__, cls(None))


def test_errors_of_the_unlearner_are_let_through():
    class Unfinished(Blur):
        def _unlearn(self, request):
            raise NotImplementedError("soon")

    with pytest.raises(NotImplementedError, match="soon"):
        check_unlearner(Unfinished(None))


@pytest.mark.parametrize("cls", [TakesPositions, IgnoresTheMask])
def test_check_unlearner_stops_at_the_first_failure(cls):
    with pytest.raises(AssertionError, match=cls.__name__):
        check_unlearner(cls(None))


def test_the_unlearner_and_the_state_of_the_session_are_left_as_they_were():
    unlearner = Blur(LogisticRegression(), noise=0.5, memory="nowhere")
    before, states = vars(unlearner).copy(), global_state()
    filters = warnings.filters[:]
    for check in ("check_global_state_is_left_as_it_was", "check_history"):
        estimator_checks._CHECKS[check]("Blur", unlearner)
    assert vars(unlearner) == before
    assert global_state() == states
    assert warnings.filters == filters


def test_the_progress_bar_of_a_check_needs_no_widgets_in_a_notebook(monkeypatch):
    import tqdm

    def without_widgets(*args, **kwargs):
        raise ImportError("IProgress not found")

    monkeypatch.setattr(ProgressBar, "in_ipynb", lambda self: True)
    monkeypatch.setattr(tqdm, "tqdm_notebook", without_widgets)
    estimator_checks._CHECKS["check_an_unlearning_run_is_a_skorch_run"]("Blur", Blur(None))


def test_checks_that_are_known_to_fail_are_marked():
    reasons = {"check_history": "keeps none"}
    mark = parametrize_with_unlearning_checks(
        [Blur(None), FineTune(None, batch_size=8, lr=0.5, random_state=3)],
        expected_failed_checks=lambda unlearner: reasons if isinstance(unlearner, Blur) else {},
    )
    names, params = mark.args
    assert names == ("estimator", "check")
    marks = {param.id: param.marks for param in params}
    assert len(marks) == len(params) > 50
    assert [mark.kwargs for mark in marks.pop("Blur()-check_history")] == [{"reason": "keeps none"}]
    assert marks.pop("FineTune(batch_size=8,lr=0.5)-check_history") == ()
    assert not any(marks.values())


def test_checks_are_named_described_and_apply_where_they_make_sense():
    class FromScratch(Blur):
        needs: ClassVar = frozenset({"retain"})

    def names(unlearner):
        return [check.func.__name__ for check in estimator_checks._checks_of(unlearner)]

    for name in names(Blur(None)):
        assert name.startswith("check_")
        assert estimator_checks._CHECKS[name].__doc__.count("\n") == 0
    assert set(names(Blur(None))) - set(names(FromScratch(None))) == {
        "check_frozen_network_is_left_untouched",
        "check_memory_trains_the_original_once",
    }


@pytest.mark.parametrize("estimator", [Blur, LogisticRegression(), None])
def test_only_instances_of_unlearners_are_checked(estimator):
    with pytest.raises(TypeError, match=r"instances of BaseUnlearner, such as FineTune\(None\)"):
        check_unlearner(estimator)
    with pytest.raises(TypeError, match="instances of BaseUnlearner"):
        parametrize_with_unlearning_checks([estimator])
