"""The page of the documentation that tells how to set machines up, as something to follow."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "many-machines.md"
FENCE = re.compile(r"^```(sh|ini) ([a-z]+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the tests' machines have from the beginning: Debian's packages and the checkout.
GIVEN = ("apt install ", "git clone ")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of the page: commands, or lines of a file."""

    machine: str
    file: str
    lines: tuple[str, ...]

    def script(self) -> str:
        """Return the shell script that does what a reader of the block does."""
        if not self.file:
            return "\n".join(line for line in self.lines if not line.startswith(GIVEN))
        return "\n".join(_set(self.file, line) for line in self.lines)


def blocks(machine: str, page: Path = PAGE) -> list[Block]:
    """Return what the page says to do on a machine, in its order."""
    return [
        Block(machine=whose, file=file, lines=tuple(body.strip().splitlines()))
        for _, whose, file, body in FENCE.findall(page.read_text())
        if whose == machine
    ]


def _set(file: str, line: str) -> str:
    """Return the command that sets a variable in an environment file, commented out or not."""
    name, _, _ = line.partition("=")
    quoted = shlex.quote(line)
    return f"sed -i '/^#\\?{name}=/d' {file} && printf '%s\\n' {quoted} >> {file}"
