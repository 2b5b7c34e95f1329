"""Types of the parameter section `stage3`."""

from dataclasses import dataclass

from tavr_training.config import NumericsConfig, OptimizerConfig, TimesConfig


@dataclass
class PreferenceConfig:
    """The objective of Eq. 7 and its anchor.

    Attributes:
        variant: `masked` (the paper's), `unmasked` or `real_winner` (Table 5: the real video wins, masked).
        beta: strength of the pull towards the frozen model (500).
        dpo_weight, mse_weight: the two lambdas (2 and 1).
        reduction: how the squared norm is taken (choice 13): `mean`, `masked_mean` or `sum`.
        anchor: whose latent the flow-matching term reads (choice 14): `winner` or `target` (the real video).
        text_dropout, audio_dropout: probability of nulling the prompt and the driving audio.
    """

    variant: str
    beta: float
    dpo_weight: float
    mse_weight: float
    reduction: str
    anchor: str
    text_dropout: float
    audio_dropout: float


@dataclass
class Stage3Config:
    """Masked DPO; `start` is the folder of the model it goes on from, which is also the frozen model."""

    seed: int
    start: str
    preference: PreferenceConfig
    times: TimesConfig
    optimizer: OptimizerConfig
    numerics: NumericsConfig
