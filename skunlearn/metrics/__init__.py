"""Numbers that say how well a network forgot: functions of arrays, and scorers for searches."""

from skunlearn._engine.intervals import Interval
from skunlearn.metrics._attacks import (
    attack_signal,
    calibrated_signal,
    membership_inference_auc,
    membership_inference_report,
    membership_inference_tpr,
)
from skunlearn.metrics._changes import (
    ClassUtility,
    change_signal,
    class_utility,
    same_class,
)
from skunlearn.metrics._closeness import (
    average_gap,
    jensen_shannon_distance,
    overshoot,
    prediction_agreement,
    relative_jensen_shannon_distance,
    tug_of_war_score,
    zero_retrain_forgetting,
)
from skunlearn.metrics._collapse import (
    CorrelationCollapse,
    correlation_collapse,
    feature_transport_distance,
    linear_cka,
    linear_probe_score,
    scatter_ratio,
)
from skunlearn.metrics._per_example import PerExampleAttack, klom, rmia, u_lira
from skunlearn.metrics._rows import memorisation, unlearning_epsilon, worst_rows
from skunlearn.metrics._scorers import get_scorer, get_scorer_names
from skunlearn.metrics._scores import (
    forgetting_score,
    membership_inference_accuracy,
    nomus_score,
    sample_log_loss,
    utility_score,
)
from skunlearn.metrics._significance import (
    Significance,
    membership_inference_test,
    relative_mmd_test,
)

__all__ = [
    "ClassUtility",
    "CorrelationCollapse",
    "Interval",
    "PerExampleAttack",
    "Significance",
    "attack_signal",
    "average_gap",
    "calibrated_signal",
    "change_signal",
    "class_utility",
    "correlation_collapse",
    "feature_transport_distance",
    "forgetting_score",
    "get_scorer",
    "get_scorer_names",
    "jensen_shannon_distance",
    "klom",
    "linear_cka",
    "linear_probe_score",
    "membership_inference_accuracy",
    "membership_inference_auc",
    "membership_inference_report",
    "membership_inference_test",
    "membership_inference_tpr",
    "memorisation",
    "nomus_score",
    "overshoot",
    "prediction_agreement",
    "relative_jensen_shannon_distance",
    "relative_mmd_test",
    "rmia",
    "same_class",
    "sample_log_loss",
    "scatter_ratio",
    "tug_of_war_score",
    "u_lira",
    "unlearning_epsilon",
    "utility_score",
    "worst_rows",
    "zero_retrain_forgetting",
]
