"""Whether two ways to write a person mean the same one: `name <email>`, an email, or a name, in any case."""

import re
import unicodedata

_WHOLE = re.compile(r"\s*(?P<name>[^<>]*?)\s*<\s*(?P<email>[^<>]+?)\s*>\s*")


def person_names(text: str) -> frozenset[str]:
    """What a person goes by, folded: the name and the email of `name <email>`, else the text itself."""
    match = _WHOLE.fullmatch(text)
    parts = (match["name"], match["email"]) if match else (text,)
    return frozenset(folded for part in parts if (folded := _fold(part)))


def is_same_person(one: str, other: str) -> bool:
    """Whether two people share a name or an email.

    Names that only look alike (another script's letters) stay different: whom a principal names is fixed by
    `conf/approvers`, which is committed and read by people.
    """
    return bool(person_names(one) & person_names(other))


def _fold(text: str) -> str:
    """Compatibility forms, case, and spaces made one; what cannot be seen taken away."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    seen = "".join(char for char in folded if unicodedata.category(char) not in ("Cf", "Cc") or char.isspace())
    return " ".join(seen.split())
