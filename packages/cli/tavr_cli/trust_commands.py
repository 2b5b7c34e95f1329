"""`tavr keys` and `tavr checkpoint`: whose word the log takes, and what others can hold it to."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from tavr_records.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]
keys = typer.Typer(no_args_is_help=True, help="The keys that sign the audit log and the models.")


class Use(StrEnum):
    """What a key signs."""

    LOG = "log"
    MODEL = "model"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(checkpoint)
    app.add_typer(keys, name="keys")


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key the log names, with the lines it may sign."""
    from tavr_lineage.git import repository_root
    from tavr_lineage.trust.keyring import describe_keys
    from tavr_lineage.trust.log import open_log

    from tavr_cli.main import print_json

    keyring = open_log(repository_root(Path.cwd())).keyring
    found = describe_keys(keyring)
    if as_json:
        print_json({"keys": found, "untrusted": {str(line): why for line, why in keyring.untrusted.items()}})
        return
    for key in found:
        until = f"to line {key['revoked_from_seq'] - 1} ({key['reason']})" if key["revoked_from_seq"] else "on, active"
        print(f"{key['fingerprint']}  {key['use']:5}  from line {key['added_seq']} {until}")
    for line, why in keyring.untrusted.items():
        print(f"line {line} is not trusted: {why}")
    if not found:
        print("the log is empty: the first key to write to it will be the first on it")


@keys.command()
def add(
    public: Annotated[Path, typer.Argument(help="Public key file: OpenSSH form, or PEM.")],
    use: Annotated[Use, typer.Option(help="What it shall sign.")] = Use.LOG,
    as_json: AsJson = False,
) -> None:
    """Let one more key count from the next line on."""
    from tavr_lineage.git import repository_root
    from tavr_lineage.trust.custody import add_key
    from tavr_lineage.trust.keys import fingerprint, load_public

    entry = add_key(repository_root(Path.cwd()), load_public(public), use.value)
    _answer(entry, f"{fingerprint(entry['public_key'])} may sign ({use.value}), by line {entry['seq']}", as_json)


@keys.command()
def rotate(
    to: Annotated[Path | None, typer.Option(help="Private key file of the successor of $TAVR_SIGNING_KEY.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replace this machine's key: the next lines are signed with the new one, old lines stay valid."""
    from tavr_lineage.git import repository_root
    from tavr_lineage.trust.custody import rotate_key

    entry, new = rotate_key(repository_root(Path.cwd()), to)
    remedy = f"; now set TAVR_SIGNING_KEY={to}" if to is not None else ""
    _answer(entry, f"{new.fingerprint} replaces {entry['replaces']}, by line {entry['seq']}{remedy}", as_json)


@keys.command()
def revoke(
    fingerprint: Annotated[str, typer.Argument(help="SHA256:... of `tavr keys list`.")],
    reason: Annotated[str, typer.Option(help="Why; it goes into the log.")],
    from_seq: Annotated[int | None, typer.Option(help="First line no longer trusted; default: the next.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take the trust from a key, back to the line from which it may have been somebody else's."""
    from tavr_lineage.git import repository_root
    from tavr_lineage.trust.custody import revoke_key

    entry = revoke_key(repository_root(Path.cwd()), fingerprint, reason, from_seq)
    _answer(entry, f"{fingerprint} is not trusted from line {entry['from_seq']} on", as_json)


def checkpoint(  # noqa: PLR0913 - made here, signed there, written to the log
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Sign the log's head into this file.")] = None,
    timestamp: Annotated[
        str | None, typer.Option(help="With --out: address of an RFC 3161 authority; its token goes to FILE.tsr.")
    ] = None,
    witness: Annotated[Path | None, typer.Option(help="Add a witness's signature to this file.")] = None,
    key: Annotated[Path | None, typer.Option(help="With --witness: the witness's private ed25519 key.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write this file, witnessed or stamped, to the log.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pin the log's head, for third parties to keep: `tavr verify --since FILE` then proves nothing changed."""
    from dataclasses import asdict

    from tavr_lineage.trust.checkpoint_files import log_checkpoint, take_checkpoint, witness_checkpoint

    if sum(path is not None for path in (out, witness, log)) != 1:
        raise InputError("name one of --out, --witness and --log")
    if (witness is None) != (key is None) or (timestamp is not None and out is None):
        raise InputError("--witness FILE goes with --key KEY, and --timestamp URL with --out FILE")
    if log is not None:
        entry = log_checkpoint(Path.cwd(), log)
        vouching = [*entry["witnesses"], *(["a time stamp"] if entry["timestamp"] else [])]
        _answer(entry, f"line {entry['seq']}: {', '.join(vouching)} vouch for the first {entry['size']} lines", as_json)
    elif witness is not None and key is not None:
        made = witness_checkpoint(Path.cwd(), witness, key)
        named = ", ".join(made.witnesses) or "nobody that conf/witnesses names"
        _answer(asdict(made), f"{witness}: {made.head.size} lines, witnessed by {named}", as_json)
    elif out is not None:
        made = take_checkpoint(Path.cwd(), out, timestamp)
        _answer(asdict(made), f"{out}: {made.head.size} lines, head {made.head.head}", as_json)


def _answer(value: Any, line: str, as_json: bool) -> None:
    from tavr_cli.main import print_json

    if as_json:
        print_json(value)
    else:
        print(line)
