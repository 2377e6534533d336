"""The one family of errors meant for the user: what is wrong, where, and what to do about it."""


class PhalanxError(ValueError):
    """A user's mistake or a broken input. The command line prints its text, without a traceback, and exits 2."""


class ConfigError(PhalanxError):
    """A key, value or combination in the configuration that cannot work."""


class DataError(PhalanxError):
    """A file of a data set or submission that cannot be used; the text names file and remedy."""


class TrainingError(PhalanxError):
    """Training cannot go on: a non-finite loss, a changed recipe, a folder in use."""


class OutputError(PhalanxError):
    """A place that is not written to or cleaned: a link, or files that this program did not write."""
