"""Show runs in the browser: MLflow's UI, started lean, on this machine only, on the store of a run.

  mltrain ui                      the store of the working folder
  mltrain ui runs/digits_fold_0   the store of this run, and the run's own page

The address is printed once the page is there. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mltrain.workflows.ui import Server
    from mltrain.workflows.ui_store import Store

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder, the port and the store."""
    parser.add_argument(
        "target", nargs="?", type=Path, metavar="RUN_OR_DIR", help="a run, or a folder of runs (default: this folder)"
    )
    parser.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1; 0: any free one (default: 5000)")
    parser.add_argument(
        "--tracking_uri", "--tracking-uri", metavar="URI", help="the store, where it is not the run's own"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it; of a store on a server print the server's address and return 0."""
    from mltrain.core.masking import masked
    from mltrain.workflows.ui import end_on_signals, free_port, serve
    from mltrain.workflows.ui_store import find_store

    store = find_store(arguments.target, arguments.tracking_uri)
    if store.is_server:
        print(_page_on_server(store))
        return 0
    port = free_port(arguments.port)
    _say(f"Starting MLflow's UI on {masked(store.uri)}; it takes a few seconds.")
    with end_on_signals(), serve(store.uri, port) as server:
        print(_page(server, store), flush=True)
        _say("Ctrl-C ends it.")
        return server.wait()


def _page_on_server(store: Store) -> str:
    """Return the address of the named run on the server that holds it, or the server's own."""
    from mltrain.core.masking import masked
    from mltrain.tracking.mlflow_address import read_address
    from mltrain.workflows.ui import run_page

    address = read_address(store.run) if store.run is not None else {}
    server = masked(store.uri).rstrip("/")
    if address.get("tracking_uri") != masked(store.uri) or not server.startswith("http"):
        return server
    return server + run_page(address["experiment_id"], address["run_id"])


def _page(server: Server, store: Store) -> str:
    """Return the address of the named run, or of the UI where the store does not have it."""
    from mltrain.tracking.mlflow_address import run_ids

    if store.run is None:
        return server.address
    page = server.page_of(run_ids(store.run, store.uri))
    if page is None:
        _say(f"This store does not have the run {store.run.name}; mltrain sync {store.run.path} sends it.")
    return page or server.address


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
