"""The version of this package: here and in pyproject.toml, held equal by a test."""

__all__ = ["__version__"]

__version__ = "0.1.0"
