"""Adapters on a frozen base: the base stays, and what starts again starts as the module does."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skunlearn import BadTeacher, EUk, all_unlearners
from tests.networks import make_net

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft, and of runs that are too short

METHODS = [pytest.param(cls, id=name) for name, cls in all_unlearners()]


class Adapted(nn.Module):
    """A tiny transformer with LoRA, reading (rows, tokens, features)."""

    def __init__(self, base, head=None):
        super().__init__()
        adapters = peft.LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=head)
        self.model = peft.get_peft_model(deepcopy(base), adapters)

    def forward(self, X):
        return self.model(inputs_embeds=X).logits


@pytest.fixture(scope="module")
def base():
    """As if pretrained: its weights are large enough to be sure of rows."""
    config = transformers.BertConfig(
        vocab_size=5,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
        initializer_range=0.5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
        with torch.no_grad():
            model.classifier.weight.mul_(20)
    return model


@pytest.fixture
def builder(base):
    def build(head=None):
        return Adapted(base, head)

    return build


@pytest.fixture(scope="module")
def rows():
    X = np.random.default_rng(0).normal(size=(32, 3, 8)).astype("float32")
    return X, (X[:, 0, 0] > 0).astype(int), np.arange(32) < 8


def is_adapter(name):
    return "lora_" in name


def weights_of(module):
    return {name.partition("model.")[2]: p.detach() for name, p in module.named_parameters()}


@pytest.mark.parametrize("cls", METHODS)
def test_a_frozen_base_stays_and_adapters_move(cls, builder, rows):
    X, y, forget = rows
    net = make_net(builder, lr=0.05, max_epochs=2)
    few = {"max_epochs": 2} if "max_epochs" in cls(net).get_params(deep=False) else {}
    model = cls(net, random_state=0, **few).fit(X, y)
    original = None
    if "original" in cls.needs:
        original = weights_of(model.estimator_.module_)
        original = {name: p.clone() for name, p in original.items()}
    model.unlearn(X, y, forget=forget)
    nets = model.estimators_ if cls.__name__ == "SISA" else [model.estimator_]
    start = weights_of(builder())
    for unlearned in nets:
        weights = weights_of(unlearned.module_)
        assert weights.keys() == start.keys()
        for name, value in weights.items():
            if not is_adapter(name):
                assert torch.equal(value, start[name]), name
        before = original or start
        assert any(not torch.equal(weights[n], before[n]) for n in weights if is_adapter(n))


def test_euk_starts_adapters_as_adapters_start(builder, rows):
    X, y, forget = rows
    net = make_net(builder, lr=0.1, max_epochs=3).fit(X, y)
    model = EUk(FrozenEstimator(net), k=1.0, lr=1e-12, max_epochs=1, random_state=0)
    weights = weights_of(model.unlearn(X, y, forget=forget).estimator_.module_)
    old = weights_of(net.module_)
    for name, value in weights.items():
        if "lora_B" in name:
            assert old[name].abs().max() > 1e-4
            assert value.abs().max() < 1e-8
        elif "lora_A" in name:
            assert not torch.allclose(value, old[name])


def test_euk_starts_a_pretrained_head_at_its_pretrained_weights(base, builder, rows):
    X, y, forget = rows
    net = make_net(builder, module__head=["classifier"], lr=0.1, max_epochs=3).fit(X, y)
    model = EUk(FrozenEstimator(net), k=1, lr=1e-12, max_epochs=1, random_state=0)
    weights = weights_of(model.unlearn(X, y, forget=forget).estimator_.module_)
    (name,) = [n for n in weights if n.endswith("modules_to_save.default.weight")]
    assert not torch.allclose(weights_of(net.module_)[name], base.classifier.weight)
    torch.testing.assert_close(weights[name], base.classifier.weight)


def test_euk_refuses_the_adapters_of_an_instance(builder, rows):
    X, y, forget = rows
    net = make_net(builder(), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"part of an adapter.*function that builds"):
        EUk(FrozenEstimator(net)).unlearn(X, y, forget=forget)


@pytest.mark.parametrize("head", [None, ["classifier"]])
def test_the_untrained_teacher_is_unsure_where_the_base_is_pretrained(head, builder, rows):
    X, y, forget = rows
    net = make_net(builder, module__head=head, lr=0.1, max_epochs=1).fit(X, y)
    before = net.predict_proba(X)[forget]
    model = BadTeacher(FrozenEstimator(net), lr=1e-12, max_epochs=1, random_state=0)
    model.unlearn(X, y, forget=forget)
    loss = model.unlearning_history_[0, "train_loss"]
    # Of the first pass, when nothing has moved: KL(uniform || original), over a quarter of rows.
    expected = -0.5 * np.log(4 * before.prod(axis=1)).sum() / len(X)
    assert expected > 0.1
    assert loss == pytest.approx(expected, rel=1e-3)


class Sure(nn.Linear):
    """Starts at random, and sure of every row."""

    def reset_parameters(self):
        nn.init.normal_(self.weight, std=1e4)
        nn.init.zeros_(self.bias)


@pytest.mark.parametrize("instance", [False, True])
def test_an_untrained_teacher_that_is_sure_answers_the_same_for_all_classes(instance):
    X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    y, forget = (X[:, 0] > 0).astype(int), np.arange(40) < 20
    module = Sure(4, 2) if instance else (lambda: Sure(4, 2))
    net = make_net(module).initialize()
    with torch.no_grad():
        net.module_.weight.copy_(torch.eye(2, 4))
    before = net.predict_proba(X)[forget]
    model = BadTeacher(FrozenEstimator(net), lr=1e-12, max_epochs=1, random_state=0)
    model.unlearn(X, y, forget=forget)
    expected = -0.5 * np.log(4 * before.prod(axis=1)).sum() / len(X)
    assert model.unlearning_history_[0, "train_loss"] == pytest.approx(expected, rel=1e-3)
