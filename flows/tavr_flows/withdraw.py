"""The flow `withdraw`: a letter of withdrawal from the form to the certificate."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed, State
from pydantic import BaseModel, ConfigDict, Field
from tavr_lineage.withdrawal.letter import Answer, answer
from tavr_lineage.withdrawal.tombstones import Request
from tavr_records.errors import InputError

from tavr_flows.means import withdrawal_means
from tavr_flows.withdraw_page import render_answer


class WithdrawParameters(BaseModel):
    """One withdrawal of one clip, person or source."""

    model_config = ConfigDict(extra="forbid", title="Withdraw")

    kind: Literal["clip", "person", "source"] = Field(default="person", description="What is withdrawn.")
    value: str = Field(min_length=1, max_length=300, description="Its id, or the key of the source.")
    start_ms: int | None = Field(default=None, ge=0, description="Of a source only: beginning of the section.")
    end_ms: int | None = Field(default=None, ge=1, description="Of a source only: end of the section.")
    reason: str = Field(
        min_length=1, max_length=2000, description="Why; it stays on the record, so without anybody's name."
    )
    purge: bool = Field(default=True, description="Remove what policy lets go of, and sign the certificate.")
    unknown: bool = Field(default=False, description="Block it even though nothing here knows it.")


@flow(name="withdraw", flow_run_name="withdraw a {parameters.kind}", persist_result=False)
def withdraw(parameters: WithdrawParameters) -> State[Any]:
    """Block what is withdrawn, judge every model anew, and purge the data where policy says so.

    A model that holds a stage is not taken away: the page gives the retrain that makes its successor, ready to be run.
    """
    root = Path.cwd()
    request = Request(
        parameters.kind, parameters.value, parameters.reason, parameters.start_ms, parameters.end_ms, parameters.unknown
    )
    try:
        found = answer(root, request, parameters.purge, withdrawal_means(root))
    except InputError as error:
        return Failed(name="BadInput", message=str(error))
    create_markdown_artifact(render_answer(found), key="withdrawal", description="What the withdrawal led to")
    for one in found.affected:
        if one.remedy.action == "retrain":
            get_run_logger().warning("run %s: %s", one.run_id, one.remedy.command)
    return Completed(message=told(found))


def told(found: Answer) -> str:
    """The outcome in one line."""
    flagged = [one for one in found.affected if one.remedy.action == "retrain"]
    removed = "" if found.purged is None else f", {len(found.purged.removed)} files removed"
    return (
        f"{len(found.tombstones.clips)} clips withdrawn, {len(found.affected)} models affected, "
        f"{len(flagged)} of them deployed{removed}"
    )
