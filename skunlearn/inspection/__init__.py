"""Plots of what was forgotten."""

from skunlearn.inspection._curve import UnlearningCurveDisplay
from skunlearn.inspection._features import FeatureDistributionDisplay
from skunlearn.inspection._loss import LossDistributionDisplay
from skunlearn.inspection._tradeoff import TradeoffDisplay

__all__ = [
    "FeatureDistributionDisplay",
    "LossDistributionDisplay",
    "TradeoffDisplay",
    "UnlearningCurveDisplay",
]
