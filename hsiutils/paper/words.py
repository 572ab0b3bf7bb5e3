"""Words that numbers need, for every page, record and message."""


def counted(count: int, noun: str) -> str:
    """How many there are of what a noun names, whose plural ends in s.

    >>> counted(1, "simulated scene"), counted(3, "seed")
    ('1 simulated scene', '3 seeds')
    """
    return f"{count} {noun}{'s' * (count != 1)}"
