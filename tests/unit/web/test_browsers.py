"""Which page sent a request, by the headers of the browser."""

from __future__ import annotations

import pytest

from daemon.web.access.browsers import is_from_other_site, is_from_our_page, is_loopback

OWN = "https://hooks.example.com"
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:8080"])
def test_names_of_this_machine_are_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "[", "evil.example.com", "localhost.evil.example.com", "127.0.0.1.evil.example.com", "10.0.0.1", "0.0.0.0", "[::2]:8080",
     "localhost@evil.example.com", "localhost:8080:8080", "localhost:", "localhost.", "127.1", "2130706433", "①27.0.0.1"],
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("POST", {}, False),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, False),
        ("POST", {"Sec-Fetch-Site": "none"}, True),
        ("DELETE", {"Sec-Fetch-Site": "none", "Origin": OWN}, True),
        ("POST", {"Sec-Fetch-Site": "same-site"}, True),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, True),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": OWN}, True),
        ("POST", {"Sec-Fetch-Site": "nonsense"}, True),
        ("POST", {"Sec-Fetch-Site": "cross-site"} | LINK, True),
        ("POST", {"Origin": OWN}, False),
        ("POST", {"Origin": "https://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, False),
        ("POST", {"Origin": "https://LOCALHOST:8080", "Host": "LOCALHOST:8080"}, True),
        ("POST", {"Origin": "https://localhost:8080", "Host": "LOCALHOST:8080"}, False),
        ("POST", {"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, True),
        ("POST", {"Origin": "ftp://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, True),
        ("POST", {"Origin": f"{OWN}/path"}, True),
        ("POST", {"Origin": "https://", "Host": ""}, True),
        ("POST", {"Origin": "https://evil.example.com", "Host": "127.0.0.1:8080"}, True),
        ("POST", {"Origin": "http://hooks.example.com"}, True),
        ("POST", {"Origin": "http://localhost:3000", "Host": "localhost:8080"}, True),
        ("POST", {"Origin": "null"}, True),
        ("POST", {"Origin": "null", "Host": ""}, True),
        ("POST", {"Origin": ""}, True),
        ("POST", {"Origin": "https://[evil"}, True),
        ("DELETE", {"Sec-Fetch-Site": "cross-site"}, True),
        ("GET", {}, False),
        ("GET", {"Sec-Fetch-Site": "same-origin"}, False),
        ("GET", {"Sec-Fetch-Site": "none"}, False),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, True),
        ("GET", {"Sec-Fetch-Site": "same-site"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site"} | LINK, False),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, True),
        ("GET", {"Origin": "https://evil.example.com"}, False),
    ],
)
def test_a_page_from_elsewhere_may_lead_here_and_no_more(method: str, headers: dict[str, str], expected: bool) -> None:
    assert is_from_other_site(method, headers, OWN) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OWN}, False),
        ({"Origin": OWN}, True),
        ({"Origin": "http://hooks.example.com"}, False),
        ({"Origin": "https://10.0.0.1:8443", "Host": "10.0.0.1:8443"}, True),
        ({"Origin": "http://10.0.0.1:80", "Host": "10.0.0.1:80"}, False),
        ({"Origin": OWN, "Sec-Fetch-Site": "none"}, False),
        ({"Origin": "null", "Host": ""}, False),
        ({"Host": "hooks.example.com"}, False),
    ],
)
def test_our_own_page_is_what_the_browser_says_is_one(headers: dict[str, str], expected: bool) -> None:
    assert is_from_our_page(headers, OWN) is expected


def test_a_browser_writes_our_url_in_its_own_way() -> None:
    assert is_from_our_page({"Origin": OWN}, "https://Hooks.Example.com:443/base")
