"""The floors and rooms of the code: the README's picture and the import contracts, held against the imports.

The picture has a line for each floor, the highest first, and on it the rooms of that floor. What is indented is inside
the package on the line above.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("daemon", "eventstore")
NAMES_WIDTH = 50

Floors = list[list[str]]


def pictures() -> dict[str, Floors]:
    """Package → its floors as they are drawn, the highest first. `daemon` has `eventstore` below its own rooms."""
    section = (ROOT / "README.md").read_text().split("\n## Architecture\n")[1].split("\n## ")[0]
    drawn: dict[str, Floors] = {"daemon": []}
    package = "daemon"
    for line in section.split("```")[1].strip("\n").splitlines():
        names = re.split(r"\s{2,}", line[:NAMES_WIDTH].strip())
        if line.startswith(" "):
            drawn.setdefault(package, []).append(names)
        else:
            drawn["daemon"].append(names)
            package = names[0] if names[0] in PACKAGES else f"daemon.{names[0]}"
    return drawn


def contracts() -> dict[str, dict[str, Any]]:
    """Package → the import contract with the floors of its rooms."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {package: each for each in settings if each["type"] == "layers" for package in each["containers"]}


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False)


def rooms(package: str) -> set[str]:
    """What lies directly in a package: its modules and folders."""
    return {module.rpartition(".")[2] for module in graph().find_children(package)}


def room(module: str, package: str) -> str | None:
    """In which of the package's rooms a module lies. The event store counts as a room of the daemon."""
    if package == "daemon" and module.startswith("eventstore"):
        return "eventstore"
    return module.removeprefix(f"{package}.").partition(".")[0] if module.startswith(f"{package}.") else None


def ups(package: str, floors: Floors) -> set[tuple[str, str]]:
    """The imports that go up: importer, imported."""
    depth = {name: level for level, floor in enumerate(floors) for name in floor}
    return {
        (importer, imported)
        for importer in graph().modules
        if (above := room(importer, package)) in depth
        for imported in graph().find_modules_directly_imported_by(importer)
        if (below := room(imported, package)) in depth and depth[below] < depth[above]
    }


def packages_with_rooms() -> set[str]:
    """The packages in which there is another package."""
    packages = {module for module in graph().modules if graph().find_children(module)}
    return {package.rpartition(".")[0] for package in packages} - {""}


def public_types() -> Iterator[tuple[str, str]]:
    """Each class and each alias of a type at the top of a module, with its place."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for statement in ast.parse(path.read_text()).body:
                match statement:
                    case ast.ClassDef(name=name):
                        pass
                    case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                        if not re.fullmatch("[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", name):
                            continue  # a constant, a variable
                    case _:
                        continue
                if not name.startswith("_"):
                    yield name, f"{path.relative_to(ROOT)}:{statement.lineno}"


@pytest.mark.parametrize("package", pictures())
def test_every_room_is_in_the_picture(package: str) -> None:
    drawn = [name for floor in pictures()[package] for name in floor]
    there = rooms(package) - {"__main__"} | ({"eventstore"} if package == "daemon" else set())
    assert sorted(drawn) == sorted(there)


@pytest.mark.parametrize("package", pictures())
def test_imports_only_go_down_the_picture(package: str) -> None:
    assert ups(package, pictures()[package]) == set()


def test_the_large_packages_are_drawn_with_their_rooms() -> None:
    assert set(pictures()) == {"daemon", "daemon.web", "daemon.pipeline", "eventstore"}


@pytest.mark.parametrize("package", pictures())
def test_the_picture_has_the_floors_of_the_contract(package: str) -> None:
    layers = [re.split(r"\s*[|:]\s*", layer) for layer in contracts()[package]["layers"]]
    floors = [layer for layer in layers if layer != ["__main__"]]
    assert [sorted(floor) for floor in pictures()[package] if floor != ["eventstore"]] == [sorted(f) for f in floors]


def test_every_package_with_rooms_has_a_contract_that_names_all_of_them() -> None:
    assert set(contracts()) == packages_with_rooms()
    assert [contract["id"] for contract in contracts().values() if not contract["exhaustive"]] == []


def test_no_room_has_more_than_nine_modules() -> None:
    """One that grows is divided by subject, so that a look at a folder is enough."""
    folders = {module for module in graph().modules if graph().find_children(module)}
    modules = {each: {f"{each}.{name}" for name in rooms(each) - {"__main__"}} - folders for each in folders}
    assert {each: len(found) for each, found in modules.items() if len(found) > 9} == {}


def test_a_public_type_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for name, place in public_types():
        places[name].append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_module_of_the_event_store_is_in_the_list_of_its_readme() -> None:
    section = (ROOT / "eventstore" / "README.md").read_text().split("\n## The rooms\n")[1].split("\n## ")[0]
    listed: dict[str, set[str]] = {}
    for first, second in re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE):
        if first.startswith("**"):  # a room of one line names its modules behind it
            listed[first.strip("*")] = set(re.findall(r"`(\w+)`:", second))
        elif first.startswith("`"):
            next(reversed(listed.values())).update(re.findall(r"`(\w+)`", first))
    folders = {module for module in graph().modules if graph().find_children(module)}
    there = {each: {module for module in rooms(each) if f"{each}.{module}" not in folders} for each in folders}
    assert listed == {
        each.removeprefix("eventstore.").replace(".", "/"): modules
        for each, modules in there.items()
        if each.startswith("eventstore.") and modules
    }
