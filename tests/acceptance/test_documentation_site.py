"""The documentation as a site: it builds without a warning, and says what the code says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

DOCS = ROOT / "docs"
FRAGMENT = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
MESSAGE = re.compile(r"^### `(.+)`$", re.MULTILINE)
PLACEHOLDER = "\0"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links, anchors and images within the site are checked; every page is in a table of contents."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(tmp_path / "doctrees")]
    result = subprocess.run(
        [*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    for page in DOCS.glob("*.md"):
        assert (tmp_path / "site" / f"{page.stem}.html").stat().st_size > 0


def test_commands_page_is_what_the_commands_say() -> None:
    sys.path.insert(0, str(DOCS))
    from generate_commands import TARGET, reference

    assert TARGET.read_text(encoding="utf-8") == reference()


def fragments() -> Iterator[Any]:
    for page in sorted(DOCS.glob("*.md")):
        for number, text in enumerate(FRAGMENT.findall(page.read_text(encoding="utf-8")), start=1):
            yield pytest.param(text, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("text", list(fragments()))
def test_configuration_that_a_page_shows_is_accepted(text: str, tmp_path: Path) -> None:
    """Each fragment, put into a ready configuration of its task, passes the schema of that task as a whole.

    (Plugins that it names are files of the page.)
    """
    from mltrain.config.load import check_config
    from mltrain.core.errors import ConfigError
    from mltrain.tasks.base import task_config_class

    shown = yaml.safe_load(text)
    shown.pop("plugins", None)
    refused = {}
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            check_config(merged(content, shown), {}, task_config_class)
        except ConfigError as error:
            refused[path.name] = str(error)
        else:
            return
    pytest.fail(f"no task takes it: {refused}")


def merged(content: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    return content | {
        key: merged(content[key], value) if isinstance(value, dict) and isinstance(content.get(key), dict) else value
        for key, value in shown.items()
    }


def test_callbacks_page_names_each_event_in_the_order_of_the_loop() -> None:
    from mltrain.callbacks.base import Callback

    events = [name for name in vars(Callback) if name.startswith("on_")]
    page = (DOCS / "callbacks.md").read_text(encoding="utf-8").partition("## Events")[2]
    shown = re.findall(r"^ *(on_\w+)", page, re.MULTILINE)
    assert sorted(shown) == sorted(events)
    of_the_loop = [event for event in events if event != "on_checkpoint"]
    assert [event for event in shown if event != "on_checkpoint"] == of_the_loop


def texts_of_the_source() -> set[str]:
    """Return every text in the package's source; what is filled in when it is used stands as one character."""
    found: set[str] = set()
    for path in (ROOT / "mltrain").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values]
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"%[-.0-9]*[a-z]", PLACEHOLDER, node.value))
    return found


TROUBLES = MESSAGE.findall((DOCS / "troubleshooting.md").read_text(encoding="utf-8"))


def test_a_message_that_is_not_in_the_source_would_be_found() -> None:
    assert not is_said("no such words as these", texts_of_the_source())
    assert is_said("no fold ...; available", {f"no fold {PLACEHOLDER}; available folds"})
    assert not is_said("no fold ...; available", {f"no fold {PLACEHOLDER}, available folds"})


def is_said(message: str, texts: set[str]) -> bool:
    """Return whether a text of the source holds the message; `...` stands for something that begins with a value."""
    gap = f"[^{PLACEHOLDER}]*{PLACEHOLDER}.*"
    pattern = re.compile(gap.join(re.escape(part) for part in re.split(r"\.\.\.", message)), re.DOTALL)
    return any(pattern.search(text) for text in texts)


def test_each_message_of_troubleshooting_is_one_that_the_program_says() -> None:
    texts = texts_of_the_source()
    assert len(TROUBLES) > 30
    assert [message for message in TROUBLES if not is_said(message, texts)] == []
