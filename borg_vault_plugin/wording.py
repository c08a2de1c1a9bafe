"""How counts are put into words, everywhere alike."""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Print a count with its noun."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
