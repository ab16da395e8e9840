"""Every method's docstring says what its authors used, in parameters that the method has."""

import inspect
import re
from functools import partial

import numpy as np
import pytest
import torch
from skorch.callbacks import LRScheduler

from skunlearn import (
    AMUN,
    DLFD,
    SCRUB,
    UNSIR,
    AdvancedNegGrad,
    BadTeacher,
    L1Sparse,
    SalUn,
    all_unlearners,
)
from tests.networks import ConvNet, make_net

UNLEARNERS = dict(all_unlearners())


@pytest.mark.parametrize("cls", UNLEARNERS.values(), ids=UNLEARNERS.keys())
def test_published_settings_name_parameters_of_the_method(cls):
    (note,) = re.findall(r"\*\*Published settings\.\*\* (.*?)\n\n", cls.__doc__, re.DOTALL)
    settings = re.sub(r"LRScheduler\(.*?\)|eta_min=", "", note, flags=re.DOTALL)
    named = set(re.findall(r"(\w+)=", settings))
    assert named <= set(inspect.signature(cls).parameters)


SGD = partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4)
CONSTANT = LRScheduler(torch.optim.lr_scheduler.ConstantLR, factor=1)
SALUN = {"max_epochs": 10, "lr": 0.013, "batch_size": 256, "optimizer": SGD}
SCRUB_LARGE = {"max_epochs": 3, "ascent_epochs": 2, "kl_weight": 0.001, "ce_weight": 0.99}
AGE = {"max_epochs": 1, "clean_weight": 0, "bn_batches": 0, "clip": (0, 1), "lr": 0.008}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("cls", "params", "rates"),
    [
        (AdvancedNegGrad, {"forget_weight": 0.05 / 0.95, "lr": 0.0095, "max_epochs": 5}, CONSTANT),
        (SCRUB, SCRUB_LARGE | {"lr": 5e-4, "optimizer": SGD, "forget_batch_size": 512}, CONSTANT),
        (BadTeacher, {"max_epochs": 1, "optimizer": torch.optim.Adam, "lr": 1e-4}, None),
        (
            UNSIR,
            {"noise_rows": 256, "max_epochs": 2, "lr": 0.02, "optimizer": torch.optim.Adam},
            LRScheduler("StepLR", step_size=1, gamma=0.5),
        ),
        (SalUn, SALUN, None),
        (L1Sparse, {"l1_weight": 5e-4, "lr": 0.01, "max_epochs": 10}, None),
        (AMUN, {"radius": 0.04, "include_forget": True}, None),
        (DLFD, AGE | {"perturb_steps": 15, "step_size": 0.4, "ot_weight": 3}, None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_published_settings_run(cls, params, rates):
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 1, 8, 8)).astype(np.float32), np.arange(40) % 2
    net = make_net(ConvNet, max_epochs=2, callbacks=[] if rates is None else [("rates", rates)])
    unlearner = cls(net, random_state=0, **params).fit(X, y, forget=np.arange(40) < 8)
    seen = [epoch["event_lr"] for epoch in unlearner.unlearning_history_ if "event_lr" in epoch]
    if rates is CONSTANT:
        assert set(seen) == {params["lr"]}
    elif rates is not None:
        assert seen == [0.02, 0.01]
