"""The line that calls the verification function, in each language, and the variable that it takes the key from."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.dashboard.webhooks.snippets import LANGUAGES, call, variable_of

HEADER = "Acme-Signature"


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("Orders", "ORDERS_WEBHOOK_KEY"),
        ("Orders (EU)", "ORDERS_EU_WEBHOOK_KEY"),
        ("Bücher & Söhne", "BUCHER_SOHNE_WEBHOOK_KEY"),
        ("a" * 60, f"{'A' * 40}_WEBHOOK_KEY"),
        ("a" * 39 + " b", f"{'A' * 39}_WEBHOOK_KEY"),
        ("2nd shop", "WEBHOOK_KEY"),
        ("注文", "WEBHOOK_KEY"),
        ("", "WEBHOOK_KEY"),
    ],
)
def test_a_variable_is_named_for_the_webhook_as_far_as_it_can_be(name: str, variable: str) -> None:
    assert variable_of(name) == variable


@given(st.text(max_size=130))
def test_a_variable_is_one_for_every_shell(name: str) -> None:
    assert re.fullmatch(r"[A-Z_][A-Z0-9_]{0,52}", variable_of(name))


@pytest.mark.parametrize(
    ("language", "header", "variable", "key"),
    [
        ("python", '"Acme-Signature"', 'os.environ["SHOP_WEBHOOK_KEY"]', '"whsec_x/+="'),
        ("node", '"acme-signature"', "process.env.SHOP_WEBHOOK_KEY", '"whsec_x/+="'),
        ("go", '"Acme-Signature"', 'os.Getenv("SHOP_WEBHOOK_KEY")', '"whsec_x/+="'),
        ("php", "'HTTP_ACME_SIGNATURE'", "getenv('SHOP_WEBHOOK_KEY')", "'whsec_x/+='"),
        ("ruby", '"HTTP_ACME_SIGNATURE"', 'ENV.fetch("SHOP_WEBHOOK_KEY")', '"whsec_x/+="'),
    ],
)
def test_a_call_names_the_header_as_its_language_does_and_either_variable_or_key(
    language: str, header: str, variable: str, key: str
) -> None:
    found = LANGUAGES[language]
    by_variable = call(found, header=HEADER, variable="SHOP_WEBHOOK_KEY")
    pasted = call(found, header=HEADER, variable="SHOP_WEBHOOK_KEY", key="whsec_x/+=")
    assert header in by_variable
    assert variable in by_variable
    assert pasted == by_variable.replace(variable, key)


@pytest.mark.parametrize(
    ("language", "literal"),
    [
        ("python", '"it\'s \\"a\\" \\\\ key #{1} {x}"'),
        ("node", '"it\'s \\"a\\" \\\\ key #{1} {x}"'),
        ("go", '"it\'s \\"a\\" \\\\ key #{1} {x}"'),
        ("php", "'it\\'s \"a\" \\\\ key #{1} {x}'"),
        ("ruby", '"it\'s \\"a\\" \\\\ key \\#{1} {x}"'),
    ],
)
def test_a_key_with_quotes_in_it_is_a_literal_of_the_language(language: str, literal: str) -> None:
    line = call(LANGUAGES[language], header=HEADER, variable="V", key='it\'s "a" \\ key #{1} {x}')
    assert f" {literal}" in line


def test_every_language_has_a_function_and_a_word_on_raw_bodies() -> None:
    assert list(LANGUAGES) == ["python", "node", "go", "php", "ruby"]
    for found in LANGUAGES.values():
        assert "erify" in found.function
        assert found.raw_body.count("`") % 2 == 0
