"""Known vulnerabilities of the packages in the lock files, by pip-audit: what `make audit` runs.

pip-audit calls it no problem when the service that knows vulnerabilities has never heard of a
package, and ends with success also when that is all of them, as behind an index that serves
packages alone. Here what was not audited has failed, in a sentence that says so.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-audit.lock")
_SERVICE_LIMIT_S = 900
_MOST_NAMED = 5


def judge(report: Mapping[str, Any], lock: str) -> tuple[list[str], bool]:
    """Return what pip-audit has found in a lock file, in sentences, and whether all is well.

    Parameters
    ----------
    report : mapping
        pip-audit's own, as its format `json` has it.
    lock : str
        Name of the lock file.
    """
    packages = list(report.get("dependencies", ()))
    skipped = [package for package in packages if "skip_reason" in package]
    audited = len(packages) - len(skipped)
    findings = [
        f"{package['name']} {package['version']}: {found['id']}"
        f"{_in_brackets(found.get('aliases', ()))}, {_mended(found.get('fix_versions', ()))}"
        for package in packages
        for found in package.get("vulns", ())
    ]
    said = [f"{lock}: {audited} of {len(packages)} packages audited, {len(findings)} findings"]
    said += [f"  {finding}" for finding in findings]
    if not packages:
        said.append("  NOT AUDITED: no package was read from it")
    elif skipped:
        names = ", ".join(package["name"] for package in skipped[:_MOST_NAMED])
        more = f" and {len(skipped) - _MOST_NAMED} others" if len(skipped) > _MOST_NAMED else ""
        said.append(
            f"  NOT AUDITED: {names}{more}: {skipped[0]['skip_reason']}. If these are all, the "
            f"package index here serves no vulnerabilities; run this where the public index or, "
            f"with AUDIT='--vulnerability-service osv', the OSV database is reached"
        )
    return said, bool(packages) and not skipped and not findings


def _in_brackets(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _mended(versions: Sequence[str]) -> str:
    return f"mended in {', '.join(versions)}" if versions else "mended in no version yet"


def ask(lock: Path, options: Sequence[str]) -> tuple[Mapping[str, Any], str]:
    """Return pip-audit's report on a lock file, and what went wrong (then the report is empty)."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes"]
    command += ["--disable-pip", "--progress-spinner", "off", "--format", "json", *options]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=_SERVICE_LIMIT_S, check=False
        )
        return json.loads(ran.stdout), ""
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {_SERVICE_LIMIT_S} s"
    except json.JSONDecodeError:
        # The last line of a trace says what it was.
        return {}, (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """Audit every lock file; return the exit status: 0 only if all were audited, without findings.

    Parameters
    ----------
    argv : sequence of str, optional
        Options for pip-audit, e.g. `--ignore-vuln ID` of what docs/security.md has accepted.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _, options = parser.parse_known_args(argv)
    well = True
    for name in LOCKS:
        report, problem = ask(Path(__file__).parents[1] / name, options)
        if problem:
            print(f"{name}: NOT AUDITED: the service of vulnerabilities was not reached: {problem}")
            well = False
            continue
        said, good = judge(report, name)
        print("\n".join(said))
        well = well and good
    print("== audited, and nothing is known" if well else "== THE AUDIT HAS FAILED, see above")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
