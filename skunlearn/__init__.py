"""Machine unlearning with the habits of scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING

from skunlearn.base import BaseUnlearner
from skunlearn.evaluation import (
    compare_unlearners,
    klom_margins,
    shadow_margins,
    unlearning_report,
)
from skunlearn.methods import (
    AMUN,
    DLFD,
    SCRUB,
    SISA,
    SSD,
    UNSIR,
    AdvancedNegGrad,
    BadTeacher,
    CFk,
    Distill,
    EUk,
    FineTune,
    L1Sparse,
    NegGrad,
    RandomLabel,
    Retrain,
    SalUn,
)
from skunlearn.methods.base import NetworkUnlearner
from skunlearn.pipeline import unlearn_pipeline
from skunlearn.utils import all_unlearners, show_versions

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
    "Distill",
    "EUk",
    "FineTune",
    "L1Sparse",
    "NegGrad",
    "NetworkUnlearner",
    "RandomLabel",
    "Retrain",
    "SalUn",
    "all_unlearners",
    "compare_unlearners",
    "klom_margins",
    "shadow_margins",
    "show_versions",
    "unlearn_pipeline",
    "unlearning_report",
]

_SUBPACKAGES = ("callbacks", "datasets", "features", "inspection", "model_selection", "transport")


if TYPE_CHECKING:  # which would otherwise take every name for one of the package
    from skunlearn import callbacks as callbacks
    from skunlearn import datasets as datasets
    from skunlearn import features as features
    from skunlearn import inspection as inspection
    from skunlearn import model_selection as model_selection
    from skunlearn import transport as transport
else:

    def __getattr__(name):
        # Imported when asked for: some load parts of scikit-learn that skorch does without.
        if name in _SUBPACKAGES:
            return import_module(f"skunlearn.{name}")
        raise AttributeError(f"module 'skunlearn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES})
