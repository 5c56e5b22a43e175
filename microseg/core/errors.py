"""The errors of microseg. A message names the file, the value and the remedy; the command line prints it without traceback.

Exit status of the command line: 0 done, 2 wrong usage or input (nothing done), 3 some fields failed, 4 a gate failed,
130 interrupted.
"""


class MicrosegError(Exception):
    """Base of every error that a user can cause or correct. `exit_code` is the exit status of the command line."""

    exit_code = 2


class InputError(MicrosegError):
    """A path, the content of a file, an option or a configuration value cannot be used."""


class MissingExtraError(MicrosegError):
    """An action needs packages that are not installed. The message holds the `pip install` line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed. Remedy: pip install 'microseg[{extra}]'")


class FieldError(MicrosegError):
    """One micrograph cannot be measured; the others can."""

    exit_code = 3


class TrainingError(MicrosegError):
    """Training cannot go on. What was saved before stays usable."""


class GateError(MicrosegError):
    """A comparison is beyond its limit, and nothing is written."""

    exit_code = 4
