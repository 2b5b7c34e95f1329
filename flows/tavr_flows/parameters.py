"""The form of a retrain: what the Prefect page shows, what the server validates, and what the flow validates again."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Profile = Literal["micro", "tiny", "small", "wan-1.3b", "wan-14b"]
Override = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]*(\.[a-zA-Z0-9_]+)+=[^\s;|&`$<>\\]{1,200}$",
        description="one value of conf/, such as stage3.max_steps=200",
    ),
]


class RetrainParameters(BaseModel):
    """One retrain: a new candidate on its own branch, from the sources to the gate."""

    model_config = ConfigDict(extra="forbid", title="Retrain")

    profile: Profile = Field(default="tiny", description="Sizes and weights: a file of conf/profile.")
    base_run: str = Field(
        default="latest",
        pattern=r"^(latest|none|\d{8}-[0-9a-f]{8})$",
        description="Run whose finished stages are kept where nothing changed: latest (of the profile), none, an id.",
    )
    overrides: list[Override] = Field(
        default=[], max_length=50, description="Values of conf/ to change for this run only, as section.key=value."
    )
    reason: str = Field(default="", max_length=2000, description="Why this run is made; it goes on the record.")
    promote: bool = Field(
        default=True, description="Let the candidate hold dev when the gate allows it; if off, it is only judged."
    )
    allow_dirty: bool = Field(
        default=False, description="Run uncommitted changes too; the record says so and the gate refuses to promote."
    )
