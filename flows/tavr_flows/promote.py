"""The flow `promote`: the gate's answer for one candidate, and on allow the signed tags."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed, State
from pydantic import BaseModel, ConfigDict, Field
from tavr_lineage.case import Case, open_case
from tavr_lineage.gate import Approval
from tavr_lineage.promotion import promote_case, refusal
from tavr_lineage.publication.publish import publish_or_tell
from tavr_records.errors import InputError, RefusedError, VerificationError


class PromoteParameters(BaseModel):
    """One promotion of one finished candidate."""

    model_config = ConfigDict(extra="forbid", title="Promote")

    candidate: str = Field(
        pattern=r"^(\d{8}-[0-9a-f]{8}|v\d+\.\d+\.\d+|[0-9a-f]{7,64})$", description="A run id, a version or a commit."
    )
    target: Literal["dev", "staging", "prod"] = Field(default="dev", description="The stage it shall hold.")
    approver: str = Field(
        default="", max_length=200, description="Who approves, by name; signed approvals are on the log."
    )
    dry_run: bool = Field(default=False, description="Only say what the gate says.")


@flow(name="promote", flow_run_name="promote {parameters.candidate} to {parameters.target}", persist_result=False)
def promote(parameters: PromoteParameters) -> State[Any]:
    """Judge a candidate as things stand today and, if the gate allows, let it hold a stage."""
    root = Path.cwd()
    approvals = [Approval(parameters.approver, "form")] if parameters.approver else []
    try:
        case = open_case(root, parameters.candidate, parameters.target, approvals)
        create_markdown_artifact(
            _page(case), key="gate", description=f"What the gate says of run {case.record['run']['run_id']}"
        )
        if parameters.dry_run and case.decision.allow:
            return Completed(message=f"the gate allows it for {parameters.target}")
        if parameters.dry_run:
            return Failed(name="Denied", message=refusal(case))
        promotion = promote_case(root, case)
    except InputError as error:
        return Failed(name="BadInput", message=str(error))
    except RefusedError as error:
        return Failed(name="Denied", message=str(error))
    except VerificationError as error:
        return Failed(name="NotVerified", message=str(error))
    get_run_logger().info("%s holds %s by tag %s", promotion.version, promotion.target, promotion.tags[1])
    return Completed(message=f"{promotion.version} holds {promotion.target}; {publish_or_tell(root, promotion)}")


def _page(case: Case) -> str:
    rules = "\n".join(f"| {rule} | {'holds' if held else 'REFUSES'} |" for rule, held in case.decision.rules)
    reasons = "\n".join(f"- {reason}" for reason in case.decision.reasons) or "- none"
    notes = "".join(f"\n{note}\n" for note in case.decision.notes)
    verdict = "allows" if case.decision.allow else "refuses"
    title = f"# The gate {verdict} run {case.record['run']['run_id']} for {case.target}"
    return f"{title}\n\n| rule | answer |\n| --- | --- |\n{rules}\n\n## Reasons to refuse\n\n{reasons}\n{notes}"
