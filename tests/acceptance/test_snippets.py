"""The verification snippets, run in their languages over valid and invalid headers.

A snippet reads each case as one line of base64 fields and answers with one line, so that each language is started once.
A language that is not installed is skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.core.webhook.signing import SigningKey, format_key, ordergroove_signature
from daemon.web.dashboard.webhooks import snippets

HERE = Path(__file__).parents[1]
SNIPPETS = HERE.parent / "daemon" / "data" / "snippets"
VECTORS = json.loads((HERE / "data" / "signing_vectors.json").read_text())["vectors"]
OLD, NEW, OTHER = (format_key(bytes([number]) * 32) for number in range(3))
BODY = '{"id":"evt_1","data":{"object":{"name":"Zürich ☕"}}}\n'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """`command` runs `file`: the snippet with its `changes`, and a driver that answers each case. `build` comes first:
    it may take longer than a signature is valid.
    """

    snippet: str
    file: str
    command: tuple[str, ...]
    driver: str
    changes: Mapping[str, str]
    build: tuple[str, ...] = ()


LANGUAGES = [
    Language(
        snippet="verify.py",
        file="main.py",
        command=(sys.executable, "main.py"),
        changes={},
        driver="""
import sys
from base64 import b64decode

for line in sys.stdin:
    header, body, key, tolerance = (b64decode(text) for text in line.split(";"))
    print("true" if verify(header.decode("latin-1"), body, key.decode(), int(tolerance)) else "false")
""",
    ),
    Language(
        snippet="verify.mjs",
        file="main.mjs",
        command=("node", "main.mjs"),
        changes={},
        driver="""
import { readFileSync } from "node:fs";

for (const line of readFileSync(0, "utf8").trim().split("\\n")) {
  const [header, body, key, tolerance] = line.split(";").map((text) => Buffer.from(text, "base64"));
  console.log(verify(header.toString("latin1"), body, key.toString(), Number(tolerance.toString())));
}
""",
    ),
    Language(
        snippet="verify.go",
        file="main.go",
        build=("go", "build", "main.go"),
        command=("./main",),
        changes={"package webhooks": "package main", "import (": 'import (\n"bufio"; "encoding/base64"; "os"'},
        driver="""
func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var fields [4][]byte
		for at, text := range strings.Split(lines.Text(), ";") {
			fields[at], _ = base64.StdEncoding.DecodeString(text)
		}
		seconds, _ := strconv.Atoi(string(fields[3]))
		valid := Verify(string(fields[0]), fields[1], string(fields[2]), time.Duration(seconds)*time.Second)
		os.Stdout.WriteString(strconv.FormatBool(valid) + "\\n")
	}
}
""",
    ),
    Language(
        snippet="verify.php",
        file="main.php",
        command=("php", "main.php"),
        changes={},
        driver="""
foreach (file('php://stdin', FILE_IGNORE_NEW_LINES) as $line) {
    [$header, $body, $key, $tolerance] = array_map('base64_decode', explode(';', $line));
    echo verify($header, $body, $key, (int) $tolerance) ? "true\\n" : "false\\n";
}
""",
    ),
    Language(
        snippet="verify.rb",
        file="main.rb",
        command=("ruby", "main.rb"),
        changes={},
        driver="""
$stdin.each_line(chomp: true) do |line|
  header, body, key, tolerance = line.split(";", -1).map { |text| text.unpack1("m") }
  puts verify(header, body, key, tolerance_seconds: tolerance.to_i)
