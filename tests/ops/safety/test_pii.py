from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from conftest import ROOT

from curate.ops.safety.masks import mask_pii
from curate.ops.safety.pii import pii
from curate.text.personal_data import KINDS, find_personal_data


def found(text: str) -> list[tuple[str, str]]:
    return [(f.kind, text[f.begin : f.end]) for f in find_personal_data(text)]


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
def test_lookalikes_of_personal_data_are_left_alone(written: str) -> None:
    """What only looks like it is left alone."""
    assert found(f"See {written} here.") == []


def test_number_behind_a_word_that_announces_it_is_a_phone_number() -> None:
    assert found("Telefon: 030 / 901 82 00, Fax 030 9018210")[0][0] == "phone"
    assert found("There were 3901 8200 of them") == []
    assert found("Tlf. 3901 8200")[0] == ("phone", "3901 8200")


MARK = re.compile(r"\{\{(\w+):(.*?)\}\}(?!\})")


def sentences() -> Iterator[tuple[str, set[tuple[str, str, int]]]]:
    """Each sentence without its marks, and what they mark: kind, the letters and digits of it, and where it begins."""
    for line in (ROOT / "tests" / "pii_sentences.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        text, at, marked = "", 0, set()
        for mark in MARK.finditer(line):
            text += line[at : mark.start()]
            marked.add(bare(mark[1], mark[2], len(text)))
            text, at = text + mark[2], mark.end()
        yield text + line[at:], marked


def bare(kind: str, written: str, begin: int) -> tuple[str, str, int]:
    """Signs at the ends of a finding (a +, a bracket) make no difference."""
    first = next(n for n, character in enumerate(written) if character.isalnum())
    last = next(n for n in range(len(written), 0, -1) if written[n - 1].isalnum())
    return kind, written[first:last], begin + first


def test_labelled_sentences_have_95_percent_recall_and_precision() -> None:
    """Of labelled sentences at least 95 in 100 of each kind are found and as many findings are right."""
    count, right, marked, told = 0, Counter[str](), Counter[str](), Counter[str]()
    wrong: list[object] = []
    for text, expected in sentences():
        count += 1
        given = {bare(f.kind, text[f.begin : f.end], f.begin) for f in find_personal_data(text)}
        right.update(kind for kind, *_ in expected & given)
        marked.update(kind for kind, *_ in expected)
        told.update(kind for kind, *_ in given)
        wrong += [(text, *each) for each in expected ^ given]
    assert count >= 450 and set(marked) == set(KINDS) and min(marked.values()) >= 20
    for kind, most in marked.items():
        assert right[kind] >= 0.95 * most, (kind, wrong)
        assert right[kind] >= 0.95 * told[kind], (kind, wrong)


def test_versions_sections_and_class_names_are_left_and_addresses_and_keys_are_all_found() -> None:
    """No labelled sentence without personal data is touched, and of addresses of machines and keys none is missed."""
    for text, expected in sentences():
        given = {bare(f.kind, text[f.begin : f.end], f.begin) for f in find_personal_data(text)}
        assert given <= expected, text
        assert not [each for each in expected - given if each[0] in ("ip", "key")], text


def test_version_beside_an_address_is_left_and_the_address_found() -> None:
    text = "Firefox/115.0.2.1 asked 93.184.216.34, and foo==1.2.3.4 listens at 52.95.110.1:80."
    assert mask_pii([text])["text"] == ["Firefox/115.0.2.1 asked <IP>, and foo==1.2.3.4 listens at <IP>:80."]


def test_ambiguous_numbers_are_left_alone_unless_a_word_announces_them() -> None:
    """Numbers that any number might be are left alone unless a word announces them."""
    for number in ("512 555 019", "35 55 01 99", "6555 0199", "01632960961", "13800138000"):
        assert found(f"It is {number} now") == []
        assert found(f"Phone: {number}") == [("phone", number)]


def test_numbers_near_one_another_are_found_each_as_a_whole() -> None:
    text = "Call +49 40 66969 123, +49 221 4710 234, 020 7946 0018, (212) 555-0199 x12 or 00 33 1 99 00 12 34."
    assert [number for _, number in found(text)] == [
        "+49 40 66969 123", "+49 221 4710 234", "020 7946 0018", "(212) 555-0199 x12", "00 33 1 99 00 12 34",
    ]  # fmt: skip


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


def test_private_key_goes_as_a_whole() -> None:
    text = "before\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\nabc=\n-----END RSA PRIVATE KEY-----\nafter"
    assert mask_pii([text])["text"] == ["before\n<KEY>\nafter"]


@pytest.mark.parametrize(
    "text",
    [
        *("a@" * 200_000, "1" * 500_000, "1." * 200_000, "::" * 200_000, "a.b@c." * 100_000, "+1 " * 200_000),
        *("a dot " * 80_000 + " at ", "a(at)" * 80_000, "a AT b DOT " * 40_000, "Tel. 0" * 80_000, "+49 " * 100_000),
        *("(0" * 200_000, "01 " * 150_000, "1-" * 200_000, "123-45-" * 70_000 + "ssn", "2001:" * 100_000),
        *("21.2.3.4 " * 50_000, "a-" * 20 + "=21.2.3.4 " * 40_000, "sk-" + "aB" * 100_000, "sk-aaaa " * 60_000),
        *("-----BEGIN PRIVATE KEY-----" * 20_000, "AA11 " * 100_000, "4111 " * 100_000, "a@b.co " * 20_000),
    ],
)
def test_text_made_to_be_slow_is_searched_in_little_time(text: str) -> None:
    start = time.process_time()
    find_personal_data(text)
    assert time.process_time() - start < 5
