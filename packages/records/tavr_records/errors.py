"""Errors that are the user's to mend: one line that names the file, field, value and remedy."""


class InputError(ValueError):
    """Bad input (exit code 2). The message names the file, field, value and the remedy."""


class RefusedError(RuntimeError):
    """A check or the gate said no (exit code 3). The message names the verdict and the rule."""


class VerificationError(RuntimeError):
    """A signature, digest, chain or proof does not hold (exit code 4). The message names what and why."""
