from __future__ import annotations

import time

import pytest

from curate.ops.pii import KINDS, findings, mask_pii, pii


def found(text: str) -> list[tuple[str, str]]:
    return [(f.kind, text[f.begin : f.end]) for f in findings(text)]


# Numbers and addresses below are reserved for examples, or are the standards' own.
@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("email", "jane.doe+news@mail.example.co.uk"),
        ("email", "jürgen@müller.example"),
        ("ip", "8.8.8.8"),
        ("ip", "2001:4860:4860::8888"),
        ("phone", "+49 (0)30 901820"),
        ("phone", "+1-212-555-0100"),
        ("phone", "(212) 555-0100"),
        ("phone", "212-555-0100"),
        ("phone", "+33 1 99 00 12 34"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500000000000004"),
        ("card", "3400 000000 00009"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB29NWBK60161331926819"),
        ("key", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("key", "ghp_" + "a1B2" * 9),
        ("key", "sk-" + "proj-abcdefghijklmnop1234"),
    ],
)
def test_each_kind_is_found_in_running_text(kind: str, written: str) -> None:
    assert found(f"Write to {written}, or come by.") == [(kind, written)]
    assert found(written) == [(kind, written)]


@pytest.mark.parametrize(
    "written",
    [
        "192.168.0.1",
        "127.0.0.1 and 10.1.2.3",
        "version 1.2.3.4.5",
        "300.1.2.3",
        "fe80::1",
        "ff02::fb and 224.0.0.251",
        "std::vector::push",
        "12:30:45",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "DE89 3704 0044 0532 0130 01",
        "ISBN 978-3-16-148410-0",
        "2023-01-05 to 2024-12-31",
        "1,234,567.89 and 3.14159265358979",
        "@someone on a site",
        "user@localhost",
        "foo@bar@baz.1",
        "a-b-c-123-456",
        "RFC 2822, section 3.4.1",
        "sk-short",
    ],
)
def test_what_only_looks_like_it_is_left_alone(written: str) -> None:
    assert found(f"See {written} here.") == []


def test_a_number_behind_a_word_that_announces_it_is_a_phone_number() -> None:
    assert found("Telefon: 030 / 901 82 00, Fax 030 9018210")[0][0] == "phone"
    assert found("There were 030 901 8200 of them") == []


def test_counts_are_by_kind_and_in_all() -> None:
    counts = pii(["a@example.org b@example.org 8.8.8.8", "nothing"])
    assert (counts["pii_email"], counts["pii_ip"], counts["pii"]) == ([2, 0], [1, 0], [3, 0])
    assert set(counts) == {"pii", *(f"pii_{kind}" for kind in KINDS)}


def test_findings_are_masked_by_name_and_the_rest_stays() -> None:
    text = "Mail jane@example.org or call +1-212-555-0100.\n"
    assert mask_pii([text])["text"] == ["Mail <EMAIL> or call <PHONE>.\n"]
    assert mask_pii([text], kinds=["phone"])["text"] == ["Mail jane@example.org or call <PHONE>.\n"]
    with pytest.raises(ValueError, match="unknown kind 'names'"):
        mask_pii([text], kinds=["names"])


def test_a_private_key_goes_as_a_whole() -> None:
    text = "before\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\nabc=\n-----END RSA PRIVATE KEY-----\nafter"
    assert mask_pii([text])["text"] == ["before\n<KEY>\nafter"]


@pytest.mark.parametrize(
    "text",
    [
        *("a@" * 200_000, "1" * 500_000, "1." * 200_000, "::" * 200_000, "a.b@c." * 100_000, "+1 " * 200_000),
        *("-----BEGIN PRIVATE KEY-----" * 20_000, "AA11 " * 100_000, "4111 " * 100_000, "a@b.co " * 20_000),
    ],
)
def test_a_text_made_to_be_slow_is_searched_in_little_time(text: str) -> None:
    start = time.process_time()
    findings(text)
    assert time.process_time() - start < 5
