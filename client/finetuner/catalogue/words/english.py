"""English articles: `a` or `an`."""


def with_article(words: str) -> str:
    """Return the words after their indefinite article: `a dress`, `an orange dress`."""
    return f"{'an' if words[:1].lower() in 'aeio' else 'a'} {words}"
