import hashlib
import hmac
import re
import time


def verify(header: str | None, body: bytes, key: str, tolerance_seconds: int = 300) -> bool:
    """True if `body`, the raw bytes before any parsing, was signed with `key`, and not long ago."""
    parts = [part.partition("=") for part in (header or "").split(",")]
    timestamps = [value.strip() for name, _, value in parts if name.strip() == "ts"]
    if len(timestamps) != 1 or not re.fullmatch("[0-9]{1,12}", timestamps[0]):
        return False
    if abs(time.time() - int(timestamps[0])) > tolerance_seconds:
        return False
    bare = key.strip().removeprefix("whsec_").rstrip("=")  # somebody may have cut off one of these
    keys = [key.strip(), "whsec_" + bare + "=" * (-len(bare) % 4)]
    signed = timestamps[0].encode() + b"." + body
    expected = [hmac.new(each.encode(), signed, hashlib.sha256).hexdigest().encode() for each in keys]
    given = [value.strip().lower().encode(errors="replace") for name, _, value in parts if name.strip() == "sig"]
    return any(hmac.compare_digest(one, other) for one in given for other in expected)
