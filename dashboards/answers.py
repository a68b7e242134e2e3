"""Forms that change something: read, carried out in a thread, and what became of them is said.

A form is sent by POST and answered by leading the browser to a page, so that going back or
reloading never does it twice. The sentence waits here for that page.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from dashboards.access import AccessError, Visitor
from dashboards.gate import current_visitor
from dashboards.links import local_path
from dashboards.sentences import SentenceHandler
from roboao_assets.science.errors import ArchiveError

ARGUMENT = "said"
_MOST_KEPT = 200
_MOST_FIELD_CHARACTERS = 20_000


class FormError(ArchiveError):
    """A form cannot mean anything."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a form.

    Attributes
    ----------
    sentence : str
    bad : bool
        Nothing was changed.
    typed : str
        What was refused, so that it need not be typed again; never a password.
    """

    sentence: str
    bad: bool = False
    typed: str = ""


class Answers:
    """Answers that wait for the page on which they are said, each for the log-in that asked."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, Answer]] = OrderedDict()

    def keep(self, visitor: Visitor, answer: Answer) -> str:
        """Keep an answer; return by which word in the address it is found."""
        word = secrets.token_urlsafe(9)
        self._kept[word] = (visitor.login, answer)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return word

    def take(self, visitor: Visitor, word: str) -> Answer | None:
        """Return an answer and forget it; None if there is none for this visitor."""
        login, answer = self._kept.get(word, ("", None))
        if answer is None or login != visitor.login:
            return None
        del self._kept[word]
        return answer


class FormHandler(SentenceHandler):
    """Takes a form: subclasses say what is done with its fields (`carry_out`)."""

    # Of the fields, what is given back when the form is refused.
    typed_field = ""
    # Where the browser is led if the form does not say it; empty: nowhere can the answer be read.
    home = ""

    def initialize(
        self,
        answers: Answers,
        executor: Executor,
        work: Callable[[Visitor, Mapping[str, str]], str],
    ) -> None:
        """Take what the server hands every handler of this kind."""
        self._answers, self._executor, self._work = answers, executor, work

    async def post(self) -> None:
        """Carry the form out and lead to the page that says what became of it."""
        visitor = current_visitor(self.request)
        arguments = self.request.body_arguments
        fields: dict[str, str] = {}
        try:
            fields = read_fields(arguments)
            if visitor is None:
                raise AccessError("nobody is logged in")
            sentence = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._work, visitor, fields
            )
            answer = Answer(sentence=sentence)
        except AccessError as error:
            self.explain(404, str(error))
            return
        except ArchiveError as error:
            answer = Answer(
                sentence=f"Nothing was changed: {error}",
                bad=True,
                typed=fields.get(self.typed_field, ""),
            )
        assert visitor is not None
        back = local_path(arguments.get("back", [b""])[-1].decode("utf-8", "replace"))
        back = self.home if back == "/" else back
        if back:
            self._lead_on(back, self._answers.keep(visitor, answer))
        else:
            self.explain(400 if answer.bad else 200, answer.sentence)

    def _lead_on(self, back: str, word: str) -> None:
        place = urlsplit(back)
        query = "&".join(filter(None, (place.query, urlencode({ARGUMENT: word}))))
        self.set_header("Cache-Control", "no-store")
        anchor = f"#{place.fragment}" if place.fragment else ""
        self.redirect(f"{place.path}?{query}{anchor}", status=303)


def read_fields(arguments: Mapping[str, list[bytes]]) -> dict[str, str]:
    """Return the fields of a form as texts, the last where one is given twice.

    Raises
    ------
    FormError
        One is no UTF-8, or far too long.
    """
    fields = {}
    for name, values in arguments.items():
        try:
            fields[name] = values[-1].decode("utf-8")
        except UnicodeDecodeError:
            raise FormError(f"the field {name[:40]!r} of the form is no text in UTF-8") from None
        if len(fields[name]) > _MOST_FIELD_CHARACTERS:
            raise FormError(
                f"the field {name[:40]!r} of the form has {len(fields[name])} characters, and "
                f"none may have more than {_MOST_FIELD_CHARACTERS}"
            )
    return fields
