"""Feedback small enough to train on in a test."""


def record(number: int, **more) -> dict:
    """A record that most methods can learn from: two scored responses."""
    responses = [{"text": f"good {number}", "score": 1.0}, {"text": f"bad  {number}", "score": 0.0}]
    return {"id": f"r{number}", "prompt": f"say {number}: ", "responses": responses, **more}
