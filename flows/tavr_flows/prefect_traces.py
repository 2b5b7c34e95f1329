"""What the Prefect server keeps of a subject: artifacts, which can be deleted, and logs, which go with their run."""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tavr_lineage.withdrawal.affected import Affected
from tavr_lineage.withdrawal.footprint import Footprint
from tavr_lineage.withdrawal.purge import Kept, Purged, Trace

_PAGE = 200
_LOGS_STAY = "logs hold ids at most; Prefect deletes them with their flow run, which is evidence of what ran"


@dataclass(frozen=True)
class PrefectTraces:
    """The server at an API address such as `http://127.0.0.1:4200/api`."""

    url: str

    def look(self, footprint: Footprint, affected: Sequence[Affected], remove: bool) -> Purged:
        """Find artifacts and logs that mention the subject; delete the artifacts if asked."""
        del affected
        artifacts = [
            _trace(f"prefect:artifact/{item['id']}", item.get("key") or item["id"])
            for item in self._all("artifacts")
            if footprint.named_in(json.dumps([item.get("data"), item.get("description"), item.get("key")]))
        ]
        runs = {str(item["flow_run_id"]) for item in self._all("logs") if footprint.named_in(str(item["message"]))}
        logs = [Kept(_trace(f"prefect:logs/{run}", f"logs of flow run {run}"), _LOGS_STAY) for run in sorted(runs)]
        if not remove:
            return Purged((), (*(Kept(trace, "") for trace in artifacts), *logs))
        for trace in artifacts:
            self._ask("DELETE", f"artifacts/{trace.path.rsplit('/', 1)[1]}")
        return Purged(tuple(artifacts), tuple(logs))

    def _all(self, what: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while page := self._ask("POST", f"{what}/filter", {"limit": _PAGE, "offset": offset}):
            yield from page
            offset += len(page)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method)  # noqa: S310 - our own http address
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
            answer = response.read()
        return json.loads(answer) if answer else None


def _trace(path: str, name: str) -> Trace:
    return Trace(path, name, "prefect", shared=True)
