"""Every unlearner through scikit-learn's checks and the contract that they all share."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skunlearn import DLFD, FineTune, NegGrad, Retrain

from .networks import make_net

UNLEARNERS = [DLFD, FineTune, NegGrad, Retrain]


@parametrize_with_checks([cls(make_net(max_epochs=20), random_state=0) for cls in UNLEARNERS])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
