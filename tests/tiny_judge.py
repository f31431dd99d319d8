"""A judge of texts by a number, for tests: `tiny_judge:early` as a scorer."""


def constant(prompt: str, response: str) -> float:
    """The same for every response."""
    return 0.5


def early(prompt: str, response: str) -> float:
    """Minus the mean place of the characters in Unicode, in hundreds: digits before capitals before small letters."""
    return -sum(map(ord, response)) / (100 * max(1, len(response)))


def failing(prompt: str, response: str) -> float:
    """No number for any response."""
    raise RuntimeError("it broke")


def not_a_number(prompt: str, response: str) -> float:
    """A number that compares with none."""
    return float("nan")


def right(prompt: str, response: str, answer: str) -> float:
    """1 for the answer, 0 for any other."""
    return float(response == answer)


def digit(prompt: str, response: str) -> float:
    """1 for a response of digits, 0 for any other."""
    return float(response.isdigit())


def kind(prompt: str, response: str) -> float:
    """2 for digits, 1 for small letters, 0 for the rest: many texts of one score."""
    return 2.0 if response.isdigit() else float(response.islower())
