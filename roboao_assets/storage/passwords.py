"""Passwords: what is asked of one, and how it is kept (Argon2id, RFC 9106)."""

import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from roboao_assets.science.errors import PasswordError

LEAST_CHARACTERS = 12
MOST_CHARACTERS = 1024


def hash_password(password: str, *, login: str = "") -> str:
    """Return what is kept of a new password.

    Raises
    ------
    PasswordError
        It is too short, too long, or the login itself.
    """
    if not LEAST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise PasswordError(
            f"a password has {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters; this one has "
            f"{len(password)}"
        )
    if len(set(password)) < 5 or (login and password.casefold() == login.casefold()):
        raise PasswordError(
            "a password is not the login and has at least 5 different characters; choose another"
        )
    return _hasher().hash(_spelled(password))


def verify_password(password_hash: str | None, password: str) -> bool:
    """Return whether `password` is the one of the hash.

    Without a hash, or with one that cannot be read, the answer is no, and as late as with one.
    """
    try:
        return _hasher().verify(password_hash or _nobodys_hash(), _spelled(password)) and bool(
            password_hash
        )
    except (InvalidHashError, UnicodeEncodeError):
        # Of another program, or spoilt: it costs the same time as one of ours.
        verify_password(None, password)
        return False
    except VerificationError:
        return False


def is_outdated(password_hash: str) -> bool:
    """Return whether a hash was made with other parameters than a new one would be."""
    return _hasher().check_needs_rehash(password_hash)


def _spelled(password: str) -> bytes:
    # Keyboards differ in how they spell é; a text beyond what can be a password is cut.
    text = unicodedata.normalize("NFKC", password[: MOST_CHARACTERS + 1])
    return text.encode("utf-8", "replace")


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    return _hasher().hash("a password that nobody has")
