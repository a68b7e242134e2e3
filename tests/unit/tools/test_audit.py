"""What `make audit` makes of pip-audit's reports: nothing passes that was not asked about."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "audit.py"
GOOD = {"name": "numpy", "version": "2.4.0", "vulns": []}
SKIPPED = {"name": "sep", "skip_reason": "Dependency not found on PyPI and could not be audited"}
BAD = {
    "name": "tornado",
    "version": "6.0",
    "vulns": [
        {"id": "PYSEC-2099-1", "aliases": ["CVE-2099-1"], "fix_versions": ["6.1", "5.9"]},
        {"id": "PYSEC-2099-2", "aliases": [], "fix_versions": []},
    ],
}


@pytest.fixture(scope="module")
def audit():
    return runpy.run_path(str(SCRIPT))


def judged(audit, *packages):
    said, well = audit["judge"]({"dependencies": list(packages)}, "x.lock")
    return "\n".join(said), well


def test_all_audited_and_nothing_known_is_well(audit):
    assert judged(audit, GOOD) == ("x.lock: 1 of 1 packages audited, 0 findings", True)


def test_findings_fail_and_say_what_mends_them(audit):
    said, well = judged(audit, GOOD, BAD)
    assert not well
    assert "2 of 2 packages audited, 2 findings" in said
    assert "tornado 6.0: PYSEC-2099-1 (CVE-2099-1), mended in 6.1, 5.9" in said
    assert "tornado 6.0: PYSEC-2099-2, mended in no version yet" in said


@pytest.mark.parametrize("packages", [(), (SKIPPED,), (GOOD, SKIPPED), (SKIPPED,) * 9])
def test_what_was_not_audited_fails(audit, packages):
    said, well = judged(audit, *packages)
    assert not well
    assert "NOT AUDITED" in said
    assert ("sep" in said) == bool(packages)


def test_a_service_that_is_not_reached_fails(audit, tmp_path):
    """The auditor is not installed among the tests' packages: this is a call that breaks."""
    report, problem = audit["ask"](tmp_path / "no.lock", ())
    assert report == {}
    assert problem


def test_every_lock_file_is_audited(audit):
    there = {path.name for path in SCRIPT.parents[1].glob("*.lock")}
    assert there == set(audit["LOCKS"])
