"""Code for receivers that verify a signature: in each language a function, and the line that calls it.

README.md links to the functions and contains the same hints; a test compares them literally.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_ENVIRONMENT = "WEBHOOK_KEY"


def _quoted(key: str) -> str:
    """A literal of Python, JavaScript and Go. JSON's is one, as a key has no control characters."""
    return json.dumps(key, ensure_ascii=False)


def _quoted_once(key: str) -> str:
    return "'" + key.replace("\\", r"\\").replace("'", r"\'") + "'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language and its code.

    `raw_body` says how its frameworks return the unparsed body, with code in backticks. `call` is a template with
    fields for the header's name and for the key; `header_elsewhere` is one that says how frameworks return the header
    that do not have it where `call` looks. `from_environment` is a template for the key, and `pasted` writes the
    key itself as a literal: one that was brought along may have quotes in it.
    """

    title: str
    file: str
    raw_body: str
    call: str
    from_environment: str
    pasted: Callable[[str], str] = _quoted
    header_elsewhere: str = ""

    @property
    def function(self) -> str:
        return _text(self.file)


LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        title="Python",
        file="verify.py",
        raw_body="Flask `request.get_data()`, Django `request.body`, FastAPI and Starlette `await request.body()`, "
        "aiohttp `await request.read()`.",
        call='is_genuine = verify(request.headers.get("{header}"), body, {key})',
        from_environment='os.environ["{variable}"]',
    ),
    "node": Language(
        title="Node",
        file="verify.mjs",
        raw_body='Express `express.raw({ type: "application/json" })` and then `request.body`, Fastify a content type '
        'parser with `parseAs: "buffer"`, Next.js and Hono `Buffer.from(await request.arrayBuffer())`.',
        call='const isGenuine = verify(request.headers["{header_lower}"], body, {key});',
        from_environment="process.env.{variable}",
        header_elsewhere='In Next.js the header is `request.headers.get("{header_lower}")`, in Hono '
        '`c.req.header("{header_lower}")`.',
    ),
    "go": Language(
        title="Go",
        file="verify.go",
        raw_body="net/http `io.ReadAll(r.Body)`, Gin `c.GetRawData()`, Echo `io.ReadAll(c.Request().Body)`, "
        "Fiber `c.Body()`.",
        call='isGenuine := webhooks.Verify(r.Header.Get("{header}"), body, {key}, 5*time.Minute)',
        from_environment='os.Getenv("{variable}")',
        header_elsewhere='In Gin the header is `c.GetHeader("{header}")`, in Echo '
        '`c.Request().Header.Get("{header}")`, in Fiber `c.Get("{header}")`.',
    ),
    "php": Language(
        title="PHP",
        file="verify.php",
        raw_body="Laravel and Symfony `$request->getContent()`, Slim `(string) $request->getBody()`, plain PHP "
        "`file_get_contents('php://input')`.",
        call="$isGenuine = verify($_SERVER['{header_cgi}'] ?? null, $body, {key});",
        from_environment="getenv('{variable}')",
        pasted=_quoted_once,
    ),
    "ruby": Language(
        title="Ruby",
        file="verify.rb",
        raw_body="Rails `request.raw_post`, Sinatra and Rack `request.body.read`.",
        call='is_genuine = verify(request.get_header("{header_cgi}"), body, {key})',
        from_environment='ENV.fetch("{variable}")',
        pasted=lambda key: _quoted(key).replace("#", r"\#"),
    ),
}


def call(language: Language, *, header: str, variable: str, key: str | None = None) -> str:
    """The line that verifies a request, with the key itself if it is given, else with the variable that holds it."""
    where = language.from_environment.format(variable=variable) if key is None else language.pasted(key)
    as_cgi = "HTTP_" + header.upper().replace("-", "_")
    return language.call.format(header=header, header_lower=header.lower(), header_cgi=as_cgi, key=where)


def header_elsewhere(language: Language, header: str) -> str:
    """How frameworks return the header that do not have it where `call` looks; empty if all of them do."""
    return language.header_elsewhere.format(header=header, header_lower=header.lower())


def variable_of(name: str) -> str:
    """The environment variable for the key of a webhook: `Orders (EU)` becomes ORDERS_EU_WEBHOOK_KEY."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().upper()
    words = "_".join(re.findall("[A-Z0-9]+", plain))[:40].strip("_")
    return f"{words}_{_ENVIRONMENT}" if words and not words[0].isdigit() else _ENVIRONMENT


@cache
def _text(file: str) -> str:
    return (files("daemon") / "data" / "snippets" / file).read_text(encoding="utf-8")
