"""Numbers that say how well a network forgot: functions of arrays, and scorers for searches."""

from skunlearn.metrics._scorers import get_scorer, get_scorer_names
from skunlearn.metrics._scores import (
    forgetting_score,
    membership_inference_accuracy,
    nomus_score,
    sample_log_loss,
    utility_score,
)

__all__ = [
    "forgetting_score",
    "get_scorer",
    "get_scorer_names",
    "membership_inference_accuracy",
    "nomus_score",
    "sample_log_loss",
    "utility_score",
]
