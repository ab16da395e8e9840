"""Machine unlearning with the habits of scikit-learn."""

from ._discovery import all_unlearners
from .ascent import NegGrad
from .base import BaseUnlearner
from .dlfd import DLFD
from .exact import Retrain
from .finetune import FineTune

__version__ = "0.1.0.dev0"

__all__ = [
    "DLFD",
    "BaseUnlearner",
    "FineTune",
    "NegGrad",
    "Retrain",
    "all_unlearners",
]
