"""Names and what they stand for: loaded when asked for, unknown ones met with the nearest, taken ones refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mltrain.core import registry as module
from mltrain.core.errors import ConfigError
from mltrain.core.plugins import load_plugins
from mltrain.core.registry import Registry, nearest


def make(builtin: dict[str, str] | None = None) -> Registry[Any]:
    return Registry("trainer", builtin=builtin or {}, group="mltrain.test_group", config_key="training.trainer_type")


@pytest.fixture
def builtin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry[Any]:
    """A registry whose "standard" stands in a module that is not imported yet."""
    (tmp_path / "standard_module.py").write_text(
        "import registry_under_test\n\n@registry_under_test.table.register('standard')\nclass Standard:\n    pass\n"
    )
    table = make({"standard": "standard_module"})
    holder: Any = type(sys)("registry_under_test")
    holder.table = table
    monkeypatch.setitem(sys.modules, "registry_under_test", holder)
    monkeypatch.syspath_prepend(tmp_path)
    yield table
    sys.modules.pop("standard_module", None)


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points of the group, to be filled by the test."""
    points: list[EntryPoint] = []

    def found(group: str, name: str | None = None) -> list[EntryPoint]:
        return [point for point in points if point.group == group and name in (None, point.name)]

    monkeypatch.setattr(module, "entry_points", found)
    return points


@pytest.mark.parametrize(
    ("word", "close"),
    [("acelerate", "accelerate"), ("standart", "standard"), ("standard", "standard"), ("xyz", None), ("", None)],
)
def test_nearest(word: str, close: str | None) -> None:
    assert nearest(word, ["accelerate", "standard", "mixed_precision"]) == close


def test_a_name_and_its_class() -> None:
    table = make()

    @table.register("mine")
    class Mine:
        pass

    assert table.get("mine") is Mine
    assert table.names() == ["mine"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("standrd", "Did you mean 'standard'?"),
        ("STANDARD", "Did you mean 'standard'?"),
        ("x", "Known: dp, standard."),
    ],
)
def test_an_unknown_name(name: str, hint: str) -> None:
    table = make({"standard": "sys"})
    table.register("dp")(int)
    with pytest.raises(ConfigError) as raised:
        table.get(name)
    assert str(raised.value) == f"training.trainer_type: unknown trainer {name!r}. {hint}"


def test_an_unknown_name_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match=r"Known: none\.$"):
        make().get("x")


def test_a_built_in_module_is_imported_when_its_name_is_asked_for(builtin: Registry[Any]) -> None:
    assert builtin.names() == ["standard"]
    assert "standard_module" not in sys.modules
    assert builtin.get("standard").__name__ == "Standard"
    assert builtin.get("standard") is sys.modules["standard_module"].Standard


def test_a_name_is_given_once(builtin: Registry[Any]) -> None:
    class First:
        pass

    class Second:
        pass

    builtin.register("one")(First)
    builtin.register("one")(First)
    with pytest.raises(ConfigError, match=r"^training.trainer_type: trainer 'one' is registered twice"):
        builtin.register("one")(Second)
    assert builtin.get("one") is First


def test_a_built_in_name_is_taken_before_its_module_is_imported(builtin: Registry[Any]) -> None:
    with pytest.raises(ConfigError, match="'standard' is registered twice"):
        builtin.register("standard")(int)
    assert builtin.get("standard").__name__ == "Standard"
    with pytest.raises(ConfigError, match="'standard' is registered twice"):
        builtin.register("standard")(int)


def test_the_same_class_made_anew_replaces_the_old() -> None:
    # A notebook cell that is run twice, a plugin that is mended and loaded again.
    table = make()
    versions = []
    for number in (1, 2):
        space: dict[str, Any] = {"__name__": "notebook"}
        exec("class Mine:\n    pass\n", space)
        space["Mine"].number = number
        versions.append(table.register("mine")(space["Mine"]))
    assert table.get("mine") is versions[1]


def test_entry_points_of_installed_packages(entry_points: list[EntryPoint]) -> None:
    entry_points += [
        EntryPoint("queue", "collections:deque", "mltrain.test_group"),
        EntryPoint("other", "collections:deque", "another.group"),
    ]
    table = make({"standard": "sys"})
    assert table.names() == ["queue", "standard"]
    from collections import deque

    assert table.get("queue") is deque
    with pytest.raises(ConfigError, match="Did you mean 'queue'"):
        table.get("quue")


@pytest.mark.parametrize("value", ["no_such_module_at_all:x", "collections:no_such_name"])
def test_an_entry_point_that_cannot_be_imported_is_named(entry_points: list[EntryPoint], value: str) -> None:
    entry_points.append(EntryPoint("broken", value, "mltrain.test_group"))
    with pytest.raises(ConfigError) as raised:
        make().get("broken")
    assert f"trainer 'broken' cannot be imported from {value}" in str(raised.value)


def test_the_registries_of_the_package_know_their_built_in_names() -> None:
    from mltrain.tasks.base import TASKS
    from mltrain.tracking.base import TRACKERS
    from mltrain.trainers.registry import TRAINERS

    assert {"standard", "mixed_precision", "accelerate"} <= set(TRAINERS.names())
    for table in (TASKS, TRACKERS, TRAINERS):
        for name in table._builtin:
            assert isinstance(table.get(name), type)


