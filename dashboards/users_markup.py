"""HTML of the page of the users. Every value of the catalogue passes through `escape`."""

from collections.abc import Sequence
from html import escape

from dashboards.administration_markup import ACTION_URL, USERS_URL, hidden_fields
from roboao_assets.storage.catalogue import User
from roboao_assets.storage.user_changes import spelled_programs


def users_table(users: Sequence[User], myself: str, token: str) -> str:
    """Return the users, each with the forms that change it."""
    admins = sum(user.is_admin for user in users)
    rows = "".join(_user_row(user, myself, token, last=admins == 1) for user in users)
    return (
        '<div class="listing users"><table><thead><tr><th>login</th><th>sees</th>'
        "<th>programs</th><th>password</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _user_row(user: User, myself: str, token: str, *, last: bool) -> str:
    name = escape(user.name)
    you = ' <span class="quiet">(you)</span>' if user.name == myself else ""
    known = (
        f'<div class="quiet">single sign-on: {escape(user.identity)}</div>' if user.identity else ""
    )
    seen = spelled_programs("all" if user.is_admin else user.programs)
    typed = "all" if user.is_admin else ",".join(user.programs)
    warning = " You will have to log in again." if user.name == myself else ""

    def form(action: str, fields: str, button: str) -> str:
        carried = hidden_fields(token, action=action, name=user.name, back=USERS_URL)
        return (
            f'<form class="line" method="post" action="{ACTION_URL}">{carried}{fields}{button}'
            "</form>"
        )

    programs = (
        '<span class="quiet">all, by its name</span>'
        if user.name == "admin"
        else "<details><summary>change…</summary>"
        + form(
            "set-programs",
            f'<label>4,24.1 · all · none<input name="programs" value="{escape(typed)}" '
            'maxlength="500"></label>',
            "<button>Set programs</button>",
        )
        + f'<p class="quiet">Open sessions of {name} end.{warning}</p></details>'
    )
    password = (
        "<details><summary>change…</summary>"
        + form("set-password", _two_passwords(), "<button>Set password</button>")
        + f'<p class="quiet">Open sessions of {name} end.{warning}</p></details>'
    )
    remove = (
        '<span class="quiet">the only administrator</span>'
        if user.is_admin and last
        else "<details><summary>remove…</summary>"
        + form("remove-user", "", f'<button class="danger">Remove {name}</button>')
        + "</details>"
    )
    kind = "administrator: " if user.is_admin else ""
    return (
        f"<tr><td><b>{name}</b>{you}{known}</td><td>{kind}{escape(seen)}</td><td>{programs}</td>"
        f"<td>{password}</td><td>{remove}</td></tr>"
    )


def new_user_form(token: str) -> str:
    """Return the form that adds a user."""
    return (
        f'<form class="line new-user" method="post" action="{ACTION_URL}">'
        + hidden_fields(token, action="add-user", back=USERS_URL)
        + '<label>login<input name="name" required maxlength="64" autocomplete="off"></label>'
        '<label>programs: 4,24.1 · all · none<input name="programs" maxlength="500"></label>'
        + _two_passwords()
        + '<button class="main">Add user</button></form>'
        '<p class="quiet">A password has 12 to 1024 characters. Programs “all” make an '
        "administrator.</p>"
    )


def _two_passwords() -> str:
    return "".join(
        f'<label>{label}<input type="password" name="{name}" required minlength="12" '
        'maxlength="1024" autocomplete="new-password"></label>'
        for label, name in (("password", "password"), ("once more", "again"))
    )
