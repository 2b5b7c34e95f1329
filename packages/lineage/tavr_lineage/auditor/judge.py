"""Verify a TAVR evidence file as `verify.py` does, and judge its promotion again: `python judge.py FILE.zip`.

Stands beside `verify.py` and `check_proof.py` and uses them; shares no code with TAVR. Approvals are verified, and
every rule of the policy that judged is applied to the record. Bootstrap intervals are not drawn again: their means are
computed here from the record's scores, and their bounds are taken from the log if they can belong to these scores.
Policies that ask for witnesses or a time stamp are told apart, for those two rules are not judged here.
"""
# fmt: off
# ruff: noqa: D103, I001

from __future__ import annotations

import base64
import json
import re
import sys
import unicodedata
from fnmatch import fnmatchcase
from typing import Any

from check_proof import check  # pyright: ignore[reportMissingImports]
from verify import Evidence, Failed, main, need, parse, sha256, ssh_signer  # pyright: ignore[reportMissingImports]

def names_of(person: str) -> set[str]:  # of `name <email>`, so that one person does not count as two
    parts = re.split("[<>]", unicodedata.normalize("NFKC", person).casefold())
    return {" ".join(part.split()) for part in parts} - {""}

def profile_of(record: Any) -> str:  # models are compared with their own size
    return record["params"].get("_compose", {}).get("profile", "")

def allows(line: list[str], at: str) -> bool:  # whether a line of `approvers` is for approvals, at a time
    options, second = dict(re.findall('([a-z-]+)="([^"]*)"', line[1])), re.sub("[^0-9]", "", at)
    after = options.get("valid-after", "0").strip("Z").ljust(14, "0")
    before = options.get("valid-before", "9").strip("Z").ljust(14, "0")
    return after <= second < before and "tavr-approval" in options.get("namespaces", "tavr-approval").split(",")

