"""The smallest TAVR transformers and conditions, with audio layers that do something."""

import torch
from diffusers import WanTransformer3DModel
from tavr_model.conditions import Conditions, SampleInputs
from tavr_model.transformer import TAVRTransformer3DModel
from training_world import AUDIO, BASE, TEXT_DIM, TRANSFORMER

WINDOW = 8


def wan(seed: int = 0) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(**BASE).eval()


def tavr(seed: int = 0, *, loud: bool = True) -> TAVRTransformer3DModel:
    """A TAVR transformer; `loud` gives the audio attention an output that is not zero."""
    torch.manual_seed(seed)
    model = TAVRTransformer3DModel(
        **BASE, audio_layers=AUDIO[0], audio_features=AUDIO[1], audio_window=WINDOW, **TRANSFORMER
    )
    if loud:
        for block in model.blocks:
            torch.nn.init.normal_(block.audio_cross_attn.to_out[0].weight, std=0.2)
    return model.eval()


def sample(seed: int, frames: int = 3, ref: int = 2, height: int = 4, motion: int = 0) -> SampleInputs:
    """A sample with ragged token selection; ref 0 leaves the reference out."""
    g = torch.Generator().manual_seed(seed)
    width = 6
    rows, columns = height // 2, width // 2
    faces = torch.rand(ref, rows, columns, generator=g) < 0.6
    if ref:
        faces[0, 0, 0] = True
    windows = (WINDOW, *AUDIO)
    conditions = Conditions(
        text_embeds=torch.randn(2 + seed % 5, TEXT_DIM, generator=g),
        driving_audio=torch.randn(motion + frames, *windows, generator=g),
        ref_latents=torch.randn(16, ref, height, width, generator=g) if ref else None,
        ref_face_tokens=faces if ref else None,
        ref_audio=torch.randn(ref, *windows, generator=g) if ref else None,
        bg_latents=torch.randn(16, 1, height, width, generator=g),
        bg_tokens=torch.rand(rows, columns, generator=g) < 0.7,
        motion_latents=torch.randn(16, motion, height, width, generator=g) if motion else None,
    )
    return SampleInputs(torch.randn(16, frames, height, width, generator=g), conditions)
