"""Types shared by the parameter sections of the three training stages. Values live in `conf/stage/`; no torch here."""

from dataclasses import dataclass


@dataclass
class OptimizerConfig:
    """AdamW with linear warm-up to a constant rate (paper A.1), which may fall to zero at the end.

    Attributes:
        steps: optimizer steps.
        global_batch: samples a step over all devices; how many go through one device at once is a machine fact.
        decay_steps: last steps, over which the rate falls linearly to zero; 0 keeps it constant, as the paper does.
        max_grad_norm: gradients are scaled down to this norm.
    """

    steps: int
    global_batch: int
    learning_rate: float
    warmup_steps: int
    decay_steps: int
    beta1: float
    beta2: float
    weight_decay: float
    max_grad_norm: float


@dataclass
class TimesConfig:
    """Training times t: the logistic of a normal draw (choice 15: mean 0, deviation 1, as HuMo and Flow-DPO)."""

    logit_mean: float
    logit_std: float


@dataclass
class ConditionsConfig:
    """How conditions are drawn in training.

    Attributes:
        ref_latent_frames_min, ref_latent_frames_max: reference length, drawn uniformly, in latent frames
            (the paper's 12 to 20 frames are 3 to 5: 4k + 1 frames are encoded).
        text_dropout, audio_dropout: probability of nulling the prompt and the driving audio (choice 16).
        motion_probability: share of the samples that continue a video, of the clips that are long enough for it (choice
            11; the paper does not state it). 0 where the reference lies in the target's own clip, as in stage 1.
        motion_latent_frames: latents by which they continue it (2 in the paper).
        token_selection: keep only the reference tokens inside the face box (Table 4's variant keeps all).
        ref_audio: give the reference stream its audio (Table 3's variant does not).
    """

    ref_latent_frames_min: int
    ref_latent_frames_max: int
    text_dropout: float
    audio_dropout: float
    motion_probability: float
    motion_latent_frames: int
    token_selection: bool
    ref_audio: bool


@dataclass
class NumericsConfig:
    """What decides the last bits: threads of a process, and `float32` or `bfloat16` for matrix products."""

    threads: int
    dtype: str
