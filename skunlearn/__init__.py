"""Machine unlearning with the habits of scikit-learn."""

from skunlearn.base import BaseUnlearner
from skunlearn.evaluation.report import unlearning_report
from skunlearn.evaluation.shadow import klom_margins, shadow_margins
from skunlearn.methods._network_unlearner import NetworkUnlearner
from skunlearn.methods.ascent import AdvancedNegGrad, NegGrad
from skunlearn.methods.distillation import SCRUB, BadTeacher
from skunlearn.methods.dlfd import DLFD
from skunlearn.methods.finetune import CFk, EUk, FineTune, L1Sparse
from skunlearn.methods.relabel import AMUN, RandomLabel
from skunlearn.methods.retrain import Retrain
from skunlearn.methods.selective import SSD, SalUn
from skunlearn.methods.sisa.ensemble import SISA
from skunlearn.methods.unsir import UNSIR
from skunlearn.pipeline import unlearn_pipeline
from skunlearn.utils._discovery import all_unlearners

__version__ = "0.1.0.dev0"

__all__ = [
    "AMUN",
    "DLFD",
    "SCRUB",
    "SISA",
    "SSD",
    "UNSIR",
    "AdvancedNegGrad",
    "BadTeacher",
    "BaseUnlearner",
    "CFk",
    "EUk",
    "FineTune",
    "L1Sparse",
    "NegGrad",
    "NetworkUnlearner",
    "RandomLabel",
    "Retrain",
    "SalUn",
    "all_unlearners",
    "klom_margins",
    "shadow_margins",
    "unlearn_pipeline",
    "unlearning_report",
]
