"""Comments on an observation: written by whoever may see it, deleted by author or administrator."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dashboards.access import ADMINISTRATION, Access, AccessError, Asked, Visitor
from dashboards.administration_markup import STYLE, answer_markup, hidden_fields
from dashboards.answers import Answer, FormHandler
from dashboards.links import observation_url
from roboao_assets.storage.catalogue import (
    MOST_COMMENT_CHARACTERS,
    Catalogue,
    Comment,
    night_of,
    open_catalogue,
)
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.records import write_comments

COMMENT_URL = "/comment"
_NOT_THERE = "There is no such observation, or no such comment"

COMMENT_STYLE = (
    STYLE
    + """
.comment { border-left: 3px solid var(--line); margin: 12px 0; max-width: 900px;
  padding: 2px 0 2px 12px; }
.comment p { overflow-wrap: anywhere; white-space: pre-wrap; }
.comment header { align-items: center; color: var(--muted); display: flex; flex-wrap: wrap;
  font-size: 13px; gap: 4px 12px; }
.comment header b { color: var(--text); }
.comment header form { margin: 0 0 0 auto; }
.comment header button { background: none; border-color: transparent; color: var(--muted);
  font-size: 13px; padding: 1px 8px; }
.comment header button:hover, .comment header button:focus-visible { border-color: var(--bad);
  color: var(--bad); }
.write { display: grid; gap: 8px; max-width: 900px; }
.write textarea { background: var(--raised); border: 1px solid var(--line); border-radius: 4px;
  box-sizing: border-box; color: var(--text); font: inherit; min-height: 74px; padding: 8px 10px;
  resize: vertical; width: 100%; }
.write textarea:focus-visible { outline: 2px solid var(--accent); }
.write button { justify-self: start; }
"""
)

logger = logging.getLogger("roboao.comments")


@dataclass(frozen=True, kw_only=True)
class CommentDesk:
    """Writes and deletes comments, and their copies in the archive tree.

    Attributes
    ----------
    catalogue_url : str
    paths : ArchivePaths
    access : Access
    """

    catalogue_url: str
    paths: ArchivePaths
    access: Access

    def perform(self, visitor: Visitor, fields: Mapping[str, str]) -> str:
        """Write or delete what a form asks for; return a sentence that says so.

        Raises
        ------
        AccessError
            The visitor does not see the observation, or it is not their comment.
        CatalogueError
            The text is no comment; nothing was changed.
        """
        observation = fields.get("observation", "")
        if not self.access.may(visitor, Asked("observation", observation)):
            raise AccessError(_NOT_THERE)
        with open_catalogue(self.catalogue_url) as catalogue:
            if "delete" in fields:
                said = self._delete(catalogue, visitor, observation, fields["delete"])
            else:
                catalogue.comments.add(observation, fields.get("text", ""), by=visitor.name)
                catalogue.actions.record(observation, "comment written", by=visitor.name)
                said = "Your comment was written."
            self._keep_copy(catalogue, observation)
        return said

    def _delete(
        self, catalogue: Catalogue, visitor: Visitor, observation: str, identifier: str
    ) -> str:
        comment = catalogue.comments.get(identifier)
        if comment is None or comment.observation != observation:
            raise AccessError(_NOT_THERE)
        if not may_delete(comment, visitor, self.access):
            raise AccessError(_NOT_THERE)
        catalogue.comments.remove(identifier)
        # What it said is gone: who wanted it so may have had a reason.
        catalogue.actions.record(observation, "comment deleted", by=visitor.name, author=comment.by)
        return f"The comment of {comment.by} was deleted."

    def _keep_copy(self, catalogue: Catalogue, observation: str) -> None:
        night = night_of(catalogue.observation(observation) or {})
        if night is None:
            return
        try:
            write_comments(catalogue, self.paths, night, observation)
        except OSError as error:
            # The sensor that goes round the nights makes up for it.
            logger.warning("the copy of the comments on %s was not written: %s", observation, error)


class CommentHandler(FormHandler):
    """`/comment`, by POST only."""

    typed_field = "text"


def may_delete(comment: Comment, visitor: Visitor, access: Access) -> bool:
    """Return whether a visitor who sees the observation may delete a comment on it."""
    return comment.by == visitor.name or access.may(visitor, ADMINISTRATION)


def comments_markup(
    comments: Sequence[tuple[Comment, bool]], observation: str, token: str, answer: Answer | None
) -> str:
    """Return the comments on an observation, newest last, and the form for another one.

    Parameters
    ----------
    comments : sequence of (Comment, bool)
        With each, whether who reads it may delete it.
    observation : str
    token : str
        Of the forms.
    answer : Answer or None
        What became of the form that was sent last.
    """
    back = f"{observation_url(observation)}#comments"
    carried = hidden_fields(token, observation=observation, back=back)
    shown = "".join(_comment(comment, carried, deletable) for comment, deletable in comments)
    typed = answer.typed if answer is not None else ""
    count = f" ({len(comments)})" if comments else ""
    return (
        f'<section id="comments"><h2 class="plot-title">Comments{count}</h2>'
        f'{answer_markup(answer)}{shown}<form class="write" method="post" action="{COMMENT_URL}">'
        f'{carried}<textarea name="text" required maxlength="{MOST_COMMENT_CHARACTERS}" '
        'aria-label="your comment" placeholder="your comment, for whoever sees this observation">'
        f"{escape(typed)}</textarea><button>Write</button></form></section>"
    )


def _comment(comment: Comment, carried: str, deletable: bool) -> str:
    time = "" if comment.time is None else f"{comment.time:%Y-%m-%d %H:%M} UTC"
    delete = (
        f'<form method="post" action="{COMMENT_URL}">{carried}<button name="delete" '
        f'value="{escape(comment.identifier)}" aria-label="delete the comment of '
        f'{escape(comment.by)}">delete</button></form>'
        if deletable
        else ""
    )
    return (
        f'<article class="comment"><header><b>{escape(comment.by)}</b><span>{time}</span>{delete}'
        f"</header><p>{escape(comment.text)}</p></article>"
    )
