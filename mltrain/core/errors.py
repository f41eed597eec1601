"""Errors that are for people: what, where, why and what to do, in one line."""

from __future__ import annotations

__all__ = [
    "TOLD_ELSEWHERE",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "HardwareError",
    "LostProcessError",
    "MltrainError",
    "RunFolderError",
    "SignalError",
    "one_line",
    "shortened",
]

# A note on an error of one process that another process of the same machine prints.
TOLD_ELSEWHERE = "Another process of the run tells this."


def one_line(text: object) -> str:
    """Return a text without its line breaks: file names and the errors of other programs may hold some."""
    lines = str(text).splitlines()
    return lines[0] if len(lines) == 1 else " ".join(line.strip() for line in lines if line.strip())


def shortened(text: object, most: int) -> str:
    """Return a text in one line of at most `most` characters, three dots in place of the rest."""
    line = one_line(text) if str(text) else ""
    return line if len(line) <= most else f"{line[: most - 3]}..."


class MltrainError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with `exit_code`.

    Args:
        what: what is wrong, with the values that are wrong.
        where: the file, line, config key or path it concerns.
        fix: what to do about it, as an instruction.
        problems: where several things are wrong, one whole message each; they take the place of the three others.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, problems: list[str] | None = None
    ) -> None:
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix
        self._problems = [one_line(problem) for problem in problems or []]

    def __str__(self) -> str:
        if self._problems:
            return " ".join(self._problems)
        message = f"{self.where}: {self.what}" if self.where else self.what
        return one_line(f"{message.rstrip('.')}. {self.fix}" if self.fix else message)

    @property
    def problems(self) -> list[str]:
        """One line for each problem."""
        return self._problems or [str(self)]


class ConfigError(MltrainError):
    """The configuration (file or command line) cannot be used."""


class DataError(MltrainError):
    """The data (files, splits, tables) cannot be used."""


class HardwareError(MltrainError):
    """The machine lacks what the configuration asks for."""


class CheckpointError(MltrainError):
    """A checkpoint is missing, damaged or belongs to something else."""


class RunFolderError(MltrainError):
    """A run folder cannot be created, locked or continued."""


class LostProcessError(MltrainError):
    """Another process of the run has died, hangs, has failed or cannot be reached, so that this one cannot go on.

    Args:
        what, where, fix: see `MltrainError`.
        timed_out: whether it has not answered in time; else its connection is gone.
        told_by: the rank of the process that prints it.
        exit_code: what the process ends with; 2 where the other has met something the user must mend.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        timed_out: bool = False,
        told_by: int = 0,
        exit_code: int = 75,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.timed_out, self.told_by, self.exit_code = timed_out, told_by, exit_code


class SignalError(KeyboardInterrupt):
    """A signal that ends a command.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number
