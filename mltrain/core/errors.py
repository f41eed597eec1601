"""Errors that are for people: what, where, why and what to do, in one line."""

from __future__ import annotations

__all__ = ["CheckpointError", "ConfigError", "DataError", "HardwareError", "MltrainError", "RunFolderError"]


class MltrainError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with `exit_code`.

    Args:
        what: what is wrong, with the values that are wrong.
        where: the file, line, config key or path it concerns.
        fix: what to do about it, as an instruction.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message.rstrip('.')}. {fix}" if fix else message)

    def __str__(self) -> str:
        # One line whatever the parts hold: file names may contain line breaks.
        return " ".join(str(self.args[0]).splitlines())


class ConfigError(MltrainError):
    """The configuration (file or command line) cannot be used. `problems` holds one message a problem."""

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, problems: list[str] | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.problems = problems or [str(self)]


class DataError(MltrainError):
    """The data (files, splits, tables) cannot be used."""


class HardwareError(MltrainError):
    """The machine lacks what the configuration asks for."""


class CheckpointError(MltrainError):
    """A checkpoint is missing, damaged or belongs to something else."""


class RunFolderError(MltrainError):
    """A run folder cannot be created, locked or continued."""
