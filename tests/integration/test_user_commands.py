"""`roboao user` as an administrator types it."""

import subprocess
import sys
import time

import pytest

from roboao_assets.commands.terminal import operator
from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.passwords import verify_password

PASSWORD = "correct horse battery"


@pytest.fixture
def roboao(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBOAO_ARCHIVE_ROOT", str(tmp_path / "archive"))

    def run(*arguments, given=""):
        return subprocess.run(
            [sys.executable, "-m", "roboao_assets.cli", *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_users_are_made_changed_listed_and_removed(roboao, tmp_path):
    url = f"sqlite:///{tmp_path}/archive/catalogue.sqlite"
    typed = PASSWORD + "\n"
    done = roboao("user", "add", "admin", "--password-stdin", given=typed)
    assert (done.returncode, done.stdout) == (0, "user admin sees everything\n"), done.stderr
    done = roboao("user", "add", "law", "--programs", "4, 24.1", "--password-stdin", given=typed)
    assert done.stdout == "user law sees 4, 24.1\n"
    with open_catalogue(url) as catalogue:
        law = catalogue.users.get("law")
        assert verify_password(law.password_hash, PASSWORD)
        assert law.programs == ("4", "24.1")
    again = roboao("user", "add", "law", "--password-stdin", given=typed)
    assert again.returncode == 2
    assert "a user law already" in again.stderr
    assert roboao("user", "programs", "law", "none").returncode == 0
    done = roboao("user", "passwd", "law", "--password-stdin", given="another long password\n")
    assert done.returncode == 0
    listed = roboao("user", "list").stdout.split()
    assert listed[:3] == ["login", "sees", "administrator"]
    assert "law" in listed
    with open_catalogue(url) as catalogue:
        law = catalogue.users.get("law")
        assert verify_password(law.password_hash, "another long password")
        assert law.programs == ()
        actions = [entry.action for entry in catalogue.actions.newest("law")]
        assert "password" not in str(
            [e for e in catalogue.actions.newest("law") if PASSWORD in str(e)]
        )
        assert {e.by for e in catalogue.actions.newest()} == {operator()}
    assert actions == ["user's password set", "user's programs set", "user added"]
    assert roboao("user", "remove", "law").returncode == 0
    for last in (("remove", "admin"), ("programs", "admin", "4")):
        refused = roboao("user", *last)
        assert refused.returncode == 2
        assert "admin" in refused.stderr
    gone = roboao("user", "remove", "law")
    assert gone.returncode == 2
    assert "roboao user list" in gone.stderr


def test_a_user_of_the_single_sign_on_has_no_password(roboao, tmp_path):
    done = roboao("user", "add", "law", "--programs", "4", "--no-password")
    assert done.returncode == 0, done.stderr
    done = roboao("user", "identity", "law", "law@example.org")
    assert done.stdout == "user law is law@example.org for the single sign-on\n"
    with open_catalogue(f"sqlite:///{tmp_path}/archive/catalogue.sqlite") as catalogue:
        law = catalogue.users.get("law")
        assert (law.password_hash, law.identity) == ("", "law@example.org")
        assert catalogue.actions.newest("law")[0].action == "user's identity set"
    assert "law@example.org" in roboao("user", "list").stdout
    done = roboao("user", "identity", "law", "none")
    assert done.stdout == "user law cannot come by single sign-on\n"


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (("add", "law", "--password-stdin"), "short\n", "12 to 1024 characters"),
        (("add", "law"), "", "typed at a terminal"),
        (("add", '{"$ne": 1}', "--password-stdin"), PASSWORD, "no login"),
        (("add", "law", "--programs", "4;5", "--password-stdin"), PASSWORD, "no program"),
        (("add", "admin", "--programs", "4", "--password-stdin"), PASSWORD, "by its name"),
        (("passwd", "nobody", "--password-stdin"), PASSWORD, "there is no user"),
        (("programs", "nobody", "all"), "", "there is no user"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(roboao, arguments, given, sentence):
    done = roboao("user", *arguments, given=given)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())
    assert PASSWORD not in done.stdout + done.stderr


def test_at_a_terminal_the_password_is_asked_for_unseen(roboao, tmp_path):
    import os
    import pty
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(
            sys.executable,
            [sys.executable, "-m", "roboao_assets.cli", "user", "add", "law", "--programs", "4"],
        )
    shown = b""
    for prompt in (b"password for law", b"Repeat for confirmation"):
        end = time.monotonic() + 120
        while prompt not in shown and time.monotonic() < end:
            shown += os.read(terminal, 1000)
        # What is typed before the echo is off is thrown away with what was typed before.
        while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < end:
            time.sleep(0.01)
        os.write(terminal, PASSWORD.encode() + b"\n")
    try:
        while chunk := os.read(terminal, 1000):
            shown += chunk
    except OSError:
        pass  # the terminal is gone with the program
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, shown
    assert PASSWORD.encode() not in shown
    assert b"user law sees 4" in shown
