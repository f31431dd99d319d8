"""A judge of texts by a number, for tests: `tiny_judge:early` as a scorer."""


def early(prompt: str, response: str) -> float:
    """Minus the mean place of the characters in Unicode, in hundreds: digits before capitals before small letters."""
    return -sum(map(ord, response)) / (100 * max(1, len(response)))
