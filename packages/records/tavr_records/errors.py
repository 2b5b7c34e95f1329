"""Errors that are the user's to mend: one line that names the file, field, value and remedy."""


class InputError(ValueError):
    """Bad input (exit code 2). The message names the file, field, value and the remedy."""


class RefusedError(RuntimeError):
    """A check or the gate said no (exit code 3). The message names the verdict and the rule."""
