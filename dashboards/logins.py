"""Whether a name and a password are a user's: slowly, seldom, and telling nothing else."""

import asyncio
import ipaddress
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from dashboards.sessions import find_user
from dashboards.source import CatalogueSource
from dashboards.throttle import Throttle
from roboao_assets.science.errors import ArchiveError
from roboao_assets.storage.catalogue import User, is_login, open_catalogue
from roboao_assets.storage.passwords import hash_password, is_outdated, verify_password

logger = logging.getLogger("roboao.login")

# Every refusal takes this long, unless the machine is slower.
REFUSAL_S = 1.0
# Each verification takes 64 MB: two at a time, and so many may wait.
_VERIFICATIONS = 2
_MOST_WAITING = 32
_FREE_FAILURES, _LONGEST_WAIT_S = 5, 300.0
# Many people may come from one address.
_FREE_FAILURES_OF_ADDRESS = 20


class TooManyLoginsError(Exception):
    """More people log in at this moment than can be answered."""


class LoginDesk:
    """Checks passwords.

    Parameters
    ----------
    source : CatalogueSource
    catalogue_url : str
        For writing, where a password is to be hashed anew.
    """

    def __init__(self, source: CatalogueSource, catalogue_url: str) -> None:
        self._source, self._catalogue_url = source, catalogue_url
        self._executor = ThreadPoolExecutor(_VERIFICATIONS, thread_name_prefix="passwords")
        self._waiting = 0
        self._by_name = Throttle(_FREE_FAILURES, _LONGEST_WAIT_S)
        self._by_address = Throttle(_FREE_FAILURES_OF_ADDRESS, _LONGEST_WAIT_S)
        # The first stranger's answer must not take longer than the second's.
        self._executor.submit(verify_password, None, "")

    async def check(self, name: str, password: str, address: str) -> User | None:
        """Return the user if the password is theirs and they may try now, else None.

        Raises
        ------
        TooManyLoginsError
        CatalogueError
            The catalogue cannot be read.
        """
        started = time.monotonic()
        user, why = await self._try(name, password, _network(address))
        if user is not None:
            logger.info("login of %s from %s", user.name, address)
            return user
        logger.warning("login refused: %.70r from %s: %s", name[:64], address, why)
        await asyncio.sleep(max(0.0, started + REFUSAL_S - time.monotonic()))
        return None

    async def _try(self, name: str, password: str, network: str) -> tuple[User | None, str]:
        key = name if is_login(name) else ""
        if self._by_name.wait_s(key) or self._by_address.wait_s(network):
            return None, "too many failures, has to wait"
        if self._waiting >= _MOST_WAITING:
            raise TooManyLoginsError
        self._by_name.count(key)
        self._by_address.count(network)
        self._waiting += 1
        try:
            user = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._verified, name, password
            )
        finally:
            self._waiting -= 1
        if user is None:
            return None, "wrong name or password"
        self._by_name.forgive(key)
        # Not forgiven: else who has one account could try others from there for ever.
        self._by_address.take_back(network)
        return user, ""

    def _verified(self, name: str, password: str) -> User | None:
        user = find_user(self._source, name)
        # Without a user as well, so that the time tells nothing.
        if not verify_password(user.password_hash if user else None, password) or user is None:
            return None
        if not is_outdated(user.password_hash):
            return user
        try:
            with open_catalogue(self._catalogue_url) as catalogue:
                catalogue.users.set_password(name, hash_password(password, login=name))
                return catalogue.users.get(name)
        except ArchiveError as error:
            logger.warning("the password of %s could not be hashed anew: %s", name, error)
            return user


def _network(address: str) -> str:
    """Return what counts as one address: of IPv6 the network that a home is given."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
