"""What a generation is conditioned on: text, driving audio, reference video with its audio, background, motion."""

import hashlib
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from tavr_model.reference_cache import ReferenceCache
from tavr_model.shapes import AudioWindows, Latents, RefLatents, TextEmbeds, TokenGrid, TokenPlane


@dataclass(frozen=True)
class Conditions:
    """The context `c` of one sample (paper section 3.1); anything left out is simply not in the token sequence.

    Attributes:
        text_embeds: target prompt `t_txt`, unpadded; zero rows means the null prompt.
        driving_audio: `a_drv`, windows of the motion frames (if any) followed by those of the generated frames.
        ref_latents: `z_ref`, the reference video's latents.
        ref_face_tokens: which reference tokens to keep (token selection); None keeps all.
        ref_audio: `a_ref`, one window a reference latent frame.
        bg_latents: `z_bg`, one latent frame: the masked background image, or in long videos the global anchor.
        bg_tokens: which background tokens to keep; None keeps all.
        motion_latents: `z_m`, the last latents of the previous window.
        ref_text_embeds: prompt the reference stream reads. Fixed for all samples, so that the stream does not depend
            on the guidance branch; None is the null prompt.
    """

    text_embeds: TextEmbeds
    driving_audio: AudioWindows | None = None
    ref_latents: RefLatents | None = None
    ref_face_tokens: TokenGrid | None = None
    ref_audio: AudioWindows | None = None
    bg_latents: Latents | None = None
    bg_tokens: TokenPlane | None = None
    motion_latents: Latents | None = None
    ref_text_embeds: TextEmbeds | None = None

    def drop(self, *, text: bool = False, audio: bool = False) -> "Conditions":
        """The same conditions with the prompt and / or the driving audio nulled, for guidance and for dropout.

        Null text is an empty prompt (all padding); null audio is zeros of the encoder's features, as all peers do.
        The reference audio stays: only `a_drv` and text are ever nulled.
        """
        dropped = self
        if text:
            dropped = replace(dropped, text_embeds=self.text_embeds[:0])
        if audio and self.driving_audio is not None:
            dropped = replace(dropped, driving_audio=torch.zeros_like(self.driving_audio))
        return dropped

    def digest(self) -> str:
        """SHA-256 of every tensor's name, shape and bytes: equal conditions give equal generations."""
        state = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                state.update(f"{field.name} {value.dtype} {tuple(value.shape)}".encode())
                state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return state.hexdigest()

    def to(self, device: torch.device | str) -> "Conditions":
        """The same conditions on another device."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part.to(device) for name, part in parts.items() if part is not None})


@dataclass(frozen=True)
class SampleInputs:
    """One sample of a packed batch: the noisy latents `z_t` and their conditions.

    With `reference`, the reference stream of these conditions has been computed before and is not computed again.
    """

    latents: Latents
    conditions: Conditions
    reference: ReferenceCache | None = None
