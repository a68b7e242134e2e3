"""What a visitor may do on the page of an observation: comment, or have it made again."""

from dataclasses import dataclass

import panel as pn

from dashboards import administration_markup
from dashboards.access import ADMINISTRATION, Access, Visitor
from dashboards.administration_collect import products
from dashboards.answers import ARGUMENT, Answers
from dashboards.comments import COMMENT_STYLE, comments_markup, may_delete
from dashboards.page_frame import address_argument, form_token, page_style
from roboao_assets.storage.catalogue import Catalogue


@dataclass(frozen=True, kw_only=True)
class VisitorParts:
    """Makes the parts of a page by which a visitor changes something.

    Attributes
    ----------
    access : Access
    answers : Answers
    """

    access: Access
    answers: Answers

    def of_observation(
        self, catalogue: Catalogue, visitor: Visitor, observation: str
    ) -> list[pn.viewable.Viewable]:
        """Return the comments, and for administrators what makes products again.

        The caller has asked whether the visitor sees the observation.
        """
        answer = self.answers.take(visitor, address_argument(ARGUMENT))
        comments = [
            (comment, may_delete(comment, visitor, self.access))
            for comment in catalogue.comments.of(observation)
        ]
        shown = comments_markup(comments, observation, form_token(), answer)
        if self.access.may(visitor, ADMINISTRATION):
            shown += administration_markup.observation_tools(observation, products())
        return [_html(shown)]


def _html(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(
        text, stylesheets=[page_style(), COMMENT_STYLE], sizing_mode="stretch_width", margin=0
    )
