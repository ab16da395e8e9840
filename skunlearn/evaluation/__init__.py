"""Evaluation of unlearners: comparisons, reports, and the models that attacks on each row need."""

from skunlearn.evaluation.compare import UnlearnerComparison, compare_unlearners, pareto_front
from skunlearn.evaluation.relearning import relearning_time
from skunlearn.evaluation.report import UnlearningReport, unlearning_report
from skunlearn.evaluation.requests import RequestLog
from skunlearn.evaluation.shadow import KlomMargins, ShadowMargins, klom_margins, shadow_margins

__all__ = [
    "KlomMargins",
    "RequestLog",
    "ShadowMargins",
    "UnlearnerComparison",
    "UnlearningReport",
    "compare_unlearners",
    "klom_margins",
    "pareto_front",
    "relearning_time",
    "shadow_margins",
    "unlearning_report",
]