end
""",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    header: str
    body: bytes
    key: str
    is_valid: bool
    tolerance_seconds: int = 300

    def __str__(self) -> str:
        fields = (self.header.encode("latin-1"), self.body, self.key.encode(), str(self.tolerance_seconds).encode())
        return ";".join(b64encode(field).decode() for field in fields)


def recorded() -> list[Case]:
    """The recorded vectors. Their tolerance includes the time that has passed since they were recorded."""
    return [
        Case(
            name=f"{vector['name']}, key {number}",
            header=vector["header_value"],
            body=b64decode(vector["body_b64"]),
            key=key,
            is_valid=vector["valid"],
            tolerance_seconds=vector["tolerance_seconds"] + int(time.time()) - vector["now"],
        )
        for vector in VECTORS
        if vector["scheme"] == "ordergroove-verify"
        for number, key in enumerate(vector["keys"])
    ]


def cases() -> list[Case]:
    now = int(time.time())

    def signed(*keys: str, at: int = now) -> str:
        return ordergroove_signature(BODY, timestamp=at, keys=[SigningKey(key) for key in keys])

    right = signed(NEW)
    signature = right.partition("sig=")[2]
    valid = {
        "one signature": right,
        "two signatures, the first is ours": signed(NEW, OLD),
        "two signatures, the second is ours": signed(OLD, NEW),
        "three signatures": signed(OLD, OTHER, NEW),
        "spaces after commas": right.replace(",", ", "),
        "spaces everywhere": f" ts = {now} ,\tsig = {signature} ",
        "in capitals": f"ts={now},sig={signature.upper()}",
        "an unknown part": f"v=2,{right},x",
        "not quite too old": signed(NEW, at=now - 240),
        "a clock behind the sender's": signed(NEW, at=now + 240),
    }
    invalid = {
        "another key's": signed(OLD),
        "too old": signed(NEW, at=now - 600),
        "from the future": signed(NEW, at=now + 600),
        "another timestamp": right.replace(f"ts={now}", f"ts={now - 1}"),
        "one digit is another": right[:-1] + ("0" if right[-1] != "0" else "1"),
        "cut off": right[:-2],
        "no signature": f"ts={now}",
        "an empty signature": f"ts={now},sig=",
        "a signature without a value": f"ts={now},sig",
        "no timestamp": f"sig={signature}",
        "a timestamp without a value": f"ts,sig={signature}",
        "two timestamps": f"ts={now},{right}",
        "a timestamp in words": f"ts=now,sig={signature}",
        "a negative timestamp": f"ts=-{now},sig={signature}",
        "a timestamp with a sign": f"ts=+{now},sig={signature}",
        "a timestamp in superscript": f"ts=\xb2,sig={signature}",
        "an endless timestamp": f"ts={'9' * 5000},sig={signature}",
        "no ASCII": f"ts={now},sig=\xe9{signature[1:]}",
        "no UTF-8": f"ts={now},sig=\xff\xfe",
        "a zero byte": f"ts={now},sig=\0",
        "something after it": f"{right}00",
        "something after it that is no hex": f"{right}zz",
        "nothing": "",
        "commas": ",,,",
    }  # fmt: skip
    bare = NEW.removeprefix("whsec_").rstrip("=")
    keys = {
        "a key without its prefix": f"{bare}=",
        "a key without its padding": f"whsec_{bare}",
        "a key without either": bare,
        "a key with a line end": f" {NEW}\r\n",
    }
    brought = "Schlüssel des früheren Anbieters / 鍵 ="
    return [
        *recorded(),
        *(Case(name=name, header=right, body=BODY, key=key, is_valid=True) for name, key in keys.items()),
        Case(name="a key that was brought along", header=signed(brought), body=BODY, key=brought, is_valid=True),
        Case(name="half a key", header=right, body=BODY, key=NEW[:-8], is_valid=False),
        Case(name="no key", header=right, body=BODY, key="", is_valid=False),
        *(Case(name=name, header=header, body=BODY, key=NEW, is_valid=True) for name, header in valid.items()),
        *(Case(name=name, header=header, body=BODY, key=NEW, is_valid=False) for name, header in invalid.items()),
        Case(name="another body", header=right, body=BODY.strip(), key=NEW, is_valid=False),
        Case(name="an empty body", header=right, body=b"", key=NEW, is_valid=False),
    ]


def _run(command: tuple[str, ...], home: Path, *, text: str = "") -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(command, cwd=home, input=text, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.snippet)
def test_the_snippet_takes_what_we_sign_and_nothing_else(language: Language, tmp_path: Path) -> None:
    tool = (language.build or language.command)[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: {language.snippet} was not run")
    snippet = (SNIPPETS / language.snippet).read_text()
    for old, new in language.changes.items():
        snippet = snippet.replace(old, new)
    (tmp_path / language.file).write_text(snippet + language.driver)
    if language.build:
        _run(language.build, tmp_path)
    all_cases = cases()
    ended = _run(language.command, tmp_path, text="\n".join(map(str, all_cases)))
    assert not ended.stderr, ended.stderr[-2000:]
    answers = dict(zip([case.name for case in all_cases], ended.stdout.split(), strict=True))
    assert answers == {case.name: "true" if case.is_valid else "false" for case in all_cases}


def test_node_finds_the_header_in_requests_of_both_kinds(tmp_path: Path) -> None:
    """Node's own have the headers as an object, those of Next.js and Hono as `Headers`, where [] finds nothing."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    node, name = snippets.LANGUAGES["node"], "OrderGroove-Signature"
    line = snippets.call(node, header=name, variable="WEBHOOK_KEY", key=OLD)
    plain = 'request.headers["ordergroove-signature"]'
    assert plain in line
    fetched = next(
        code for code in snippets.header_elsewhere(node, name).split("`")[1::2] if code.startswith("request.")
    )
    signed = ordergroove_signature(keys=[SigningKey(OLD)], timestamp=int(time.time()), body=BODY)
    program = f"""
const body = Buffer.from({json.dumps(b64encode(BODY).decode())}, "base64");
const header = {json.dumps(signed)};
{{ const request = {{ headers: {{ "ordergroove-signature": header }} }}; {line} console.log(isGenuine); }}
{{
  const request = new Request("http://shop.example/", {{ method: "POST", headers: {{ "{name}": header }} }});
  {line.replace(plain, fetched)} console.log(isGenuine);
}}
"""
    (tmp_path / "main.mjs").write_text(node.function + program)
    done = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["true", "true"]
