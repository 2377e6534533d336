"""The one family of errors meant for the user: what is wrong, where, and what to do about it, on one line."""

import re

MAX_WORD = 300  # characters of a word in a message; names of files have at most 255
MAX_TEXT = 2500  # characters of a message
# control characters, separators of lines, marks that turn the direction of text, halves of characters
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONG = re.compile(rf"[^\s/]{{{MAX_WORD + 1},}}")


def shown(text: object) -> str:
    r"""The text on one line that can be printed and written in UTF-8; bytes that are not are spelled ``\xbc``.

    >>> print(shown("a\nb"), shown(b"\xbc\xd5.png".decode(errors="surrogateescape")))
    a\nb \xbc\xd5.png
    """
    return _UNPRINTABLE.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


def brief(value: object, most: int = 80) -> str:
    """A value for a message, as Python writes it: on one line, and not longer than ``most``.

    >>> brief("a\\nb"), brief(None), brief(10**5000), len(brief("x" * 1000))
    ("'a\\\\nb'", 'null', 'a number of more than 4000 digits', 80)
    """
    if value is None:
        return "null"
    try:
        text = repr(value[: 2 * most] if isinstance(value, str) else value)
    except ValueError:  # Python's limit
        return "a number of more than 4000 digits"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(text: str, most: int = 300) -> str:
    """A text that others wrote as part of a message: printable, in one line, and not longer than ``most``.

    >>> one_line("two\\n lines", most=8)
    'two l...'
    """
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * most]).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


class PhalanxError(ValueError):
    """A user's mistake or a broken input. The command line prints its text, without a traceback, and exits 2.

    The text becomes one line that can be printed, whatever names and values it contains; what is long is cut.
    """

    def __init__(self, text: object = ""):
        line = _LONG.sub(lambda word: f"{word[0][:100]}...{word[0][-40:]}", shown(text))
        # the fault and the remedy are at the end
        super().__init__(line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT // 2]}...{line[-MAX_TEXT // 2 :]}")


class ConfigError(PhalanxError):
    """A key, value or combination in the configuration that cannot work."""


class DataError(PhalanxError):
    """A file of a data set or submission that cannot be used; the text names file and remedy."""


class TrainingError(PhalanxError):
    """Training cannot go on: a non-finite loss, a changed recipe, a folder in use."""


class OutputError(PhalanxError):
    """A place that is not written to or cleaned: a link, or files that this program did not write."""
