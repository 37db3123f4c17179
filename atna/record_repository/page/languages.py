"""The languages of the page: texts, plurals, dates, numbers; and which one a browser asks for (RFC 9110: 12.5.4). Pure.

Texts stand in ``texts/*.toml``, one file a language with the same keys; what differs by number is chosen by the
language's plural rules. Codes are looked up by system and code and fall back to what the record says itself.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from importlib import resources
from typing import Any, Final

from babel import Locale
from babel.dates import format_date, format_datetime, format_skeleton, format_time
from babel.numbers import format_decimal

__all__ = ["LANGUAGES", "Texts", "catalog", "moment_of", "negotiate"]

LANGUAGES: Final[Mapping[str, str]] = {"fr": "fr_LU", "de": "de_LU", "lb": "lb_LU", "en": "en_GB"}
"""Language to the locale of its dates and numbers."""

DEFAULT: Final = "en"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def negotiate(accepted: str | None) -> str:
    """The language of an Accept-Language header; English where it names none of ours."""
    best, best_quality = DEFAULT, 0.0
    for item in (accepted or "").split(","):
        tag, *parameters = (part.strip() for part in item.split(";"))
        language = tag.partition("-")[0].lower()
        quality = _quality(parameters)
        if language in LANGUAGES and quality > best_quality:
            best, best_quality = language, quality
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


@cache
def catalog(language: str) -> Mapping[str, str]:
    """Every text of a language by its keys, joined by points."""
    file = resources.files(__package__) / "texts" / f"{language}.toml"
    return dict(_flat("", tomllib.loads(file.read_text(encoding="utf-8"))))


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, str):
            yield prefix + name, value
        else:
            yield from _flat(f"{prefix}{name}.", value)


def moment_of(microseconds: int, zone: tzinfo) -> datetime:
    """Microseconds since 1970 as a time in a zone; what no calendar holds becomes its last day."""
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).astimezone(zone)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Texts:
    """One language: call it with a key for its text. A missing key raises KeyError: a defect that a test finds."""

    language: str
    zone: tzinfo

    def __call__(self, key: str, **values: object) -> str:
        """The text with its {names} filled in."""
        text = catalog(self.language)[key]
        return text.format(**values) if values else text

    def counted(self, key: str, number: int) -> str:
        """The text for this number; {n} is the number itself."""
        texts = catalog(self.language)
        form = self._locale.plural_form(number)
        return texts.get(f"{key}.{form}", texts[f"{key}.other"]).format(n=self.number(number))

    def named(self, group: str, code: object, otherwise: str | None = None) -> str:
        """What a code is called; what we have no name for is called ``otherwise``, or as the code itself."""
        return catalog(self.language).get(f"{group}.{code}", otherwise or str(code))

    def number(self, number: int) -> str:
        """With the language's separators."""
        return format_decimal(number, locale=self._locale)

    def moment(self, microseconds: int) -> str:
        """Day and time to the second."""
        return format_datetime(moment_of(microseconds, self.zone), "medium", locale=self._locale)

    def span(self, microseconds: int, unit: str, *, short: bool = False) -> str:
        """The beginning of an hour, day, month or year; ``short``: a day without its year."""
        moment = moment_of(microseconds, self.zone)
        if unit == "hour":
            day = format_skeleton("MMMd", moment, locale=self._locale)
            return f"{day} {format_time(moment, 'HH:mm', locale=self._locale)}"
        if unit == "year":
            return str(moment.year)
        if unit == "month":
            return format_skeleton("yMMM", moment, locale=self._locale)
        if short:
            return format_skeleton("MMMd", moment, locale=self._locale)
        return format_date(moment, "medium", locale=self._locale)

    @property
    def _locale(self) -> Locale:
        return _locale(self.language)


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(LANGUAGES[language])
