"""The README's picture of the house, held against the imports."""

import re
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[3]


def floors() -> list[list[str]]:
    """The rooms of each floor, the highest first."""
    picture = (ROOT / "README.md").read_text().split("## The house")[1].split("```")[1]
    return [re.split(r"\s{2,}", line[:50].strip()) for line in picture.strip().splitlines()]


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    return "eventstore" if package == "eventstore" else rest.partition(".")[0]


def test_every_room_is_in_the_picture() -> None:
    rooms = {
        path.stem for path in (ROOT / "daemon").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} | {"eventstore"} == {name for floor in floors() for name in floor}


def test_imports_only_go_down() -> None:
    height = {name: -level for level, floor in enumerate(floors()) for name in floor}
    graph = grimp.build_graph("daemon", "eventstore", exclude_type_checking_imports=False)
    crossings = {
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if room(importer) in height and room(imported) in height and height[room(importer)] < height[room(imported)]
    }
    assert crossings == set()
