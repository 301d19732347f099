"""A secret in memory: it is read on purpose or not at all."""

from __future__ import annotations

import hmac

from steersman.kernel.redact import MASK


class Secret:
    """A password, token or key. Printing, logging, formatting or encoding it gives `***`.

    Configuration decodes text into it by `from_text`. Two are compared in constant time.
    """

    __slots__ = ("_value",)

    EXPECTED = 'text, best a reference such as "${env:NAME}" or "${file:PATH}"'

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def from_text(cls, text: str | float) -> Secret:
        """A secret from configuration. A number is a mistake: its quotes are missing."""
        if not isinstance(text, str):
            raise ValueError("a secret is text: put it in quotes")
        return cls(text)

    def reveal(self) -> str:
        """The secret itself, for the one call that needs it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a secret is not copied into files")
