"""`roboao user`: who may look at the archive's pages, and at which programs."""

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from roboao_assets.commands.terminal import console, operator, print_table, stop
from roboao_assets.storage.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Users of the dashboard and their programs.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Login: letters, digits, . _ @ -")]
Programs = Annotated[
    str, typer.Option("--programs", help="Programs separated by commas (4,24.1), or all.")
]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the standard input.")
]


@app.command("add")
def user_add(
    name: Name,
    programs: Programs = "",
    password_stdin: FromInput = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="The user comes by single sign-on only.")
    ] = False,
) -> None:
    """Enter a user; `--programs all` makes an administrator, who sees everything."""
    from roboao_assets.storage import user_changes
    from roboao_assets.storage.catalogue import is_login, open_catalogue

    settings = load_settings()
    wanted = user_changes.read_programs(programs or ("all" if name == "admin" else ""))
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        if is_login(name) and catalogue.users.get(name) is not None:
            stop(f"there is a user {name} already; see `roboao user passwd` and `... programs`")
        password = None if no_password else _password(name, password_stdin)
        user_changes.add_user(catalogue, name, password, wanted, by=operator())
    console.print(f"user {name} sees {user_changes.spelled_programs(wanted)}", markup=False)


@app.command("passwd")
def user_passwd(name: Name, password_stdin: FromInput = False) -> None:
    """Set a user's password; whoever is logged in by that name is logged out."""
    from roboao_assets.storage import user_changes
    from roboao_assets.storage.catalogue import open_catalogue

    with open_catalogue(load_settings().resolved_catalogue_url) as catalogue:
        if catalogue.users.get(name) is None:
            stop(f"there is no user {name!r}; `roboao user list` tells which there are")
        password = _password(name, password_stdin)
        user_changes.set_password(catalogue, name, password, by=operator())
    console.print(f"the password of {name} was set; open sessions have ended", markup=False)


@app.command("programs")
def user_programs(
    name: Name,
    programs: Annotated[str, typer.Argument(help="Programs separated by commas, none, or all.")],
) -> None:
    """Set which programs a user sees; whoever is logged in by that name is logged out."""
    from roboao_assets.storage import user_changes
    from roboao_assets.storage.catalogue import open_catalogue

    wanted = user_changes.read_programs(programs)
    with open_catalogue(load_settings().resolved_catalogue_url) as catalogue:
        user_changes.set_programs(catalogue, name, wanted, by=operator())
    console.print(f"user {name} sees {user_changes.spelled_programs(wanted)}", markup=False)


@app.command("identity")
def user_identity(
    name: Name,
    identity: Annotated[
        str, typer.Argument(help="What the single sign-on knows the user by, or none.")
    ],
) -> None:
    """Say who a user is for the single sign-on; whoever is logged in by that name is logged out."""
    from roboao_assets.storage import user_changes
    from roboao_assets.storage.catalogue import open_catalogue

    wanted = "" if identity == "none" else identity
    with open_catalogue(load_settings().resolved_catalogue_url) as catalogue:
        user_changes.set_identity(catalogue, name, wanted, by=operator())
    told = f"is {wanted} for the single sign-on" if wanted else "cannot come by single sign-on"
    console.print(f"user {name} {told}", markup=False)


@app.command("remove")
def user_remove(name: Name) -> None:
    """Remove a user, who is logged out; never the last administrator."""
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.user_changes import remove_user

    with open_catalogue(load_settings().resolved_catalogue_url) as catalogue:
        remove_user(catalogue, name, by=operator())
    console.print(f"user {name} was removed", markup=False)


@app.command("list")
def user_list() -> None:
    """List the users and their programs."""
    from roboao_assets.storage.catalogue import open_catalogue
    from roboao_assets.storage.user_changes import spelled_programs

    with open_catalogue(load_settings().resolved_catalogue_url, read_only=True) as catalogue:
        users = catalogue.users.all()
    if not users:
        stop("there is no user yet; make one with `roboao user add NAME --programs all`")
    table = Table("login", "sees", "administrator", "single sign-on")
    for user in users:
        seen = "all" if user.is_admin else user.programs
        admin = "yes" if user.is_admin else "-"
        table.add_row(
            escape(user.name), spelled_programs(seen), admin, escape(user.identity) or "-"
        )
    print_table(table, console)


def _password(name: str, from_input: bool) -> str:
    """Ask for a password, twice; it never stands on a command line, which others can read."""
    if from_input:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        stop("a password is typed at a terminal, or given with --password-stdin")
    return typer.prompt(f"password for {name}", hide_input=True, confirmation_prompt=True)
