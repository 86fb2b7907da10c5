"""Dates as people write them, and as ISO 8601 has them: 'the third of March nineteen eighty-four', 1984-03-03.

Days are from 1969 to 2068, which is how POSIX reads years of two digits. Numbers between slashes are month, day and
year, as in America; those between dots or hyphens are day, month and year, as in Germany. Nothing else is ambiguous.
Every day is in one split alone.
"""

import datetime
import functools
import hashlib
import random

TEXTS = {'train': 40_000, 'validation': 2000, 'test': 2000}
FIRST, LAST = datetime.date(1969, 1, 1), datetime.date(2068, 12, 31)
_SHARES = ('validation', 'test', *['train'] * 8)  # of all days
_SEED = 8601

MONTHS = ('January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November',
          'December')
WEEKDAYS = ('Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday')
_ONES = ('', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve',
         'thirteen', 'fourteen', 'fifteen', 'sixteen', 'seventeen', 'eighteen', 'nineteen')
_TENS = ('', '', 'twenty', 'thirty', 'forty', 'fifty', 'sixty', 'seventy', 'eighty', 'ninety')
_ORDINALS = {'one': 'first', 'two': 'second', 'three': 'third', 'five': 'fifth', 'eight': 'eighth', 'nine': 'ninth',
             'twelve': 'twelfth', 'twenty': 'twentieth', 'thirty': 'thirtieth'}

# What the parts of a text are: day 3, 03, 3rd, third; month 3, 03, March, Mar; year 1984, 84, nineteen eighty-four.
FORMS = (
    'the {third} of {March} {nineteen}', '{March} the {third}, {nineteen}', '{Saturday}, {March} {third} {nineteen}',
    'the {third} of {March}, {y}', '{March} {third}, {y}', '{Saturday} the {third} of {March} {y}',
    '{March} {d}, {y}', '{d} {March} {y}', '{Mar} {d} {y}', '{d} {Mar} {y}', '{d}-{Mar}-{yy}', '{Mar} {d}, {yy}',
    "{March} {d} '{yy}", 'the {3rd} of {March} {y}', '{March} {3rd}, {y}', '{3rd} {Mar} {yy}', '{Sat}, {d} {Mar} {y}',
    '{Saturday}, {March} {d}, {y}', '{m}/{d}/{yy}', '{m}/{d}/{y}', '{mm}/{dd}/{y}', '{d}.{m}.{yy}', '{dd}.{mm}.{y}',
    '{d}. {March} {y}', '{dd}-{mm}-{y}', '{y}/{mm}/{dd}', '{y} {March} {d}', '{y}{mm}{dd}',
)


@functools.cache
def pairs(split: str) -> list[tuple[str, str]]:
    """Returns the texts of a split, each with its date as 'YYYY-MM-DD'; always the same."""
    generator = random.Random(f'{_SEED} {split}')
    days = [day for day in _all_days() if split_of(day) == split]
    return [(write(day, generator), day.isoformat()) for day in generator.choices(days, k=TEXTS[split])]


def split_of(day: datetime.date) -> str:
    """Returns the one split that a day may be in."""
    return _SHARES[hashlib.md5(day.isoformat().encode()).digest()[0] % len(_SHARES)]


def write(day: datetime.date, generator: random.Random, form: str = '') -> str:
    """Returns a day as a text, in a form of FORMS, or in one that is drawn; one in ten is in small letters."""
    form = form or generator.choice(FORMS)
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    text = form.format(
        third=ordinal(day.day), March=month, nineteen=generator.choice(years(day.year)), Saturday=weekday, y=day.year,
        yy=f'{day.year % 100:02d}', d=day.day, dd=f'{day.day:02d}', m=day.month, mm=f'{day.month:02d}', Mar=month[:3],
        Sat=weekday[:3], **{'3rd': f'{day.day}{_suffix(day.day)}'})
    return text.lower() if generator.random() < 0.1 else text


def cardinal(number: int) -> str:
    """Returns a number from 1 to 99 in words."""
    if number < 20:
        return _ONES[number]
    return _TENS[number // 10] + (f'-{_ONES[number % 10]}' if number % 10 else '')


def ordinal(number: int) -> str:
    """Returns a number from 1 to 99 as 'first', 'second', ... in words."""
    head, hyphen, last = cardinal(number).rpartition('-')
    return head + hyphen + _ORDINALS.get(last, last + 'th')


def years(year: int) -> tuple[str, ...]:
    """Returns a year from 1969 to 2068 in words, in all ways that are usual."""
    century, rest = divmod(year, 100)
    thousands = ('two thousand' + (f' and {cardinal(rest)}' if rest else ''),
                 f'two thousand {cardinal(rest)}'.strip()) if century == 20 else ()
    if not rest:
        return thousands
    pairs = (f'{cardinal(century)} {cardinal(rest) if rest > 9 else f"oh {cardinal(rest)}"}',)
    return pairs + thousands if rest < 20 else pairs  # 'two thousand and sixty-eight' is not usual


def _suffix(day: int) -> str:
    return 'th' if day in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')


@functools.cache
def _all_days() -> list[datetime.date]:
    return [FIRST + datetime.timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
