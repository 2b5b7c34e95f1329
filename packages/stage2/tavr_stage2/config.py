"""Types of the parameter section `stage2`."""

from dataclasses import dataclass

from tavr_training.config import ConditionsConfig, NumericsConfig, OptimizerConfig, TimesConfig


@dataclass
class Stage2Config:
    """Cross-scene fine-tuning; `start` is the folder of the model it goes on from."""

    seed: int
    start: str
    conditions: ConditionsConfig
    times: TimesConfig
    optimizer: OptimizerConfig
    numerics: NumericsConfig
