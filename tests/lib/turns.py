"""What is too much for each day takes turns: some of it today, others tomorrow."""

import datetime


def of_today(names, count):
    """So many of the names, at most all of them."""
    count = min(count, len(names))
    first = datetime.date.today().toordinal() * count
    return [names[(first + turn) % len(names)] for turn in range(count)]
