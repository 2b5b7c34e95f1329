"""Parameters of `preferences` and `check_preferences`."""

from dataclasses import dataclass


@dataclass
class PreferencesConfig:
    """How preference pairs are mined.

    Attributes:
        model: the stage2 model that draws both winner and loser.
        target_pairs: stop when so many pairs are accepted (paper A.1: 800).
        min_margin: identity similarity between winner and loser, at least (paper A.1: 0.20).
        max_draws: generations of one condition, at most.
        round_conditions: conditions drawn together; a choice, since the last round decides which pairs exist.
        ref_latent_frames: reference length of every condition, in latent frames.
    """

    model: str
    vae: str
    scheduler: str
    identity: str
    target_pairs: int
    min_margin: float
    max_draws: int
    round_conditions: int
    ref_latent_frames: int
    num_frames: int
    steps: int
    text_guidance: float
    audio_guidance: float
    shard_bits: int
    seed: int


@dataclass
class CheckPreferencesConfig:
    """Limits of `check_preferences`."""

    min_pairs: int
    min_margin: float
    max_abs_latent: float
