"""Passwords in addresses: found, and hidden in whatever is shown or written."""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "has_password", "masked"]

HIDDEN = "***"

_NAMES = "password|passwd|pwd|token|secret|api_?key|access_?key|signature|sig|key"
_PATTERNS = (
    # http://user:PASSWORD@host. What stands after a slash is the address's path.
    (re.compile(r"(://[^/@\s:]*):(?!\*\*\*@)[^/\s]+@"), rf"\1:{HIDDEN}@"),
    # Databases take a slash in a password: postgresql://user:PASS/WORD@host.
    (
        re.compile(r"((?<![a-z0-9+.-])(?!https?:)[a-z][a-z0-9+.-]*://[^/@\s:]+):(?!\*\*\*@|\d+/)[^@\s]+@"),
        rf"\1:{HIDDEN}@",
    ),
    # https://TOKEN@host: a server knows no user without a password.
    (re.compile(r"(\bhttps?://)(?!\*\*\*@)[^/@\s:]+@"), rf"\1{HIDDEN}@"),
    # postgresql://host/db?password=PASSWORD
    (re.compile(rf"([?&][\w.-]*(?:{_NAMES})=)(?!\*\*\*)[^&\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
)


def masked(text: str) -> str:
    """Return an address, or a text with addresses in it, with every password hidden."""
    if "://" not in text:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def has_password(text: str) -> bool:
    """Return whether an address in this text holds a password that is not hidden already."""
    return masked(text) != text
