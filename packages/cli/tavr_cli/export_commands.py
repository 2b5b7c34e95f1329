"""`tavr export`: a model's record in the formats of others."""

import json
from pathlib import Path
from typing import Annotated

import typer

_FORMATS = "openlineage, prov, cyclonedx, croissant, annex-iv or art-53"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


def export(
    model: Annotated[str, typer.Argument(help="tavr@v0.0.3, v0.0.3, a stage such as dev, a run id or a commit.")],
    form: Annotated[str, typer.Option("--format", help=_FORMATS)],
    out: Annotated[str, typer.Option("--out", "-o", help="A file, a folder, or for openlineage an http address.")],
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Write a view of a model's record: lineage, provenance, bill of materials, data set, AI Act pages."""
    from tavr_lineage.exports.dossier import open_dossier
    from tavr_lineage.exports.write import demand_format, write_export
    from tavr_records.errors import InputError

    demand_format(form)
    dossier = open_dossier(Path.cwd(), model)
    told = {"model": dossier.name, "commit": dossier.commit, "record_sha256": dossier.record_sha256, "format": form}
    if out.startswith(("http://", "https://")):
        if form != "openlineage":
            raise InputError(f"{out}: only openlineage can be sent to an address; name a file or a folder")
        from tavr_lineage.exports.openlineage import openlineage_events, send

        events = openlineage_events(dossier)
        send(events, out)
        answer = {**told, "sent": len(events), "address": out}
        line = f"{dossier.name}: {len(events)} events sent to {out}"
    else:
        files = write_export(dossier, form, Path(out))
        answer = {**told, "files": files}
        line = f"{dossier.name}: {', '.join(files)}"
    print(json.dumps(answer, indent=2, sort_keys=True) if as_json else line)
