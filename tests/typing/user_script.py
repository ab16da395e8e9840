"""A script as a user writes it, which ``mypy --strict`` has nothing to say about."""

import pickle
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from skunlearn import (
    DLFD,
    SISA,
    BaseUnlearner,
    Distill,
    FineTune,
    NetworkUnlearner,
    compare_unlearners,
    klom_margins,
    shadow_margins,
    unlearning_report,
)
from skunlearn.base import Request
from skunlearn.datasets import make_identity_images
from skunlearn.evaluation import RequestLog
from skunlearn.inspection import LossDistributionDisplay, UnlearningCurveDisplay
from skunlearn.metrics import (
    attack_signal,
    change_signal,
    class_utility,
    get_scorer,
    membership_inference_report,
    membership_inference_test,
    memorisation,
    nomus_score,
    relative_mmd_test,
    same_class,
    u_lira,
    unlearning_epsilon,
    worst_rows,
)
from skunlearn.model_selection import ForgetKFold, Whole, forget_mask, forget_split
from skunlearn.transport import transport_distance


def network(n_features_in: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features_in, 16), nn.ReLU(), nn.Linear(16, n_classes))


def squared_distance(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (u.mean(0) - v.mean(0)).square().sum()


class AscendAndRepair(NetworkUnlearner):
    """Ascend the loss of the forget rows, then train on the retained rows."""

    needs: ClassVar[frozenset[str]] = frozenset({"original", "retain", "forget"})

    def _unlearn(self, request: Request) -> NeuralNet:
        def ascend(
            net: NeuralNet, X: Any, y: torch.Tensor, progress: float
        ) -> tuple[torch.Tensor, Any]:
            y_pred = net.infer(X)
            return -0.1 * net.get_loss(y_pred, y), y_pred

        net = self._copy(request.original)
        return self._train(net, request, (request.forget, ascend, 1), (request.retain, None, 2))


def main() -> None:
    images, ages = make_identity_images(20, 5, n_channels=1, random_state=0, return_X_y=True)
    X, identity = images.reshape(len(images), -1), np.repeat(np.arange(20), 5)
    split = forget_split(identity, forget_size=2, random_state=0)
    X_train, y_train, X_val, y_val = (
        X[split.train],
        ages[split.train],
        X[split.val],
        ages[split.val],
    )
    X_test, y_test, forget = X[split.test], ages[split.test], split.forget[split.train]
    net = NeuralNetClassifier(
        network, criterion=nn.CrossEntropyLoss, train_split=None, lr=0.1, max_epochs=5, verbose=0
    )

    unlearners: dict[str, BaseUnlearner] = {
        "ours": AscendAndRepair(net, random_state=0),
        "DLFD": DLFD(net, max_epochs=1, transport=squared_distance, clip=(0.0, 1.0)),
        "FineTune": FineTune(net, lr=1e-3, optimizer=torch.optim.AdamW, random_state=0),
        "Distill": Distill(net, optimizer=partial(torch.optim.SGD, momentum=0.9), memory=None),
    }
    fitted = FineTune(net, random_state=0).fit(X_train, y_train)
    fitted.unlearn(X_train, y_train, forget=forget, X_val=X_val, y_val=Whole(y_val))
    trained = DLFD(FrozenEstimator(fitted.estimator_), lr=0.01, transport="exact", clip=None)
    trained.unlearn(torch.from_numpy(X_train), y_train.tolist(), forget=forget.tolist())
    ensemble = SISA(net, n_shards=3, aggregate="vote").fit(X_train, y_train, groups=None)
    cost: float = ensemble.expected_cost(X_train, y_train, forget=forget)
    labels: NDArray[np.int64] = fitted.predict(X_test)
    accuracy: float = fitted.score(X_test, y_test)

    scorers = {"utility": get_scorer("utility"), "nomus": get_scorer("nomus", weight=0.3)}
    value: float = scorers["nomus"](fitted, X_train, y_train, forget=forget)
    cv = ForgetKFold(3, shuffle=True, random_state=0, forget=forget_mask(identity, [3, 4]))
    GridSearchCV(fitted, {"lr": [0.01, 0.1]}, cv=cv, scoring=scorers, refit="nomus")
    rows: list[int] = [len(test) for _, test in cv.split(X)]

    comparison = compare_unlearners(
        unlearners, X_train, y_train, forget=forget, X_unseen=X_test, y_unseen=y_test, seeds=[0]
    )
    mean, deviation = comparison.summary(["nomus"])["DLFD"]["nomus"]
    report = unlearning_report(
        fitted, X_train, y_train, forget=forget, X_unseen=X_test, y_unseen=y_test, reference=trained
    )
    low: float = report.metrics["utility"]["unlearned"].low
    shadow = shadow_margins(FineTune(net), X_train, y_train, forget=forget, n_models=8)
    tpr: float = u_lira(shadow.margins, shadow.member, max_fpr=0.05).tpr
    seen, unseen = (
        attack_signal(y, fitted.predict_proba(rows), signal="logit", labels=fitted.classes_)
        for rows, y in ((X_train[forget], y_train[forget]), (X_test, y_test))
    )
    auc = membership_inference_report(seen, unseen, random_state=0)["auc"].value
    people = identity[split.train][forget], identity[split.test]
    reason: str = membership_inference_report(
        seen, unseen, groups_forget=people[0], groups_unseen=people[1]
    )["people_auc"].reason
    pvalue: float = membership_inference_test(seen, unseen, random_state=0).pvalue
    probas = fitted.predict_proba(X_test), trained.predict_proba(X_test)
    change = change_signal(y_test, *probas, signal="loss", labels=fitted.classes_)
    three = *probas, fitted.predict_proba(X_test)
    nearer: float = relative_mmd_test(y_test, *three, labels=fitted.classes_).statistic
    margins = klom_margins(FineTune(net), X_train, y_train, forget=forget, n_models=4)
    asked, member = margins.unlearned_or_retrained(forget)
    worst: float = worst_rows(unlearning_epsilon(*margins, delta=0.01), share=0.2)
    kept: float = class_utility(y_test, fitted.predict(X_test), forgotten=[1]).kept
    print(reason, pvalue, change[same_class(y_test, y_train[forget])], nearer, worst, kept)
    print(u_lira(asked, member).accuracy, memorisation(*margins))
    distance = transport_distance(torch.rand(5, 3), torch.rand(4, 3), method="sliced").item()
    print(cost, labels, accuracy, value, rows, mean, deviation, low, tpr, auc, distance)
    print(report.to_json(indent=None), nomus_score(accuracy, 0.1), comparison.table)

    log = RequestLog("requests.jsonl", key=Path("requests.key"), retrain_after={"cost": 2.0})
    log.receive("2026-001", received=date(2026, 11, 2))
    evidence = log.unlearn(
        fitted,
        X_train,
        y_train,
        forget=forget,
        request="2026-001",
        X_unseen=X_test,
        y_unseen=y_test,
        on_return="mark",
        save=lambda unlearner: Path("model").write_bytes(pickle.dumps(unlearner)),
        n_resamples=10,
    )
    print(evidence.to_html()[:9], log.open_requests(), log.verify()[:1], len(log.to_html()) > 0)

    display = LossDistributionDisplay.from_estimator(
        {"unlearned": fitted, "frozen": trained},
        X_train,
        y_train,
        forget=forget,
        X_unseen=X_test,
        y_unseen=y_test,
    )
    display.figure_.savefig("losses.png")
    curve = UnlearningCurveDisplay.from_estimator(fitted, "train_loss", level="epoch")
    curve.ax_.set_title(str(curve.plot().lines_["train_loss"].get_label()))
    comparison.plot_front().ax_.grid(True)


if __name__ == "__main__":
    main()
