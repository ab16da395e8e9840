"""The methods of the study, what each is tuned over, and the controls of DLFD."""

import torch
from sklearn.base import clone
from sklearn.model_selection import ParameterSampler
from students import BATCH_SIZES, students
from variants import variants

from skunlearn import DLFD, SCRUB, AdvancedNegGrad, Distill, Retrain, all_unlearners
from skunlearn.transport import transport_distance

SHORTENED = "Retrain (shortened)"
DEFAULT = "Distill (default)"  # not tuned, and not ranked
GUARDED = " (guarded)"  # by closeness and leakage together; see guard.py
FEW_EPOCHS = 3  # of a long training, 2.5 %
SOME_EPOCHS = [4, 5, 6]  # up to 5 %
PUBLISHED = {"clean_weight": 0, "bn_batches": 0}

# ParameterSampler draws parameters in the order of their names. These had others when the settings
# in the tables were drawn, which have to be drawn again.
NAMES_WHEN_DRAWN = {
    "ascent_epochs": "max_steps",
    "forget_weight": "alpha",
    "include_forget": "with_forget",
    "kl_weight": "alpha",
    "l1_weight": "gamma",
    "threshold": "alpha",
}


def random_signs(u, v):
    """Transport whose gradient has the size of the real one at each feature, and random signs."""
    leaf = u.detach().requires_grad_()
    distance = transport_distance(leaf, v)
    (gradient,) = torch.autograd.grad(distance, leaf)
    signs = torch.randint_like(gradient, 2) * 2 - 1
    # Of the same value as the distance, which is recorded.
    return distance.detach() + ((u - leaf.detach()) * gradient * signs).sum()


CONTROLS = {
    "no perturbation": {"perturb_steps": 0},
    "random signs": {"transport": random_signs},
    "reversed": {"ot_weight": -1.0},
}


def tuned(domain):
    """Unlearners by name, each tuned with the same number of trials.

    SISA is not among them: it needs a training of its own beforehand, and the rows of several
    people hit every shard, which makes it a retraining.
    """
    net = domain.net
    found = {name: cls(net) for name, cls in all_unlearners() if name not in ("Retrain", "SISA")}
    found["AdvancedNegGrad (ceiling)"] = AdvancedNegGrad(net, loss_cap="val")
    found["SCRUB (rewind)"] = SCRUB(net, restore_best=True)
    found["DLFD (published)"] = DLFD(net, **PUBLISHED)
    found["Retrain (tuned, short)"] = Retrain(net)
    return found | variants(net) | students(net) if domain.is_long else found


def make(name, domain, params):
    """A method, or a control of one, with parameters."""
    if name == SHORTENED:
        return Retrain(domain.net, **params)
    if name == DEFAULT:
        return Distill(domain.net)
    name, _, control = name.removesuffix(GUARDED).partition(": ")
    unlearner = clone(tuned(domain)[name]).set_params(**params)
    return unlearner.set_params(**CONTROLS[control]) if control else unlearner


def draw_trials(name, domain, n_trials):
    """The settings that a method is tried with, by trial.

    Where training is long there are as many again of those that take few epochs, for the smallest
    caps, and as many of those that take some more, for the cap of 5 %; the variants of DLFD go
    without these. The first of each kind are those of fewer trials.
    """
    space = tuned(domain)[name].search_space()
    if name == "DLFD (published)":
        space["perturb_steps"] = [1, 3, 6]  # it takes several
    if name == "Distill":
        space["noise"] = list(domain.noise)  # whether it leaks is a question of the study
    if name in students(domain.net):
        space["batch_size"] = BATCH_SIZES
    found = _draw(space, n_trials, 0)
    if domain.is_long:
        if "max_epochs" in space:
            space["max_epochs"] = [n for n in space["max_epochs"] if n <= FEW_EPOCHS]
        found |= _draw(space, n_trials, 1, "few-")
        if "max_epochs" in space and name not in variants(domain.net):
            found |= _draw(space | {"max_epochs": SOME_EPOCHS}, n_trials, 2, "some-")
    return found


def _draw(space, n_trials, seed, prefix=""):
    names = {NAMES_WHEN_DRAWN.get(name, name): name for name in space}
    space = {then: space[name] for then, name in names.items()}
    return {
        f"{prefix}{i}": {names[then]: _plain(value) for then, value in trial.items()}
        for i, trial in enumerate(ParameterSampler(space, n_trials, random_state=seed))
    }


def _plain(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value
