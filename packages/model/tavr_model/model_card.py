"""The model card that goes with a saved pipeline."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from tavr_records.atomic import write_bytes

from tavr_model.transformer import TAVRTransformer3DModel

_TEXT = """
# TAVR

A talking avatar from a **video reference** shot in another scene, driving speech, a background and a prompt, on
Wan2.1. {parameters} parameters, of which {audio} are TAVR's audio layers.

```python
from tavr_model.pipeline import TAVRPipeline

pipeline = TAVRPipeline.from_pretrained("this folder")
frames = pipeline(
    reference_video=frames_of_the_person,  # uint8 [R, H, W, 3] at 25 fps
    reference_audio=sound_of_that_video,  # float32 at 16 kHz
    driving_audio=speech,  # float32 at 16 kHz
    background=picture,  # uint8 [H, W, 3]
    prompt="A woman talks in a kitchen.",
).frames[0]
```

## What it is for, and what not

It makes people appear to say what they did not say. Use it with the consent of the person shown, and say that the
video is generated. Which clips and people it was trained on is on the record of its release (`record.json`).

## How it was made

{layers} blocks of width {width}; audio of {audio_layers} layers of {audio_features} features; rotary offsets of target,
background and reference: {offsets}.
"""


def write_model_card(path: Path, transformer: TAVRTransformer3DModel) -> None:
    """Write a card with the facts of `transformer`."""
    config = transformer.config
    data = ModelCardData(
        license="apache-2.0",
        library_name="diffusers",
        pipeline_tag="any-to-any",
        tags=["talking-avatar", "audio-driven", "video-generation", "wan2.1"],
    )
    text = _TEXT.format(
        parameters=f"{transformer.num_parameters():,}",
        audio=f"{sum(transformer.audio_sizes().values()):,}",
        layers=config["num_layers"],
        width=config["num_attention_heads"] * config["attention_head_dim"],
        audio_layers=config["audio_layers"],
        audio_features=config["audio_features"],
        offsets=", ".join(str(config[f"{kind}_offset"]) for kind in ("target", "background", "reference")),
    )
    write_bytes(path, str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text}")).encode())
