"""What the policy says of withdrawals: what is purged, why the rest stays, and whether a face may block a re-ingest."""

from dataclasses import dataclass

from tavr_records.errors import InputError

from tavr_lineage.withdrawal.inventory import KINDS

ALWAYS_KEPT = ("ids", "history")
DECIDED = tuple(kind for kind in KINDS if kind not in (*ALWAYS_KEPT, "nobody"))


@dataclass
class FaceMatchPolicy:
    """Whether a template of a withdrawn face is kept, and from which cosine similarity on it refuses a clip."""

    enabled: bool
    least_similarity: float


@dataclass
class WithdrawalPolicy:
    """`purge` says yes or no to each kind of place; `keep_reasons` says why, for every kind that stays."""

    purge: dict[str, bool]
    keep_reasons: dict[str, str]
    face_match: FaceMatchPolicy


def check_withdrawal_policy(policy: WithdrawalPolicy, where: str) -> None:
    """Every kind of place is decided, and whatever stays has a reason.

    Raises:
        InputError: a kind is missing or unknown, a reason is missing, or the similarity is none.
    """
    if sorted(policy.purge) != sorted(DECIDED):
        wrong = ", ".join(sorted(set(policy.purge) ^ set(DECIDED)))
        raise InputError(f"{where}: withdrawal.purge: {wrong} missing or unknown; give each of {', '.join(DECIDED)}")
    for kind in (*ALWAYS_KEPT, *(kind for kind, purged in policy.purge.items() if not purged)):
        if not policy.keep_reasons.get(kind, "").strip():
            raise InputError(f"{where}: withdrawal.keep_reasons.{kind}: no reason; say why it stays")
    if not 0 < policy.face_match.least_similarity <= 1:
        raise InputError(
            f"{where}: withdrawal.face_match.least_similarity is {policy.face_match.least_similarity}; give 0 < x <= 1"
        )
