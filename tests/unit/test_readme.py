"""What the README shows receivers must work as it stands there."""

import time
from pathlib import Path

from daemon.core.signing import SigningKey, format_key, ordergroove_signature

README = Path(__file__).parents[2] / "README.md"


def test_the_verification_snippet_takes_what_we_sign_and_nothing_else() -> None:
    snippet: dict[str, object] = {}
    exec(README.read_text().split("```python")[1].split("```")[0], snippet)
    verify = snippet["verify"]
    assert callable(verify)
    old, new = format_key(b"o" * 32), format_key(b"n" * 32)
    now = int(time.time())
    header = ordergroove_signature(b"{}", timestamp=now, keys=[SigningKey(new), SigningKey(old)])
    assert verify(header, b"{}", new)
    assert verify(header, b"{}", old)
    assert not verify(header, b"{ }", new)
    assert not verify(header, b"{}", format_key(b"x" * 32))
    assert not verify(ordergroove_signature(b"{}", timestamp=now - 600, keys=[SigningKey(new)]), b"{}", new)
    assert not verify("", b"{}", new)
