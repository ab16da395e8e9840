"""The unlearning methods, a class each. `__all__` is the list of them."""

from skunlearn.methods.ascent import AdvancedNegGrad, NegGrad
from skunlearn.methods.distill import Distill
from skunlearn.methods.distillation import SCRUB, BadTeacher
from skunlearn.methods.dlfd import DLFD
from skunlearn.methods.finetune import FineTune, L1Sparse
from skunlearn.methods.last_layers import CFk, EUk
from skunlearn.methods.relabel import AMUN, RandomLabel
from skunlearn.methods.retrain import Retrain
from skunlearn.methods.selective import SSD, SalUn
from skunlearn.methods.sisa import SISA
from skunlearn.methods.unsir import UNSIR

__all__ = [
    "AMUN",
    "DLFD",
    "SCRUB",
    "SISA",
    "SSD",
    "UNSIR",
    "AdvancedNegGrad",
    "BadTeacher",
    "CFk",
    "Distill",
    "EUk",
    "FineTune",
    "L1Sparse",
    "NegGrad",
    "RandomLabel",
    "Retrain",
    "SalUn",
]
