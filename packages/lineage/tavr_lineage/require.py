"""One sentence for what a parser needs of foreign bytes."""


def require(holds: object, otherwise: str) -> None:
    """Go on only if something holds.

    Raises:
        ValueError: it does not; `otherwise` says what is wrong instead.
    """
    if not holds:
        raise ValueError(otherwise)
