"""What is done when a letter of withdrawal comes: tombstones, every model's remedy, the purge and its certificate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tavr_records.ids import sha256_bytes
from tavr_records.withdrawals import Withdrawal
from tavr_records.withdrawn_faces import WithdrawnFace

from tavr_lineage.clock import now
from tavr_lineage.git import main_checkout, read_file, repository_root
from tavr_lineage.policy import POLICY, artifact_name, parse_policy
from tavr_lineage.promotion import actor
from tavr_lineage.publication.storage import open_storage
from tavr_lineage.publication.unpublication import delete_published
from tavr_lineage.trust.keys import signing_key
from tavr_lineage.trust.log import append, read_log
from tavr_lineage.withdrawal.affected import Affected, candidates, find_affected, judge_holders
from tavr_lineage.withdrawal.certificate import store_certificate
from tavr_lineage.withdrawal.faces import FACES, keep_face
from tavr_lineage.withdrawal.footprint import Footprint, read_footprint
from tavr_lineage.withdrawal.purge import Kept, Purged, Trace, TrainedOn, demand_no_run, find_traces, purge
from tavr_lineage.withdrawal.tombstones import WITHDRAWN, Request, Tombstones, withdraw
from tavr_lineage.withdrawal.withdrawal_policy import WithdrawalPolicy

Outside = Callable[[Footprint, Sequence[Affected], bool], Purged]
"""Finds what a service outside the file system keeps of a subject and, if asked, removes it."""
FaceOf = Callable[[Path, Sequence[str], float, str], WithdrawnFace | None]
"""(root, clip ids, least similarity, time) -> the template of the face in them, None when no face of them is left."""


@dataclass(frozen=True)
class Means:
    """What the caller can reach that this package cannot: services by kind (`prefect`, `published`), and faces."""

    outside: Mapping[str, Outside] = field(default_factory=dict[str, Outside])
    face_of: FaceOf | None = None


@dataclass(frozen=True)
class Answer:
    """What a letter led to.

    Attributes:
        related: clips of the same face under another label, for a human to look at; nothing was done to them.
        holders: for every target stage the version that holds it, with the gate's reasons against it now.
        purged: None when no purge was asked for; `certificate` names it.
    """

    tombstones: Tombstones
    affected: tuple[Affected, ...]
    holders: Mapping[str, Mapping[str, Any]]
    related: tuple[str, ...]
    purged: Purged | None = None
    certificate: str = ""
    face_kept: bool = False


def answer(root: Path, request: Request, do_purge: bool, means: Means | None = None) -> Answer:
    """Withdraw, judge every model anew and, if asked, purge.

    Raises:
        InputError: a bad request; or a purge while a run is in progress, with the tombstones already written.
    """
    root = repository_root(root)
    means = means or Means()
    policy_data = read_file(root, "HEAD", str(POLICY)) or b""
    policy = parse_policy(policy_data, str(root / POLICY)).withdrawal
    tombstones = withdraw(root, request, now())
    lines = tombstones.lines
    affected = tuple(find_affected(root, lines))
    face_kept = _keep_face(root, tombstones, policy, means)
    found = Answer(tombstones, affected, judge_holders(root), _related(root, affected, lines), face_kept=face_kept)
    if not do_purge:
        return found
    demand_no_run(main_checkout(root))
    footprint = read_footprint(root, lines)
    trained = [TrainedOn(one.run_id, one.commit) for one in affected if one.trained]
    done = _purge(root, footprint, affected, trained, policy, means)
    certificate = _certify(root, request, found, done, sha256_bytes(policy_data))
    return replace(found, purged=done, certificate=certificate)


def _keep_face(root: Path, tombstones: Tombstones, policy: WithdrawalPolicy, means: Means) -> bool:
    if not policy.face_match.enabled or means.face_of is None or not tombstones.added:
        return False
    face = means.face_of(root, tombstones.clips, policy.face_match.least_similarity, tombstones.withdrawn_at)
    if face is not None:
        keep_face(root, face)
    return face is not None


def _related(root: Path, affected: Sequence[Affected], lines: Sequence[Withdrawal]) -> tuple[str, ...]:
    """Clips that the pairs stage took for the same person by face, but that the tombstones do not cover."""
    hit = {one.commit: set(one.clips) for one in affected}
    found: set[str] = set()
    for one in candidates(root):
        mine = hit.get(one.commit)
        if not mine:
            continue
        rows = one.used.to_pylist()
        faces = {row["identity"] for row in rows if row["clip_id"] in mine} - {""}
        others = (row for row in rows if row["identity"] in faces and row["clip_id"] not in mine)
        found |= {str(row["clip_id"]) for row in others if not any(line.covers(row) for line in lines)}
    return tuple(sorted(found))


def _purge(  # noqa: PLR0913 - a purge has these parts
    root: Path,
    footprint: Footprint,
    affected: Sequence[Affected],
    trained: Sequence[TrainedOn],
    policy: WithdrawalPolicy,
    means: Means,
) -> Purged:
    done = purge(root, find_traces(root, footprint, trained), policy)
    removed, kept = list(done.removed), list(done.kept)
    outside = {"published": lambda *_: _published(root, affected, policy.purge["published"]), **means.outside}
    for kind, look in outside.items():
        wanted = policy.purge[kind]
        more = look(footprint, affected, wanted)
        removed += more.removed
        reason = policy.keep_reasons.get(kind, "")
        kept += [one if one.reason else Kept(one.trace, " ".join(reason.split())) for one in more.kept]
    if "prefect" not in outside and (main_checkout(root) / ".work/prefect").is_dir():
        trace = Trace(".work/prefect", ".work/prefect", "prefect", shared=True)
        kept.append(Kept(trace, "not looked into: no Prefect server is running; start `make up` and purge again"))
    return Purged(tuple(removed), tuple(kept))


def _published(root: Path, affected: Sequence[Affected], wanted: bool) -> Purged:
    """Published versions of the affected models, by the log: deleted from the storage that is configured here."""
    versions = {version for one in affected for version in one.versions}
    told = {str(entry.get("version", "")).split("@")[-1] for entry in read_log(root) if entry["event"] == "published"}
    storage = open_storage() if wanted else None
    if storage is None:
        traces = [Trace(f"published:{name}", name, "published", shared=True) for name in sorted(versions & told)]
        reason = "policy wants it removed, and TAVR_S3_URL is not set: set it and purge again" if wanted else ""
        return Purged((), tuple(Kept(trace, reason) for trace in traces))
    artifact = artifact_name(root)
    found = [removal for name in sorted(versions & told) for removal in delete_published(storage, artifact, name)]
    traces = [(Trace(one.url, f"{one.what} {one.version_id}".strip(), "published", shared=True), one) for one in found]
    return Purged(
        tuple(trace for trace, one in traces if one.removed),
        tuple(Kept(trace, one.why) for trace, one in traces if not one.removed),
    )


def _certify(root: Path, request: Request, found: Answer, done: Purged, policy_sha256: str) -> str:
    """Sign and store the certificate and log it; returns its sha256."""
    key = signing_key(root)
    at = now()
    tombstones = {"path": WITHDRAWN, "reason": "the tombstones: they block the same footage from coming back"}
    block = {"path": FACES, "reason": "a keyed template of the face, where policy permits: it blocks the face"}
    statement = {
        "withdrawal": {**request.subject, "seq": found.tombstones.seq, "withdrawn_at": found.tombstones.withdrawn_at},
        "purged_at": at,
        "actor": actor(root),
        "policy_sha256": policy_sha256,
        "clips": list(found.tombstones.clips),
        "removed": [asdict(trace) for trace in done.removed],
        "kept": [{**asdict(one.trace), "reason": one.reason} for one in done.kept],
        "block": [tombstones, *([block] if found.face_kept else [])],
    }
    digest = store_certificate(root, statement, key)
    facts = {
        **request.subject,
        "withdrawn_seq": found.tombstones.seq,
        "certificate_sha256": digest,
        "removed": len(done.removed),
        "kept": len(done.kept),
        "policy_sha256": policy_sha256,
        "actor": actor(root),
    }
    append(root, "purged", at, facts)
    return digest
