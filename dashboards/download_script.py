"""Shell scripts that fetch files of the archive: what was begun goes on, what is there is kept."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TOOLS = ("curl", "wget")
_NO_DIGEST = "-"
# Parts of a name that lead elsewhere than into the folder of the script.
_ELSEWHERE = re.compile(r"(^|/)\.{0,2}(/|$)")

_HEAD = """\
#!/bin/sh
# {title}
#
# Run it in the folder where the files shall be:   sh {name}
# What is complete is left alone and what was begun goes on, so it can be run again; the exit
# status is 0 when everything is there.
#
# It holds a token that fetches these files as {user} until {until}. Keep it like a password: who
# has the script can do the same. All tokens end on the page /account, and with a new password.
set -u
base={base}
token=${{ROBOAO_TOKEN:-{token}}}
"""
# The token stands in a file that nobody else can read: arguments are seen in the list of processes.
_LOGIN = """\
command -v {tool} >/dev/null || {{
  echo "{tool} is not installed; fetch the script for {other}" >&2
  exit 2
}}
login=$(mktemp) || exit 2
trap 'rm -f "$login"' EXIT
trap 'exit 130' INT TERM
printf '{line}\\n' "$token" > "$login"
"""
_LOGIN_LINES = {
    "curl": 'header = "Authorization: Bearer %s"',
    "wget": "header = Authorization: Bearer %s",
}
_FETCH = {
    "curl": """\
fetch() {
  curl --config "$login" --fail --silent --show-error --retry 3 --continue-at - \\
    --output "$2" "$base$1"
}
""",
    "wget": """\
fetch() {
  WGETRC=$login wget --quiet --tries=3 --continue --output-document="$2" "$base$1"
}
""",
}
_BODY = """\
if command -v sha256sum >/dev/null; then digest() { sha256sum < "$1" | cut -d ' ' -f 1; }
elif command -v shasum >/dev/null; then digest() { shasum -a 256 < "$1" | cut -d ' ' -f 1; }
else
  echo "neither sha256sum nor shasum is installed: sizes are checked, contents are not" >&2
  digest() { echo unknown; }
fi
# file, bytes, SHA-256 or -
complete() {
  [ -f "$1" ] && [ "$(wc -c < "$1" | tr -d ' ')" = "$2" ] || return 1
  [ "$3" = - ] && return 0
  found=$(digest "$1")
  [ "$found" = "$3" ] || [ "$found" = unknown ]
}
missing=0
# file, bytes, SHA-256 or -, address
get() {
  if complete "$1" "$2" "$3"; then echo "have $1"; return; fi
  mkdir -p "$(dirname "$1")"
  # What is as long as the whole and is not it cannot be gone on with.
  if [ -f "$1.part" ] && [ "$(wc -c < "$1.part")" -ge "$2" ] && ! complete "$1.part" "$2" "$3"
  then rm -f "$1.part"; fi
  if complete "$1.part" "$2" "$3" || fetch "$4" "$1.part" && complete "$1.part" "$2" "$3"; then
    mv "$1.part" "$1"
    echo "got  $1"
  else
    echo "FAILED: $1 is not what the archive had when this script was made" >&2
    missing=$((missing + 1))
  fi
}
"""
_TAIL = """\
if [ "$missing" -gt 0 ]; then
  echo "$missing of {count} files are missing. Run this again; if the archive has made them anew" \\
    "or the token has ended, fetch a new script." >&2
  exit 1
fi
echo "All {count} files are here."
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file that a script fetches.

    Attributes
    ----------
    target : str
        Where it is put, below the folder in which the script runs.
    size_bytes : int
    sha256 : str
        Empty: not known.
    address : str
        Path and query on the server.
    """

    target: str
    size_bytes: int
    sha256: str
    address: str


@dataclass(frozen=True, kw_only=True)
class ScriptHead:
    """What a script says of itself; `until` is when its token ends."""

    title: str
    name: str
    user: str
    until: str
    base_url: str
    token: str


def script_text(tool: str, head: ScriptHead, entries: Iterable[Entry]) -> str:
    """Return a POSIX shell script.

    Parameters
    ----------
    tool : {'curl', 'wget'}
    head : ScriptHead
    entries : iterable of Entry
        Those whose target would lie elsewhere than below the script's folder are left out, with
        a line that says so.
    """
    good: list[Entry] = []
    strange: list[Entry] = []
    for entry in entries:
        name = entry.target
        (strange if _ELSEWHERE.search(name) or not name.isprintable() else good).append(entry)
    filled = _HEAD.format(
        title=_comment(head.title),
        name=_comment(head.name),
        user=_comment(head.user),
        until=_comment(head.until),
        base=shlex.quote(head.base_url),
        token=head.token,
    )
    lines = [_line(entry) for entry in good]
    lines += [f"# left out, as its name is strange: {ascii(entry.target)}" for entry in strange]
    tail = _TAIL.replace("{count}", str(len(good)))
    other = next(name for name in TOOLS if name != tool)
    login = _LOGIN.format(tool=tool, other=other, line=_LOGIN_LINES[tool])
    return filled + login + _FETCH[tool] + _BODY + "\n".join([*lines, ""]) + tail


def _line(entry: Entry) -> str:
    words: Sequence[str] = (
        f"./{entry.target}",
        str(entry.size_bytes),
        entry.sha256 or _NO_DIGEST,
        entry.address,
    )
    return "get " + " ".join(shlex.quote(word) for word in words)


def _comment(text: str) -> str:
    """Return a text that stays in its line."""
    return "".join(c if c.isprintable() else "?" for c in text)
