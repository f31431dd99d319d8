"""Date understanding: what today is, and what the date is some days, weeks, months or years from it."""

from datetime import date, timedelta
from random import Random

from heedful.tasks.reasoning.question import Question, choice

SHIFTS = {  # what is asked: (days, months)
    "tomorrow": (1, 0),
    "yesterday": (-1, 0),
    "one week from today": (7, 0),
    "one week ago from today": (-7, 0),
    "10 days ago": (-10, 0),
    "a month ago": (0, -1),
    "a month from today": (0, 1),
    "one year ago from today": (0, -12),
    "one year from today": (0, 12),
}
YEARS = range(1990, 2020)
MOST_DAYS = 28  # so that the same day a month later is always a date
NUM_OPTIONS = 4
SLIPS = ((1, 0), (-1, 0), (2, 0), (-7, 0), (7, 0), (0, 1), (0, -1), (0, 12), (0, -12))  # what is got wrong


def dates(rng: Random, ask: Random) -> Question:
    """A question of a shift from a day of a month; the year is a name like any other."""
    today = date(rng.choice(YEARS), rng.randint(1, 12), rng.randint(1, MOST_DAYS))
    asked = ask.choice(list(SHIFTS))
    right = shifted(today, *SHIFTS[asked])
    wrong = [shifted(right, *slip) for slip in ask.sample(SLIPS, NUM_OPTIONS)]
    options = [right, *dict.fromkeys(one for one in (today, *wrong) if one != right)][:NUM_OPTIONS]
    ask.shuffle(options)
    text = f"Today is {shown(today)}. What is the date {asked} in MM/DD/YYYY?"
    key = f"{asked}/{today.month}-{today.day}"
    return choice(text, [shown(one) for one in options], options.index(right), "dates", key)


def shifted(day: date, days: int, months: int) -> date:
    """So many days and months later; a day that the month does not have becomes its last."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = (date(year + month // 11, (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last)) + timedelta(days=days)


def shown(day: date) -> str:
    """MM/DD/YYYY."""
    return f"{day.month:02}/{day.day:02}/{day.year}"
