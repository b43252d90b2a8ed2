"""The development servers of JavaScript tools, which serve the pages and hand the rest on to an application.

Their versions are locked in requirements/development-servers, and fetched when a test first needs them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers.app import AppServer

_ROOT = Path(__file__).parents[2]
_TOOLS = _ROOT / "requirements/development-servers"
_FETCH_SECONDS = 300

# As `webpack serve` starts it, without webpack-cli, which only reads the configuration.
_SERVE_WEBPACK = """
import { createRequire } from "node:module";
const require = createRequire(process.argv[2] + "/");
const [webpack, Server] = [require("webpack"), require("webpack-dev-server")];
const { devServer } = require(process.argv[3] + "/webpack.config.js");
const compiler = webpack({ mode: "development", context: process.argv[3], entry: "./index.js" });
const options = { ...devServer, static: process.argv[3], port: process.argv[4], host: "127.0.0.1" };
await new Server(options, compiler).start();
"""
_PAGE = """<!doctype html><title>In development</title><script type="module" src="/index.js"></script>"""


def fetch() -> None:
    """Fetch the tools, unless they are there already."""
    command = [_ROOT / "scripts/npm-ci", _TOOLS.relative_to(_ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=_FETCH_SECONDS)


def vite(folder: Path, configuration: str, *, port: int) -> AppServer:
    """Vite with this vite.config.js."""
    _write_pages(folder)
    (folder / "vite.config.mjs").write_text(configuration)
    program = _TOOLS / "node_modules/vite/bin/vite.js"
    options = ["--host", "127.0.0.1", "--port", "{port}", "--strictPort", "--config", folder / "vite.config.mjs"]
    return AppServer(["node", str(program), str(folder), *map(str, options)], cwd=folder, port=port)


def webpack(folder: Path, configuration: str, *, port: int) -> AppServer:
    """webpack-dev-server with this webpack.config.js."""
    _write_pages(folder)
    (folder / "webpack.config.js").write_text(configuration)
    (folder / "serve.mjs").write_text(_SERVE_WEBPACK)
    return AppServer(["node", str(folder / "serve.mjs"), str(_TOOLS), str(folder), "{port}"], cwd=folder, port=port)


def _write_pages(folder: Path) -> None:
    folder.mkdir()
    (folder / "index.html").write_text(_PAGE)
    (folder / "index.js").write_text("document.title = 'Ready';\n")
