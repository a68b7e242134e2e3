"""What FerretDB 1.x cannot do of MongoDB's, made up for on this side of the wire.

FerretDB 1.x changes a document by reading it, and writing it back whole later: of two changes
at once one is lost. It also refuses lists within lists. The home turns to this module only
where the server says that it is one; with MongoDB, and FerretDB 2, nothing of it is used.
"""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import errors as mongo_errors
from pymongo.collection import Collection

from roboao_assets.science.errors import CatalogueUnavailableError

# A list within a list is kept as a mapping of this single key.
_NESTED_KEY = "nested_list"
# A turn lasts as long as one command. One that is held for longer was left by a dead process.
_STALE_S = 10.0
_PATIENCE_S = 60.0


class Turns:
    """Writers of one document take turns, by inserting a document that may exist only once.

    Inserting is the one thing that FerretDB 1.x does atomically. Clients that do not take
    turns, an operator's shell for example, can still lose a change or make one lost.
    """

    @contextmanager
    def of(self, locks: Collection, key: str) -> Iterator[None]:
        """Wait for the turn on `key`, and give it back.

        Raises
        ------
        CatalogueUnavailableError
            The turn did not come within a minute.
        """
        token = uuid.uuid4().hex
        self._take(locks, key, token)
        try:
            yield
        finally:
            # By token as well: a turn that took too long may be another writer's by now.
            locks.delete_one({"_id": key, "token": token})

    def _take(self, locks: Collection, key: str, token: str) -> None:
        start = seen_since = time.monotonic()
        seen_token = None
        pause_s = 0.002
        while True:
            try:
                locks.insert_one({"_id": key, "token": token})
            except mongo_errors.DuplicateKeyError:
                pass
            else:
                return
            now = time.monotonic()
            if now - start > _PATIENCE_S:
                raise CatalogueUnavailableError(
                    f"the turn to change {key} did not come within {_PATIENCE_S:.0f} s; remove it "
                    f"from the collection 'locks' if no process works on it"
                )
            # Only this process's clock is used: clocks of several machines may disagree.
            holder = locks.find_one({"_id": key})
            held_token = holder["token"] if holder else None
            if held_token != seen_token:
                seen_token, seen_since = held_token, now
            elif held_token is not None and now - seen_since > _STALE_S:
                locks.delete_one({"_id": key, "token": held_token})
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(0.05, pause_s * 1.5)


def encode_nested(value: Any) -> Any:
    """Return `value` with every list within a list as a mapping of one key."""
    if isinstance(value, dict):
        return {key: encode_nested(item) for key, item in value.items()}
    if isinstance(value, list):
        return [
            {_NESTED_KEY: encode_nested(item)} if isinstance(item, list) else encode_nested(item)
            for item in value
        ]
    return value


def decode_nested(value: Any) -> Any:
    """Inverse of `encode_nested`."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get(_NESTED_KEY), list):
            return decode_nested(value[_NESTED_KEY])
        return {key: decode_nested(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode_nested(item) for item in value]
    return value
