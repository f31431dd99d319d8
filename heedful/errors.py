"""The errors heedful raises on purpose: what is wrong, where, what would be valid."""


class HeedfulError(Exception):
    """Base of every error a user can cause; the command line prints it and exits with 2.

    Args:
        what: what was found, in one sentence without a full stop.
        where: file, line, field or run the sentence is about.
        allowed: what would be valid there.
        hint: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", allowed: str = "", hint: str = ""):
        self.what, self.where, self.allowed, self.hint = what, where, allowed, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        if self.allowed:
            head += f": expected {self.allowed}"
        return f"{head} ({self.hint})" if self.hint else head


class ConfigError(HeedfulError):
    """A setting, name, recipe or command-line value that cannot be used."""


class DataError(HeedfulError):
    """A feedback file or record that cannot be used."""


class NothingLeft(DataError):
    """No row is left to learn from, of a file or of a round's samples."""


class RunError(HeedfulError):
    """A run folder, checkpoint, model or training that cannot go on."""


class Stopped(HeedfulError):
    """Somebody asked a training to stop; it saved first. Carries what the process exits with (130, 143)."""

    def __init__(self, exit_code: int):
        super().__init__("stopped; everything up to the last step is saved", hint="continue with --resume")
        self.exit_code = exit_code