# ---- plugins -------------------------------------------------------------------------------------------------------


def test_a_plugin_is_imported_once() -> None:
    Path("plugin_counted.py").write_text(
        "from pathlib import Path\nwith Path('count').open('a') as f:\n    f.write('x')\n"
    )
    load_plugins(["plugin_counted.py"])
    load_plugins(["./plugin_counted.py", str(Path("plugin_counted.py").resolve())])
    assert Path("count").read_text() == "x"


def test_plugins_of_one_name_in_two_folders_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "plugin.py").write_text(f"from pathlib import Path\nPath('{folder}.done').touch()\n")
    load_plugins(["a/plugin.py", "b/plugin.py"])
    assert Path("a.done").exists()
    assert Path("b.done").exists()


def test_a_plugin_that_the_users_script_imported_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plugin_of_script.py").write_text(
        "from pathlib import Path\nwith Path('n').open('a') as f:\n    f.write('x')\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    __import__("plugin_of_script")
    load_plugins(["plugin_of_script.py"])
    assert Path("n").read_text() == "x"


def test_a_plugin_may_import_another(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plugin_base.py").write_text(
        "from mltrain.callbacks.base import Callback, register_callback\n\n"
        "@register_callback('based')\nclass Based(Callback):\n    pass\n"
    )
    Path("plugin_above.py").write_text("import plugin_base\n")
    monkeypatch.syspath_prepend(Path.cwd())
    load_plugins(["plugin_base.py", "plugin_above.py"])
    from mltrain.callbacks.base import CALLBACKS

    assert CALLBACKS.get("based").__name__ == "Based"


def test_a_plugin_that_takes_a_taken_name_is_told_so() -> None:
    Path("plugin_taking.py").write_text(
        "from mltrain.trainers.registry import register_trainer\n\nregister_trainer('standard')(int)\n"
    )
    with pytest.raises(ConfigError, match=r"^plugin_taking\.py:3, training\.trainer_type: trainer 'standard' is regis"):
        load_plugins(["plugin_taking.py"])


def test_an_abstract_class_is_told_with_its_own_line() -> None:
    Path("plugin_abstract.py").write_text(
        "from mltrain.tasks.base import Task, register_task\n\n@register_task('half')\nclass Half(Task):\n    pass\n"
    )
    with pytest.raises(ConfigError, match=r"^plugin_abstract\.py:3, Half: task 'half' lacks build_model, collate"):
        load_plugins(["plugin_abstract.py"])


KINDS = {
    "task": ("mltrain.tasks.base", "Task", "register_task"),
    "trainer": ("mltrain.trainers.registry", "TRAINERS", "register_trainer"),
    "tracker": ("mltrain.tracking.base", "Tracker", "register_tracker"),
    "callback": ("mltrain.callbacks.base", "Callback", "register_callback"),
    "image model": ("mltrain.models.registry", "IMAGE_MODELS", "register_image_model"),
    "text model": ("mltrain.models.text_models", "TEXT_MODELS", "register_text_model"),
    "tabular model": ("mltrain.models.tabular_models", "TABULAR_MODELS", "register_tabular_model"),
}


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test registers is gone after it: other tests list what is known."""
    tables = [_table(kind) for kind in KINDS]
    before = [dict(table._items) for table in tables]
    yield
    for table, items in zip(tables, before, strict=True):
        table._items.clear()
        table._items.update(items)


def _table(kind: str) -> Registry[Any]:
    return next(value for value in vars(import_module(KINDS[kind][0])).values() if isinstance(value, Registry))


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("mistake", ["1 / 0", "import a_package_that_is_not_there", "def broken(:"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_of_any_kind_that_fails_names_its_file_and_line(kind: str, mistake: str) -> None:
    module, base, register = KINDS[kind]
    path = Path(f"plugin_failing_{register}_{len(mistake)}.py")
    item = "type('A', (Task,), dict.fromkeys(Task.__abstractmethods__))" if kind == "task" else "int"
    path.write_text(
        f"from {module} import {base}, {register}\n\n{register}('failing_{len(mistake)}')({item})\n{mistake}\n"
    )
    with pytest.raises(ConfigError, match=rf"^{path.name}:4: \w+Error: .*\. Mend the plugin\.$") as raised:
        load_plugins([path.name])
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_from_installed_packages_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(kind)
    points = [
        EntryPoint("theirs", "collections:deque", table._group),
        EntryPoint("none", "no_such_module:x", table._group),
    ]
    monkeypatch.setattr(
        module,
        "entry_points",
        lambda group, name=None: [p for p in points if p.group == group and name in (None, p.name)],
    )
    assert table._group == f"mltrain.{kind.replace(' ', '_')}s"
    assert table.get("theirs").__name__ == "deque"
    with pytest.raises(ConfigError, match=rf"{kind} 'none' cannot be imported from no_such_module:x \(ModuleNotFound"):
        table.get("none")
    table._items.pop("theirs")
