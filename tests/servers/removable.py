"""The end of a test's server: with the block that it was made for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Removable(ABC):
    """A server that runs when it has been made, and is removed at the end of a `with` block."""

    @abstractmethod
    def remove(self) -> None:
        """Stop it, and leave nothing behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