class Judge(Evidence):
    """The evidence, with two more steps."""

    STEPS = (*Evidence.STEPS, "approvals", "gate")

    def check_approvals(self) -> str:
        """Who said yes to this record and target before its promotion; a signed yes needs a key of `approvers`."""
        told, self.doubtful, judges = self.promoted, list[str](), ("approvers", "witnesses", "timestamp-roots.pem")
        present = {name: sha256(self.files[name]) for name in judges if name in self.files}
        need(told["judges"] == present, f"{', '.join(judges)}: not those of the promotion")
        self.approvals = [(who[:-7], "form") for who in told["approvals"] if who.endswith(" (form)")]
        lines = [line.split() for line in self.files.get("approvers", b"").decode().splitlines()]
        for entry in [e for e in self.log if e["event"] == "approved" and e["seq"] < told["seq"]]:
            if (entry["run"], entry["target"]) == (told["run"], told["target"]):
                who, text = entry["approver"], entry["payload"].encode()
                try:
                    signed = parse(text, "approval", b"")
                    key = base64.b64encode(ssh_signer(entry["approval_signature"], text, "tavr-approval", who)).decode()
                    mine = [line for line in lines if who in line[0].split(",") and key in line]
                    known = any(allows(line, signed["at"]) for line in mine)
                    need(known, f"{who}: signed by no key of theirs in approvers")
                    names = ("record_sha256", "target")
                    same = signed["approver"] == who and all(signed[name] == told[name] for name in names)
                    need(same, f"{who}: signed for another record, target or person")
                    self.approvals.append((who, "ssh-signed"))
                except Failed as error:
                    self.doubtful.append(str(error))
        return ", ".join([f"{who} ({how})" for who, how in self.approvals] + self.doubtful) or "none"

    def check_gate(self) -> str:
        """The gate, judged again from record and policy; of the intervals the bounds alone are taken from the log."""
        record, told, data, people = self.record, self.promoted, self.files["policy.json"], list[set[str]]()
        policy = parse(data, "policy.json", b"")
        need(sha256(data) == told["policy_json_sha256"], "policy.json: not the policy that was judged by")
        same = sha256(self.files["policy.yaml"]) == told["policy_sha256"]
        need(same, "policy.yaml: not the policy that was judged by")
        target, used, states = policy["targets"][told["target"]], record["consumption"], dict[str, str]()
        states.update((stage["name"], stage["state"]) for stage in record["stages"])
        patterns = [*target["reviews"], *policy["profile_reviews"].get(profile_of(record), [])]
        bad_reviews = list[str]()
        for row in [row for row in record["reviews"] if row["split"] in policy["reviewed_splits"]]:
            who = f"{row['reviewer']}/{row['assurance']}"
            known = row["review"] == "accepted" and any(fnmatchcase(who, pattern) for pattern in patterns)
            bad_reviews += [] if known or row["review"] == "rejected" else [f"{row['review']} by {who}"]
        for who, how in [(record["run"]["requested_by"], "ssh-signed"), *self.approvals]:  # the first does not count
            enough = how == "ssh-signed" or "form" in (target["approval_assurance"] or ["form"])
            if enough and not any(names_of(who) & other for other in people):
                people.append(names_of(who))
        lacks = len(people) - 1 < target["approvals"]
        bad = {
            "stages": [name for name in policy["required_stages"] if states.get(name) not in ("done", "cached")],
            "checks": [name for name in policy["required_checks"] if name not in record["verdicts"]]
            + [f"{stage} {check['id']}" for stage, verdict in record["verdicts"].items() for check in verdict["checks"]
               if check["severity"] == "critical" and not check["passed"]],
            "people": record["people"]["in_both"],
            "withdrawal": [*used["withdrawn_clips"], *used["unknown_clips"]],
            "tree": record["code"]["dirty_paths"] or ["dirty"] * record["code"]["dirty"],
            "licence": sorted({*record["licences"]["data"], *record["licences"]["weights"]} - set(target["licences"])),
            "review": bad_reviews,
            "approval": [f"{len(people) - 1} of {target['approvals']}", *self.doubtful] if lacks else [],
            "rejection": [f"line {e['seq']}" for e in self.log if e["event"] == "rejected" and e["seq"] < told["seq"]
                          and e["record_sha256"] == told["record_sha256"]],
            **self.judge_intervals(policy["benchmark"], target["champion"]),
        }
        told_bad = "; ".join(f"{rule}: {', '.join(reasons)}" for rule, reasons in bad.items() if reasons)
        need(not told_bad, told_bad)
        gone = told.get("withdrawn_champion")
        notes = ["NOT judged here: witnesses, time stamp"] if target["witnesses"] or target["timestamp"] else []
        if gone:
            notes.append(f"champion {gone['run']} NOT compared: {gone['kind']} {gone['value']} in it is withdrawn")
        notes += [f"refused before, log line {e['seq']}: {'; '.join(e['reasons'])}" for e in self.log
                  if e["event"] == "refused" and e["record_sha256"] == told["record_sha256"] and e["seq"] < told["seq"]]
        return "; ".join([f"every rule of {told['target']} holds", *notes])

    def judge_intervals(self, rule: Any, wanted: str) -> dict[str, list[str]]:
        """Against baseline and champion: the mean is computed here, and the logged bounds must enclose it."""
        mine, told, bad, tiny = self.record["benchmark"], self.promoted, dict[str, list[str]](), 1e-9
        scores, at = mine["scores"], rule["metric"]
        ours, others = scores[mine["metrics"]["candidate"]], {"benchmark": scores[mine["metrics"]["baseline"]]}
        past = [e for e in self.log if e["event"] in ("promoted", "rolled back") and e["seq"] < told["seq"]]
        held = [e["commit"] for e in past if e["target"] == told["target"]][-1:]
        if held and held[0] != told["commit"]:
            data = self.files["champion.json"]
            same = sha256(data) in [e["record_sha256"] for e in past if e["commit"] == held[0]]
            need(same, "champion.json: not the record of the version that held the stage")
            champion = parse(data, "champion.json")
            if told.get("withdrawn_champion"):
                self.check_withdrawn(champion, told["withdrawn_champion"])
            elif profile_of(champion) == profile_of(self.record):
                others["champion"] = champion["benchmark"]["scores"][champion["benchmark"]["metrics"]["candidate"]]
        for name, theirs in others.items():
            gains = [ours[pair][at] - theirs[pair][at] for pair in sorted(set(ours) & set(theirs))]
            one, mean = told["intervals"][name], sum(gains) / len(gains)
            low, high = one["low"], one["high"]
            same = one["pairs"] == len(gains) and one["metric"] == at and abs(one["mean"] - mean) < tiny
            same = same and min(gains) - tiny <= low <= mean + tiny and mean - tiny <= high <= max(gains) + tiny
            need(same, f"{name}: the logged interval is not one of these scores, whose mean is {mean:.4f}")
            floor = rule["minimum_difference"] if name == "benchmark" else 0
            good = high >= 0 if name == "champion" and wanted != "better" else low > floor
            good = good and len(gains) >= rule["minimum_pairs"]
            bad[name] = [] if good else [f"[{low:.4f}, {high:.4f}] over {len(gains)} pairs"]
        return bad

    def check_withdrawn(self, champion: Any, gone: Any) -> None:
        """The champion was no bar, for it used what was withdrawn by then."""
        proof, lines = parse(self.files["champion_proof.json"], "champion_proof.json"), list[Any]()
        names, digest = ("kind", "value"), self.promoted["withdrawn_sha256"]
        same = gone == {"run": champion["run"]["run_id"], **{name: proof[name] for name in names}} and "rows" in proof
        need(same, "champion_proof.json: of another subject or champion than the log names")
        check(proof, champion["consumption"]["subjects"]["merkle_root"], gone["kind"], gone["value"])
        for line in [b"", *self.files["withdrawn.jsonl"].splitlines(keepends=True)]:
            lines.append(line)
            if sha256(b"".join(lines)) == digest:
                break
        told = [one for one in map(json.loads, lines[1:]) if one.get("start_ms") is None]
        there = any(all(one[name] == gone[name] for name in names) for one in told)
        need(there, f"withdrawn.jsonl: {gone['value']} was not withdrawn when the champion was passed over")

if __name__ == "__main__":
    sys.exit(main(Judge))
