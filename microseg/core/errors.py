"""One error tree. Every message names the file, the value and the remedy; the command line prints it without a traceback.

Exit status of the command line: 0 done, 2 wrong usage or input (nothing done), 3 some fields failed, 4 a gate failed,
130 interrupted.
"""


class MicrosegError(Exception):
    """Base of every error that a user can cause or mend. `exit_code` is what the command line exits with."""

    exit_code = 2


class InputError(MicrosegError):
    """A path, a file's content, an option or a configuration value that cannot be used."""


class MissingExtraError(MicrosegError):
    """A command needs packages that this installation does not have; the message is the `pip install` line."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed. Remedy: pip install 'microseg[{extra}]'")


class FieldError(MicrosegError):
    """One micrograph cannot be measured; the others can."""

    exit_code = 3


class TrainingError(MicrosegError):
    """Training cannot go on; what was saved before stays usable."""


class GateError(MicrosegError):
    """A comparison went beyond its limit, so nothing was written."""

    exit_code = 4
