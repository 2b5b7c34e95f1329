"""`tavr promote`, `rollback`, `reject`, `approve` and `status`: what may hold a stage, and who says so."""

from pathlib import Path
from typing import Annotated

import typer
from tavr_records.errors import InputError, RefusedError

Candidate = Annotated[str, typer.Argument(help="A run id, a version or a commit.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, promote, rollback, reject, approve):
        app.command()(command)


def status(as_json: AsJson = False) -> None:
    """Runs, versions with what is against them, and which version holds which stage."""
    from tavr_cli.main import print_json
    from tavr_cli.status import print_status, read_status

    found = read_status(Path.cwd())
    if as_json:
        print_json(found)
    else:
        print_status(found)


def promote(
    candidate: Candidate,
    to: Annotated[str, typer.Option(help="Target stage of conf/policy.yaml.")] = "dev",
    approver: Annotated[
        list[str] | None, typer.Option(help="Who approved, by name alone; see `tavr approve` for signatures.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the gate says.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a candidate and, if the gate allows, let it hold a stage by a signed tag."""
    from dataclasses import asdict

    from tavr_lineage.case import open_case
    from tavr_lineage.gate import Approval
    from tavr_lineage.promotion import log_refusal, promote_case, refusal
    from tavr_lineage.publication.publish import publish_or_tell

    from tavr_cli.main import print_json

    case = open_case(Path.cwd(), candidate, to, [Approval(name, "form") for name in approver or []])
    promotion = promote_case(Path.cwd(), case) if case.decision.allow and not dry_run else None
    published = publish_or_tell(Path.cwd(), promotion) if promotion is not None else None
    if as_json:
        print_json(
            {
                "allow": case.decision.allow,
                "reasons": list(case.decision.reasons),
                "notes": list(case.decision.notes),
                "intervals": {rule: interval.facts() for rule, interval in case.decision.intervals.items()},
                "commit": case.commit,
                "to": to,
                "promotion": asdict(promotion) if promotion is not None else None,
                "published": published,
            }
        )
    elif promotion is not None:
        print(f"{promotion.version} holds {to}: {', '.join(promotion.tags)}")
        print(published)
    elif case.decision.allow:
        print(f"the gate allows {candidate} for {to}")
    if not as_json:
        print(*case.decision.notes, sep="\n", end="\n" if case.decision.notes else "")
    if not case.decision.allow:
        if not dry_run:
            log_refusal(Path.cwd(), case)
        raise RefusedError(refusal(case))


def rollback(
    version: Annotated[str, typer.Argument(help="A version that held the stage before, such as v0.0.3.")],
    reason: Annotated[str, typer.Option(help="Why; it goes into the tag and the log.")],
    to: Annotated[str, typer.Option(help="The stage to roll back.")] = "dev",
    as_json: AsJson = False,
) -> None:
    """Let an earlier version hold a stage again, by one more signed tag."""
    from dataclasses import asdict

    from tavr_lineage.promotion import rollback as roll_back
    from tavr_lineage.publication.publish import publish_or_tell

    from tavr_cli.main import print_json

    promotion = roll_back(Path.cwd(), to, version, reason)
    published = publish_or_tell(Path.cwd(), promotion)
    if as_json:
        print_json({**asdict(promotion), "published": published})
    else:
        print(f"{promotion.version} holds {to} again: {promotion.tags[1]}")
        print(published)


def reject(
    candidate: Candidate,
    reason: Annotated[str, typer.Option(help="Why; it goes into the log.")],
    as_json: AsJson = False,
) -> None:
    """Say no to a candidate for good: it is never promoted, and never rolled back to."""
    from tavr_lineage.promotion import reject as turn_down

    from tavr_cli.main import print_json

    entry = turn_down(Path.cwd(), candidate, reason)
    if as_json:
        print_json(entry)
    else:
        print(f"run {entry['run']} is rejected: {entry['reason']}")


def approve(  # noqa: PLR0913 - to sign here, elsewhere, or to bring in what was signed
    candidate: Candidate,
    to: Annotated[str, typer.Option(help="The stage it may hold.")],
    key: Annotated[Path | None, typer.Option(help="SSH key to sign with; default: the one git signs with.")] = None,
    approver: Annotated[str, typer.Option("--as", help="Who approves, where the key alone does not say.")] = "",
    write_payload: Annotated[
        Path | None, typer.Option(help="Only write the text to sign, for `ssh-keygen -Y sign -n tavr-approval`.")
    ] = None,
    payload: Annotated[Path | None, typer.Option(help="A text signed elsewhere, with --signature.")] = None,
    signature: Annotated[Path | None, typer.Option(help="Its signature, as ssh-keygen wrote it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say yes to a candidate for a stage, signed with your own SSH key."""
    from tavr_lineage.promotion import approve as log_approval
    from tavr_lineage.trust.approvals import SignedApproval

    from tavr_cli.main import print_json

    if (payload is None) != (signature is None):
        raise InputError("--payload and --signature go together: the text, and what ssh-keygen wrote beside it")
    if payload is not None and signature is not None:
        signed = SignedApproval(_read(payload), _read(signature))
    else:
        text, signer = _approval_text(candidate, to, key, approver, alone=write_payload is not None)
        if write_payload is not None:
            write_payload.write_bytes(text.encode("utf-8"))
            told = f"ssh-keygen -Y sign -n tavr-approval -f KEY {write_payload}"
            if as_json:
                print_json({"payload": text, "sign_with": told})
            else:
                print(f"{write_payload}: sign it with `{told}`")
            return
        from tavr_lineage.trust.approvals import sign_approval

        signed = sign_approval(text, signer)
    entry = log_approval(Path.cwd(), candidate, to, signed)
    if as_json:
        print_json(entry)
    else:
        print(f"{entry['approver']} approves run {entry['run']} for {to} (line {entry['seq']} of the log)")


def _approval_text(candidate: str, to: str, key: Path | None, approver: str, *, alone: bool) -> tuple[str, Path]:
    """The text to sign and the key to sign it with; `alone` when only the text is wanted."""
    from tavr_lineage.candidates import open_finished
    from tavr_lineage.clock import now
    from tavr_lineage.git import repository_root
    from tavr_lineage.trust.approvals import approval_payload, approver_of, default_key

    root = repository_root(Path.cwd())
    found = open_finished(root, candidate)
    if alone and key is None:
        if not approver:
            raise InputError("--as: say who will sign")
        return approval_payload(found.record_sha256, to, approver, now()), Path()
    signer = key or default_key(root)
    return approval_payload(found.record_sha256, to, approver_of(root, signer, approver), now()), signer


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give the file that was signed") from error
