"""Compatibility alias: the callbacks under the module name of the old package, now in `config.callbacks`."""

from .config.callbacks import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    MLflowLogger,
    TensorBoardLogger,
    TrainingCheckpoint,
    WandBLogger,
    WiSEFTCallback,
    list_callbacks,
)

__all__ = [
    "BestModelCheckpoint",
    "Callback",
    "EarlyStopping",
    "EvaluationCallback",
    "MLflowLogger",
    "TensorBoardLogger",
    "TrainingCheckpoint",
    "WandBLogger",
    "WiSEFTCallback",
    "list_callbacks",
]
