"""What README shows receivers is what the product ships. That it works is tests/acceptance/test_snippets.py."""

from pathlib import Path

import pytest

HERE = Path(__file__).parents[3]
README = (HERE / "README.md").read_text()
SNIPPETS = {"verify.py": "python", "verify.mjs": "js", "verify.go": "go", "verify.php": "php", "verify.rb": "ruby"}


@pytest.mark.parametrize(("file", "fence"), SNIPPETS.items())
def test_each_snippet_stands_in_readme_to_the_letter(file: str, fence: str) -> None:
    assert f"```{fence}\n{(HERE / 'daemon/data/snippets' / file).read_text()}```" in README


def test_every_snippet_has_its_place() -> None:
    assert {path.name for path in (HERE / "daemon/data/snippets").iterdir() if path.is_file()} == set(SNIPPETS)
