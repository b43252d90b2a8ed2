"""The build's hook: the long description is README.md with absolute links, since package indexes show it elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?=[^)\s])")


class ReadmeWithAbsoluteLinks(MetadataHookInterface):
    """Sets `readme`; `links-to` in pyproject.toml is the place where relative links lead."""

    def update(self, metadata: dict[str, Any]) -> None:
        """See hatchling."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": _RELATIVE.sub(self.config["links-to"], text),
        }
