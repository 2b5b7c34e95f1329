"""Types of the parameter section `stage1`."""

from dataclasses import dataclass

from tavr_training.config import ConditionsConfig, NumericsConfig, OptimizerConfig, TimesConfig


@dataclass
class TransformerConfig:
    """What TAVR adds to the base (the base's own shape is its checkpoint's).

    Attributes:
        text_len: length to which the base pads prompts with zero embeddings.
        audio_tokens: L, audio tokens a latent frame.
        audio_hidden: width inside the audio projector.
        target_offset, background_offset, reference_offset: temporal rotary positions of z, z_bg and z_ref.
    """

    text_len: int
    audio_tokens: int
    audio_hidden: int
    target_offset: int
    background_offset: int
    reference_offset: int


@dataclass
class Stage1Config:
    """Same-scene video pretraining; `base` is the folder of the pretrained WanTransformer3DModel."""

    seed: int
    base: str
    transformer: TransformerConfig
    conditions: ConditionsConfig
    times: TimesConfig
    optimizer: OptimizerConfig
    numerics: NumericsConfig
