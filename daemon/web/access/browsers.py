"""What a browser says about the page that sends a request. Programs send no such headers, and no page can forge them.

A person with a browser and access to this daemon can be attacked in two ways. A page of another site can send a request
whose answer it cannot read: Sec-Fetch-Site and Origin reveal that. Or a hostile name can resolve to this machine, so
that its page counts as ours (DNS rebinding): the Host header reveals that.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """True for a Host header that names this machine itself. Clients write the same few: parsing one takes 3 µs."""
    name, colon, port = host.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        name = host
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def is_framed(headers: Mapping[str, str]) -> bool:
    """True if the browser shows the answer in a frame of a page."""
    return headers.get("Sec-Fetch-Dest") == "iframe"


def is_from_our_page(headers: Mapping[str, str], own_url: str) -> bool:
    """True if the browser says that one of our own pages sends the request. False if the headers say nothing."""
    match headers.get("Sec-Fetch-Site"):
        case None:
            return _has_our_origin(headers, own_url)
        case site:
            return site == "same-origin"


def is_from_other_site(method: str, headers: Mapping[str, str], own_url: str, *, may_be_framed: bool = False) -> bool:
    """True if a page that is not ours has the browser send the request.

    A link from any page may lead here: the person sees the answer, and the page does not. So may a frame, if the
    installation names pages that may have one (`may_be_framed`): the browser shows the answer in no other's frame. A
    request that changes something must come from a page of ours, since nobody can enter a POST in the address bar.
    """
    site = headers.get("Sec-Fetch-Site")
    if method in SAFE_METHODS:
        shown_in = ("document", "iframe") if may_be_framed else ("document",)
        is_link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest", "document") in shown_in
        return site in ("cross-site", "same-site") and not is_link
    is_browser = site is not None or "Origin" in headers
    return is_browser and not is_from_our_page(headers, own_url)


def _has_our_origin(headers: Mapping[str, str], own_url: str) -> bool:
    """True if Origin is our configured URL, or our scheme with the name in the Host header."""
    ours, host = urlsplit(own_url), headers.get("Host")
    names = {_without_default_port(ours.scheme, ours.netloc.lower())} | ({host.lower()} if host else set())
    return headers.get("Origin") in {f"{ours.scheme}://{name}" for name in names}


def _without_default_port(scheme: str, netloc: str) -> str:
    return netloc.removesuffix({"http": ":80", "https": ":443"}[scheme])
