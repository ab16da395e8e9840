"""What a type checker refuses; nothing of it runs. Behind each line are the codes of its errors."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

import skunlearn
from skunlearn import (
    DLFD,
    SCRUB,
    SISA,
    UNSIR,
    AdvancedNegGrad,
    Distill,
    FineTune,
    NetworkUnlearner,
    compare_unlearners,
    shadow_margins,
    unlearning_report,
)
from skunlearn.base import Request
from skunlearn.datasets import fetch_cmu_faces, make_identity_images
from skunlearn.evaluation import RequestLog
from skunlearn.features import FeatureExtractor
from skunlearn.inspection import FeatureDistributionDisplay, UnlearningCurveDisplay
from skunlearn.metrics import attack_signal, forgetting_score, get_scorer, u_lira
from skunlearn.model_selection import ForgetKFold, forget_split

if TYPE_CHECKING:
    net = NeuralNetClassifier(nn.Linear, criterion=nn.CrossEntropyLoss)
    X, y = np.zeros((10, 2)), np.arange(10) % 2
    mask, indices = np.arange(10) < 3, np.arange(3)

    def one_side(u: torch.Tensor) -> torch.Tensor:
        return u

    def in_words(u: torch.Tensor, v: torch.Tensor) -> str:
        return "far"

    skunlearn.FinTune(net)  # E: attr-defined
    skunlearn.transport.wasserstein_distance(X, X)  # E: attr-defined
    FineTune(net, max_epochs="five")  # E: arg-type
    FineTune(net, lr="small")  # E: arg-type
    FineTune(net, epochs=5)  # E: call-arg
    FineTune(net, optimizer="adam")  # E: arg-type
    FineTune(net, random_state="seed")  # E: arg-type
    FineTune("net")  # E: arg-type
    FineTune(net, memory=3)  # E: arg-type
    FineTune(net, 5)  # E: call-arg
    AdvancedNegGrad(net, loss_cap="unseen")  # E: arg-type
    SCRUB(net, restore_best="yes")  # E: arg-type
    Distill(net, noise="full")  # E: arg-type
    UNSIR(net, noise_rows=None)  # E: arg-type
    DLFD(net, transport=7)  # E: arg-type
    DLFD(net, transport="greedy")  # E: arg-type
    DLFD(net, transport=one_side)  # E: arg-type
    DLFD(net, transport=in_words)  # E: arg-type
    DLFD(net, perturb_at=3)  # E: arg-type
    DLFD(net, clip=0.5)  # E: arg-type
    SISA(net, aggregate="median")  # E: arg-type
    SISA("tree")  # E: arg-type
    FeatureExtractor("net")  # E: arg-type
    FeatureExtractor(net, layer=5)  # E: arg-type
    skunlearn.transport.transport_distance(X, X)  # E: arg-type

    class Wrong(NetworkUnlearner):
        def _unlearn(self, request: Request) -> NeuralNet:
            net = self._copy(request.original)
            print(request.unseen)  # E: attr-defined
            self._train(net, request, (request.retain, None, "1"))  # E: arg-type
            return self._train(net, request, (request.retain, one_side, 1))  # E: arg-type

    unlearner = FineTune(net)
    unlearner.unlearn(X, y, forget="nonsense")  # E: arg-type
    unlearner.unlearn(X, y, forget=indices)  # E: arg-type
    unlearner.unlearn(X, y, forget=[0, 1, 2])  # E: list-item
    unlearner.unlearn(X, y)  # E: call-arg
    unlearner.fit(7, y)  # E: arg-type
    unlearner.fit(X, y, groups=mask)  # E: call-arg
    label: str = unlearner.score(X, y)  # E: assignment
    space: list[str] = unlearner.search_space()  # E: assignment

    attack_signal(y, X, signal="margin")  # E: arg-type
    name: str = forgetting_score([0.1, 0.2], [0.3, 0.4])  # E: assignment
    print(u_lira(X, mask).fpr)  # E: attr-defined
    get_scorer("accuracy")  # E: call-overload
    get_scorer("nomus")(unlearner, X, y, mask=mask)  # E: call-arg
    fetch_cmu_faces(target="age")  # E: call-overload
    make_identity_images(n_channels=2)  # E: call-overload
    ForgetKFold("five")  # E: arg-type
    print(forget_split(y).retained)  # E: attr-defined
    compare_unlearners([unlearner], X, y, forget=mask)  # E: call-arg
    compare_unlearners(["DLFD"], X, y, forget=mask, X_unseen=X)  # E: list-item
    print(shadow_margins(net, X, y, forget=indices).margin)  # E: arg-type, attr-defined
    unlearning_report(5, X, y, forget=mask, X_unseen=X).to_json(indent="two")  # E: arg-type
    RequestLog("log.jsonl")  # E: call-arg
    RequestLog("log.jsonl", key=7)  # E: arg-type
    log = RequestLog("log.jsonl", key=None)
    log.unlearn(unlearner, X, y, forget=mask, request=1, X_unseen=X, y_unseen=y)  # E: arg-type
    log.unlearn(unlearner, X, y, forget=mask, request="", X_unseen=X, on_return="")  # E: arg-type
    log.close("1", forgotten=True)  # E: call-arg
    UnlearningCurveDisplay.from_estimator(unlearner, "loss", level="step")  # E: arg-type
    FeatureDistributionDisplay.from_predictions({}, {}, projection="lda")  # E: arg-type
