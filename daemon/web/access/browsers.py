"""What a browser tells about the page that makes it send a request: programs tell none of it, and no page can lie.

Two things may happen to whoever has a browser and access to this daemon. A page from elsewhere may send a request, of
which it cannot read the answer: Sec-Fetch-Site and Origin tell. Or a hostile name may resolve to this machine, so that
its page counts as ours: the Host header tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """True for a Host header that names this machine itself."""
    name, colon, port = host.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        name = host
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def is_from_our_page(headers: Mapping[str, str], own_url: str) -> bool:
    """True if the browser says that one of our own pages sends this; False too if nothing is said."""
    match headers.get("Sec-Fetch-Site"):
        case None:
            return _has_our_origin(headers, own_url)
        case site:
            return site == "same-origin"


def is_from_elsewhere(method: str, headers: Mapping[str, str], own_url: str) -> bool:
    """True if a page that is not ours has the browser send this.

    A link to us may be followed from anywhere: that shows what it shows to the person, and nothing to the page. What
    changes something must come from a page of ours: nobody types a POST into the address bar.
    """
    site = headers.get("Sec-Fetch-Site")
    if method in SAFE_METHODS:
        is_link = (
            headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest", "document") == "document"
        )
        return site in ("cross-site", "same-site") and not is_link
    is_browser = site is not None or "Origin" in headers
    return is_browser and not is_from_our_page(headers, own_url)


def is_ahead(headers: Mapping[str, str]) -> bool:
    """True if a browser asks for what nobody has chosen yet, in case that somebody will."""
    return any("prefetch" in headers.get(name, "").lower() for name in ("Sec-Purpose", "Purpose", "X-Moz"))


def _has_our_origin(headers: Mapping[str, str], own_url: str) -> bool:
    """By the URL that we are known by, or by the name that the request itself calls us; the scheme is ours in both."""
    ours, host = urlsplit(own_url), headers.get("Host")
    names = {_without_default_port(ours.scheme, ours.netloc.lower())} | ({host.lower()} if host else set())
    return headers.get("Origin") in {f"{ours.scheme}://{name}" for name in names}


def _without_default_port(scheme: str, netloc: str) -> str:
    return netloc.removesuffix({"http": ":80", "https": ":443"}[scheme])
