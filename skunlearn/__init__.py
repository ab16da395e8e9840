"""Machine unlearning with the habits of scikit-learn."""

from ._discovery import all_unlearners
from .ascent import AdvancedNegGrad, NegGrad
from .base import BaseUnlearner
from .distillation import SCRUB, BadTeacher
from .dlfd import DLFD
from .exact import Retrain
from .finetune import CFk, EUk, FineTune, L1Sparse
from .pipeline import unlearn_pipeline
from .relabel import AMUN, RandomLabel
from .report import unlearning_report
from .selective import SSD, SalUn
from .shadow import klom_margins, shadow_margins
from .sisa import SISA
from .unsir import UNSIR

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
    "RandomLabel",
    "Retrain",
    "SalUn",
    "all_unlearners",
    "klom_margins",
    "shadow_margins",
    "unlearn_pipeline",
    "unlearning_report",
]
