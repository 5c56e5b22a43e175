"""What a user should know about a field, with the kind by which reports group it."""

from __future__ import annotations

from typing import Literal, Self

NoticeKind = Literal[
    "file", "page", "pixel size", "data bar", "not measured", "grey values", "colour", "settings", "alarm"
]


class Notice(str):
    """A sentence about a field.

    Attributes:
        kind: what it is about; reports group notices by it.
    """

    kind: NoticeKind

    def __new__(cls, kind: NoticeKind, text: str) -> Self:
        """Args:
        kind: what the sentence is about.
        text: the sentence.
        """
        notice = super().__new__(cls, text)
        notice.kind = kind
        return notice

    def __getnewargs__(self) -> tuple[NoticeKind, str]:  # type: ignore[override]
        """What a copy is made of."""
        return self.kind, str(self)
