"""Where templates come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import Environment, PackageLoader, TemplateNotFound

from daemon.web.dashboard.html.rendering import Templates


def test_templates_are_read_at_once_so_that_an_upgrade_changes_none_under_a_daemon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = PackageLoader("daemon.web.dashboard")
    names = package.list_templates()
    before = {name: package.get_source(Environment(autoescape=True), name)[0] for name in names}
    templates = Templates()

    def gone(*_arguments: object, **_options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", gone)
    monkeypatch.setattr(Path, "open", gone)
    environment = Environment(loader=templates, autoescape=True)
    assert "base.html" in names
    for name in names:
        source, path, _is_current = templates.get_source(environment, name)
        assert source.split() == before[name].split()
        assert path.endswith(name)
    with pytest.raises(TemplateNotFound):
        templates.get_source(environment, "nothing.html")
