"""No text is missing in any language, and each language says things its own way."""

import re
import string
from datetime import UTC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel import Locale

import atna.record_repository.page as package
from atna import vocabulary
from atna.message import CodedValue
from atna.record_repository.page.asked import OUTCOMES
from atna.record_repository.page.codes import EMERGENCY, EVENT_CHOICES
from atna.record_repository.page.csv_export import COLUMNS
from atna.record_repository.page.languages import LANGUAGES, Texts, catalog, negotiate
from ihe import transactions

FOLDER = Path(package.__file__).parent
PLURALS = {"one", "other", "many"}


def plain(keys):
    """Keys without the forms of number, which differ by language."""
    return {key.rpartition(".")[0] if key.rpartition(".")[2] in PLURALS else key for key in keys}


def holes(text):
    return {name for _text, name, _format, _conversion in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_with_the_same_holes(language):
    english, texts = catalog("en"), catalog(language)
    assert plain(texts) == plain(english)
    assert [key for key, text in texts.items() if not text.strip() or text != text.strip()] == []
    assert [key for key in english if key in texts and holes(texts[key]) != holes(english[key])] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_counted_has_every_form_of_number_of_the_language(language):
    counted = {key.rpartition(".")[0] for key in catalog("en") if key.endswith(".other")}
    assert counted == {"results.found", "results.found_more", "fact.times"}
    forms = set(Locale.parse(LANGUAGES[language]).plural_form.tags) | {"other"}
    for key in counted:
        assert {f"{key}.{form}" for form in forms} <= set(catalog(language))


def test_a_translation_is_one():
    same = {
        language: {key for key, text in catalog(language).items() if text == catalog("en").get(key)}
        for language in LANGUAGES
        if language != "en"
    }
    for language, keys in same.items():  # words that are the same in both, such as Import, Patient, Name
        assert len(keys) < 0.15 * len(catalog("en")), (language, sorted(keys))


def keys_asked_for():
    """Every key that templates and modules name as a whole."""
    for path in sorted(FOLDER.rglob("*.html")):
        yield from re.findall(
            r"""\bt(?:\.counted)?\('([a-z_]+\.[a-z_.]+[a-z_])'(?! ~)""", path.read_text(encoding="utf-8")
        )
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r"""(?:texts|counted|Fault)\((?:"[a-z]*", )?"([a-z_]+\.[a-z_.]+)"[,)]""", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_that_is_asked_for_is_there(language):
    wanted = {*keys_asked_for(), *COLUMNS, *(f"form.outcome_{outcome or 'all'}" for outcome in OUTCOMES)}
    assert len(wanted) > 100
    assert wanted - plain(catalog(language)) - set(catalog(language)) == set()


def codes_written():
    """Every code that the product writes: those of the vocabulary, and of every transaction."""
    yield from (value for value in vars(vocabulary).values() if isinstance(value, CodedValue))
    yield CodedValue("110182", "DCM", None)
    for value in vars(transactions).values():
        if isinstance(value, transactions.Transaction):
            yield vocabulary.transaction(value.code, value.name)
    yield vocabulary.transaction("ITI-8", "")
    yield vocabulary.transaction("ITI-64", "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_the_product_writes_or_offers_has_a_name(language):
    texts = catalog(language)
    codes = {(code.system, code.code) for code in codes_written()} | {
        (system, code) for _kind, (code, system) in EVENT_CHOICES.values()
    }
    assert len(codes) > 50
    assert [code for code in sorted(codes) if f"code.{code[0]}.{code[1]}" not in texts] == []
    wanted = [f"purpose.{code}" for code in EMERGENCY] + [f"outcome.{code}" for code in (0, 4, 8, 12)]
    wanted += [f"action.{code}" for code in "CRUDE"] + [f"network.{code}" for code in range(1, 6)]
    wanted += [f"object_role.{code}" for code in range(1, 27)] + [f"life_cycle.{code}" for code in range(1, 16)]
    assert [key for key in wanted if key not in texts] == []


def test_a_code_nobody_knows_is_called_as_the_record_does():
    texts = Texts("fr", UTC)
    assert texts.named("code.X", "1", "Own name") == "Own name"
    assert texts.named("code.X", "1") == "1"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"), ("", "en"), ("fr", "fr"), ("de-LU,de;q=0.9,en;q=0.8", "de"), ("lb, fr;q=0.9", "lb"),
        ("it, pt;q=0.9", "en"), ("en;q=0.3, FR-fr;q=0.7", "fr"), ("de;q=0", "en"), ("de;q=x, fr;q=0.1", "fr"), ("*", "en"),
        (";;,q=;", "en"),
    ],
)  # fmt: skip
def test_the_language_a_browser_asks_for(header, language):
    assert negotiate(header) == language


def test_dates_and_numbers_are_those_of_the_language():
    at = 1_772_359_200_000_000  # 2026-03-01T10:00:00Z
    shown = {language: Texts(language, ZoneInfo("Europe/Luxembourg")).moment(at) for language in LANGUAGES}
    assert shown["en"] == "1 Mar 2026, 11:00:00"
    assert shown["fr"].startswith("1 mars 2026")
    assert shown["de"].startswith("01.03.2026")
    assert shown["lb"].startswith("1. Mäe. 2026")
    assert Texts("de", UTC).number(12345) == "12.345"
    assert Texts("fr", UTC).counted("results.found", 0) == "0 enregistrement"
    assert Texts("lb", UTC).counted("results.found", 2) == "2 Opzeechnungen"


def test_a_time_that_no_calendar_holds_is_still_shown():
    assert Texts("en", UTC).moment(2**63 - 1).endswith("9999, 23:59:59")
