"""Handlers that answer in a sentence when they have nothing else to send."""

from tornado.web import RequestHandler


class SentenceHandler(RequestHandler):
    """A handler that can say why."""

    def explain(self, status: int, sentence: str) -> None:
        """End the answer with a sentence, which no browser keeps or takes for a page."""
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.finish(f"{sentence.removesuffix('.')}.\n")
