"""Authorities that are trusted: read once, and anew after they have changed."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from daemon.pipeline.http_client.tls import tls_context
from tests.support.values.certificates import issue, pem


def test_authorities_are_read_anew_only_after_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(issue("first authority")))
    first = tls_context(file)
    assert tls_context(file) is first
    file.write_bytes(pem(issue("another authority")))
    os.utime(file, ns=(1, 1))  # whatever the clock of the file system resolves
    another = tls_context(file)
    names = [{str(each["subject"]) for each in context.get_ca_certs()} for context in (first, another)]
    assert any("first authority" in name for name in names[0] - names[1])
    assert any("another authority" in name for name in names[1] - names[0])


def test_a_file_that_was_broken_since_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(issue("authority")))
    tls_context(file)
    file.write_text("nothing")
    with pytest.raises(ssl.SSLError):
        tls_context(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        tls_context(file)
