"""The ledger of the faults: filled by the tests, written when the session ends."""

from pathlib import Path

import pytest
from ledger import Ledger

BUILD = Path(__file__).parents[2] / "build"


@pytest.fixture(scope="session")
def ledger():
    """Where each test enters the fault that it tried."""
    entered = Ledger()
    yield entered
    entered.write(BUILD / "faults.json")
    print("\n" + entered.table(), flush=True)
