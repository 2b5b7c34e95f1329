"""`tavr publish`, `pull`, `return` and `receipts`: a model's way to the bucket and out of it."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tavr_records.errors import VerificationError

if TYPE_CHECKING:
    from tavr_lineage.publication.publish import Progress

EXIT_NOT_VERIFIED = 4
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(publish)
    app.command()(pull)
    app.command("return")(give_back)
    app.command()(receipts)


def publish(
    version: Annotated[str, typer.Argument(help="A promoted version, such as v0.0.3.")], as_json: AsJson = False
) -> None:
    """Publish a version to $TAVR_S3_URL, and the stages it holds; an interrupted publication carries on."""
    from dataclasses import asdict

    from tavr_lineage.publication.publish import publish_version

    with _refusing(), _progress(quiet=as_json) as told:
        done = publish_version(Path.cwd(), version, told)
    if as_json:
        from tavr_cli.main import print_json

        print_json(asdict(done))
        return
    held = f", and holds {', '.join(done.stages)} there" if done.stages else ""
    print(f"{done.version} is at {done.url}{held}")
    verified = ", ".join(f"{count} by {how}" for how, count in sorted(done.verified.items()))
    print(f"{done.files} files, {done.bytes} bytes: {done.sent} sent, {done.copied} copied there; verified {verified}")
    for line in done.server:
        print(f"  {line}")


def pull(
    name: Annotated[str, typer.Argument(help="MODEL@STAGE or MODEL@VERSION, such as tavr@prod, tavr@v0.0.3.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    keys: Annotated[
        Path | None, typer.Option(help="Public keys that may sign a model, one a line; default $TAVR_TRUSTED_KEYS.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a published model, verify it against its signatures, and leave a receipt."""
    from dataclasses import asdict

    from tavr_lineage.publication.pull import find_reader
    from tavr_lineage.publication.pull import pull as fetch
    from tavr_lineage.publication.storage import need_storage

    with _refusing(), _progress(quiet=as_json) as told:
        done = fetch(need_storage(), name, out.resolve(), find_reader(Path.cwd(), keys), told)
    if as_json:
        from tavr_cli.main import print_json

        print_json({**asdict(done), "folder": str(done.folder)})
    else:
        print(f"{done.folder}: {done.receipt.artifact} {done.receipt.version}, {done.files} files, verified")
        print(f"{done.fetched} bytes fetched, {done.kept} were here; receipt {done.receipt.id}")


def give_back(
    folder: Annotated[Path, typer.Argument(help="A folder that `tavr pull` wrote.")], as_json: AsJson = False
) -> None:
    """Delete a pulled model and say so where it came from, so that it no longer counts as deployed."""
    from dataclasses import asdict

    from tavr_lineage.publication.pull import find_signer
    from tavr_lineage.publication.receipts import give_back as delete
    from tavr_lineage.publication.storage import need_storage

    with _refusing():
        receipt = delete(need_storage(), folder.resolve(), find_signer(Path.cwd()))
    if as_json:
        from tavr_cli.main import print_json

        print_json(asdict(receipt))
    else:
        print(f"{folder}: deleted; {receipt.artifact} {receipt.version} is returned (receipt {receipt.id})")


def receipts(
    version: Annotated[str | None, typer.Argument(help="One version; default all.")] = None,
    model: Annotated[str, typer.Option(help="The model's name.")] = "tavr",
    as_json: AsJson = False,
) -> None:
    """Who pulled which version, and whether the copy was returned."""
    from dataclasses import asdict

    from tavr_lineage.publication.receipts import list_receipts
    from tavr_lineage.publication.storage import need_storage

    copies = list_receipts(need_storage(), model, version)
    if as_json:
        from tavr_cli.main import print_json

        print_json([{**asdict(copy), "deployed": copy.deployed} for copy in copies])
        return
    for copy in copies:
        receipt = copy.receipt
        if receipt is None:
            print(f"{copy.path}: {copy.problem}")
            continue
        state = f"returned {copy.returned_at}" if copy.returned_at else "deployed"
        print(
            f"{receipt.version} {receipt.stage or '-'} {receipt.who}@{receipt.host} {receipt.at} {state} {copy.problem}"
        )
    if not copies:
        print("nobody pulled it")


@contextmanager
def _refusing() -> Generator[None]:
    """What does not verify ends with exit code 4."""
    try:
        yield
    except VerificationError as error:
        print(f"tavr: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_VERIFIED) from error


@contextmanager
def _progress(*, quiet: bool) -> Generator["Progress"]:
    """Bytes of each file on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bars:
        tasks: dict[str, TaskID] = {}

        def told(path: str, done: int, size: int) -> None:
            if path not in tasks:
                tasks[path] = bars.add_task(path, total=size)
            bars.update(tasks[path], completed=done)

        yield told
