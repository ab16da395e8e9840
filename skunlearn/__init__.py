"""Machine unlearning with the habits of scikit-learn."""

from .ascent import NegGrad
from .base import BaseUnlearner
from .dlfd import DLFD
from .exact import Retrain
from .finetune import FineTune

__version__ = "0.1.0.dev0"

__all__ = ["DLFD", "BaseUnlearner", "FineTune", "NegGrad", "Retrain"]
