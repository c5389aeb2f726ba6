import hashlib
import hmac
import re
import time


def verify(header: str | None, body: bytes, key: str, tolerance_seconds: int = 300) -> bool:
    """True if `body`, the raw bytes before any parsing, was signed with `key`, and not long ago."""
    parts = [part.strip().partition("=") for part in (header or "").split(",")]
    timestamps = [value for name, _, value in parts if name == "ts"]
    if len(timestamps) != 1 or not re.fullmatch("[0-9]{1,12}", timestamps[0]):
        return False
    if abs(time.time() - int(timestamps[0])) > tolerance_seconds:
        return False
    expected = hmac.new(key.encode(), timestamps[0].encode() + b"." + body, hashlib.sha256).hexdigest().encode()
    given = [value.encode(errors="replace") for name, _, value in parts if name == "sig"]
    return any(hmac.compare_digest(signature, expected) for signature in given)
