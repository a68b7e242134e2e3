"""Work in a thread whose end comes to the page that waits for it."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import panel as pn

T = TypeVar("T")


def hand_over(future: "Future[T]", then: Callable[["Future[T]"], None]) -> None:
    """Hand the end of some work to this page, when the page has a moment.

    Parameters
    ----------
    future : Future
    then : callable
        Told the ended future; where there is no page, at once.
    """
    document = pn.state.curdoc
    if document is None:
        then(future)
    else:
        future.add_done_callback(
            lambda ended: document.add_next_tick_callback(partial(then, ended))
        )
