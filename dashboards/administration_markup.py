"""HTML of the administrator's pages. Every value of the catalogue or a form passes `escape`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from urllib.parse import urlencode

from dashboards.administration_collect import FailureList, Lender, RedoPlan, Status
from dashboards.answers import Answer
from dashboards.links import night_url, observation_url
from dashboards.markup import NOTHING, dashed
from roboao_assets.storage.catalogue import ActionPage, WorkRequest
from roboao_assets.storage.psf_candidates import night_of_id

ACTION_URL = "/administration/action"
REDO_URL = "/administration/redo"
CALIBRATION_URL = "/administration/calibration"
USERS_URL = "/administration/users"
LOG_URL = "/administration/log"
LOADING = '<p class="quiet" role="status">One moment…</p>'

STYLE = """
.listing { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  overflow-x: auto; }
.listing td, .listing th { border-bottom: 1px solid var(--line); overflow-wrap: anywhere;
  padding: 7px 12px; text-align: left; vertical-align: top; }
.listing th { color: var(--muted); font-size: 13px; font-weight: 500; white-space: nowrap; }
.listing tbody tr:last-child td, .listing tbody tr:last-child th { border-bottom: none; }
.listing.status th { width: 130px; }
.listing td.number { font-variant-numeric: tabular-nums; text-align: right; }
.listing td.time, .listing td.short { font-variant-numeric: tabular-nums; white-space: nowrap; }
.listing td.id-cell { min-width: 190px; }
.answer { background: var(--panel); border: 1px solid var(--line);
  border-left: 4px solid var(--good); border-radius: 8px; margin: 0 0 14px; overflow-wrap: anywhere;
  padding: 10px 16px; }
.answer.bad { border-left-color: var(--bad); color: var(--text); }
form.line { align-items: end; display: flex; flex-wrap: wrap; gap: 10px 14px; margin: 10px 0; }
form.line label { color: var(--muted); display: flex; flex-direction: column; font-size: 13px;
  gap: 3px; min-width: 0; }
form.line label.wide { flex: 1 1 320px; max-width: 640px; }
form.line input, form.line select { background: var(--raised); border: 1px solid var(--line);
  border-radius: 4px; box-sizing: border-box; color: var(--text); font: inherit; font-size: 14px;
  height: 32px; min-width: 0; padding: 2px 8px; }
form.line button { box-sizing: border-box; flex: none; height: 32px; white-space: nowrap; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent);
  font-weight: 600; }
button.danger { border-color: var(--bad); color: var(--bad); }
input:focus-visible, select:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 1px; }
.listing td.who { min-width: 84px; }
.users form.line { align-items: start; flex-direction: column; }
.users form.line input { width: 150px; }
form.line > a { padding-bottom: 5px; }
.plan p.quiet { margin-top: 8px; }
details.tools { margin-top: 18px; }
.users summary, .tools summary { color: var(--accent); cursor: pointer; }
.plan { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  max-width: 900px; padding: 14px 20px; }
.plan ul { margin: 6px 0 12px; padding-left: 20px; }
.plan form.line { margin: 14px 0 4px; }
.answer + * { margin-top: 14px; }
.warned { color: var(--warn); }
"""

PRODUCT_WORDS = {
    "bright_star": "bright-star stack",
    "bright_star.strehl": "Strehl ratio",
    "bright_star.preview": "previews",
    "bright_star.pca": "PCA residual",
    "bright_star.astrometry": "astrometric solution",
    "faint_star": "faint-star stack",
    "faint_star.strehl": "Strehl ratio of the faint-star stack",
    "faint_star.preview": "previews of the faint-star stack",
    "faint_star.pca": "PCA residual of the faint-star stack",
    "extended_object": "extended object (stack and deconvolution)",
    "calibration": "calibration and seeing",
}
_STAGE_WORDS = {
    "bright_star_stack": "the bright-star stack, from the raw frames",
    "strehl_ratio": "the Strehl ratio",
    "bright_star_preview": "the previews",
    "pca_residual": "the PCA residual, its candidates and signal-to-noise map",
    "contrast_curve": "the contrast curve",
    "astrometric_solution": "the astrometric solution",
    "faint_star_stack": "the faint-star stack, from the raw frames",
    "faint_star_strehl_ratio": "the Strehl ratio of the faint-star stack",
    "faint_star_preview": "the previews of the faint-star stack",
    "faint_star_pca_residual": "the PCA residual of the faint-star stack",
    "faint_star_contrast_curve": "the contrast curve of the faint-star stack",
    "extended_object": "the stack and the deconvolution as an extended object",
    "psf_candidate": "the PSF candidate",
    "distribution_package": "the package for distribution (until it is there, it is not given out)",
    "raw_night": "the list of the night's raw files",
    "master_darks": "the master darks",
    "master_flats": "the master flats",
    "bad_pixel_mask": "the bad-pixel mask",
    "seeing": "the seeing",
}
_PAGES = (
    ("/administration", "Overview"),
    (USERS_URL, "Users"),
    (LOG_URL, "Log"),
    (REDO_URL, "Make again"),
    (CALIBRATION_URL, "Copy calibration"),
    ("/psf-library", "PSF library"),
)


def head(title: str, here: str) -> str:
    """Return the title of a page and the links to the others."""
    links = "".join(
        f'<a href="{url}"{" class=here aria-current=page" if url == here else ""}>{name}</a>'
        for url, name in _PAGES
    )
    return (
        f'<div class="page-title"><h1>{escape(title)}</h1></div>'
        f'<nav class="admin-links" aria-label="Administration">{links}</nav>'
    )


def answer_markup(answer: Answer | None) -> str:
    """Return what became of a form; empty if there was none."""
    if answer is None:
        return ""
    kind = " bad" if answer.bad else ""
    return f'<p class="answer{kind}" role="status">{escape(answer.sentence)}</p>'


def redo_url(subject: str, product: str = "") -> str:
    """Address of the page that says what would be made again, and asks."""
    query = {"subject": subject} | ({"product": product} if product else {})
    return f"{REDO_URL}?{urlencode(query)}"


def calibration_url(night: str) -> str:
    """Address of the page that says which nights could lend a night their masters."""
    return f"{CALIBRATION_URL}?{urlencode({'night': night})}"


def hidden_fields(token: str, **fields: str) -> str:
    """Return what every form that changes something carries."""
    return "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in {"_xsrf": token, **fields}.items()
    )


# -- overview ------------------------------------------------------------------------------------


def status_table(status: Status) -> str:
    """Return what `roboao status` says, as a table."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in status.lines
    )
    warnings = "".join(
        f'<p class="remark warned">{escape(sentence)}</p>' for sentence in status.warnings
    )
    return f'<div class="listing status"><table><tbody>{rows}</tbody></table></div>{warnings}'


def failures_table(found: FailureList, night: str = "") -> str:
    """Return what failed, with its reasons and what comes of it, and where to look further."""
    rows = "".join(
        f'<tr><td class="short"><a href="{escape(night_url(of))}">{escape(dashed(of))}</a></td>'
        f'<td class="id-cell">{_subject(failure.subject)}</td>'
        f'<td class="short">{escape(failure.product)}</td>'
        f"<td>{escape(failure.reason)}</td>"
        f'<td class="number">{failure.attempts}</td>'
        f'<td class="number">{failure.attempts_left(found.most_retries)}</td>'
        f'<td class="time">{_time(failure.next_attempt, "when asked")}</td>'
        f'<td class="short">{_remedy(of, failure.subject, failure.product)}</td></tr>'
        for of, failure in found.failures
    )
    if rows:
        table = (
            '<div class="listing failures"><table><thead><tr><th>night</th><th>of</th>'
            "<th>product</th><th>reason</th><th>attempts</th><th>left</th>"
            f"<th>next (UTC)</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    else:
        table = '<p class="quiet">Nothing has failed here.</p>'
    looked = f"{len(found.nights)} night{'' if len(found.nights) == 1 else 's'} looked at"
    if found.nights:
        looked += f", {dashed(found.nights[-1])} to {dashed(found.nights[0])}"
    older = (
        f' · <a href="/administration?{urlencode({"until": found.older})}">older nights</a>'
        if found.older
        else ""
    )
    every = ' · <a href="/administration">newest nights</a>' if night or older else ""
    return f'{table}<p class="quiet count">{looked}{older}{every}</p>'


def _subject(subject: str) -> str:
    if len(subject) == 8:
        return "the night"
    return f'<a href="{escape(observation_url(subject))}">{escape(subject)}</a>'


def _remedy(night: str, subject: str, product: str) -> str:
    """What can be done about a failure; the night's summaries follow its observations."""
    if subject != night:
        return f'<a href="{escape(redo_url(subject, product))}">make again…</a>'
    if product not in ("calib", "seeing", "raw"):
        return ""
    again = f'<a href="{escape(redo_url(night, "calibration"))}">make again…</a>'
    lend = f'<br><a href="{escape(calibration_url(night))}">copy calibration…</a>'
    return again + (lend if product == "calib" else "")


def requests_table(requests: Sequence[WorkRequest], most: int = 50) -> str:
    """Return what was asked for and is not made yet."""
    asked = [(request, one) for request in requests for one in request.stages.values()]
    if not asked:
        return '<p class="quiet">Nothing is asked for.</p>'
    rows = "".join(
        f'<tr><td class="id-cell">{_subject(request.observation)}</td><td>{escape(one.stage)}</td>'
        f"<td>{escape(one.by)}</td><td>{escape(one.why)}</td>"
        f'<td class="time">{_time(one.asked_at)}</td>'
        f'<td class="time">{_time(request.not_before)}</td></tr>'
        for request, one in asked[:most]
    )
    more = f'<p class="quiet count">and {len(asked) - most} more</p>' if len(asked) > most else ""
    return (
        '<div class="listing requests"><table><thead><tr><th>of</th><th>stage</th><th>by</th>'
        "<th>why</th><th>asked (UTC)</th><th>not before</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{more}"
    )


def night_form() -> str:
    """Return a form that leads to a night's failures."""
    return (
        '<form class="line" method="get" action="/administration"><label>failures of the night'
        '<input name="night" placeholder="YYYYMMDD" maxlength="10" size="12"></label>'
        "<button>Show</button></form>"
    )


# -- make again ----------------------------------------------------------------------------------


def redo_form(subject: str, product: str, products: Iterable[str]) -> str:
    """Return the form that chooses what is to be made again; nothing is asked for by it."""
    options = "".join(
        f'<option value="{escape(name)}"{" selected" if name == product else ""}>'
        f"{escape(PRODUCT_WORDS.get(name, name))}</option>"
        for name in (*products, "calibration")
    )
    return (
        f'<form class="line" method="get" action="{REDO_URL}"><label class="wide">observation or '
        f'night<input name="subject" value="{escape(subject)}" required maxlength="500" '
        'placeholder="id, or YYYYMMDD"></label><label>product<select name="product">'
        f"{options}</select></label><button>What would be made?</button></form>"
    )


def redo_plan(subject: str, product: str, plan: RedoPlan, token: str) -> str:
    """Return in words what will be made again, and the form that asks for it."""
    night = len(subject) == 8
    of = (
        f'the night <a href="{escape(night_url(subject))}">{escape(dashed(subject))}</a>'
        if night
        else f'<a href="{escape(observation_url(subject))}">{escape(subject)}</a>'
    )
    many = f", {_counted(plan.observations)}" if night and plan.observations else ""
    wanted = "".join(f"<li>{escape(_stage(stage))}</li>" for stage in plan.stages)
    order = {stage: place for place, stage in enumerate(_STAGE_WORDS)}
    flow = sorted(plan.dependents, key=lambda stage: order.get(stage, len(order)))
    pulled = "".join(f"<li>{escape(_stage(stage))}</li>" for stage in flow)
    if plan.observations:
        follows = (
            f"<p>With it, because they are made from it:</p><ul>{pulled}</ul>" if pulled else ""
        )
        after = "<p>The summaries of the night follow by themselves.</p>"
    else:
        follows, after = (
            "",
            ("<p>Observations whose masters have become others are made again after it.</p>"),
        )
    form = (
        f'<form class="line" method="post" action="{ACTION_URL}">'
        + hidden_fields(
            token,
            action="redo",
            subject=subject,
            product=product,
            back=observation_url(subject) if not night else redo_url(subject, product),
        )
        + '<label class="wide">why (the log keeps it)<input name="why" maxlength="500"></label>'
        '<button class="main">Make again</button></form>'
    )
    empty = night and product != "calibration" and not plan.observations
    if empty:
        return (
            '<div class="plan"><p>The night has no observation that could be made again.</p></div>'
        )
    return (
        f'<section class="plan"><p>Of {of}{many}, these will be made again:</p><ul>{wanted}</ul>'
        f"{follows}{after}<p class=quiet>The sensors start it as soon as nothing speaks against it "
        "(a nap, a full disk, a run of the same night), before anything else.</p>"
        f"{form}</section>"
    )


def pca_form(night: str, token: str) -> str:
    """Return the form that asks for the PCA of a night."""
    return (
        '<section class="plan"><p>The PCA of every star of the night that has a stack, with '
        "the references that the library has now; with it contrast curves, PSF candidates and "
        f'packages.</p><form class="line" method="post" action="{ACTION_URL}">'
        + hidden_fields(token, action="pca", night=night, back=redo_url(night))
        + '<label class="wide">why (the log keeps it)<input name="why" maxlength="500"></label>'
        '<button class="main">PCA of the night again</button></form></section>'
    )


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} observation{'' if len(names) == 1 else 's'}"


def _stage(stage: str) -> str:
    return _STAGE_WORDS.get(stage, stage)


# -- calibration ---------------------------------------------------------------------------------


def calibration_form(night: str) -> str:
    """Return the form that chooses the night that has no masters of its own."""
    return (
        f'<form class="line" method="get" action="{CALIBRATION_URL}"><label>night without masters'
        f'<input name="night" value="{escape(night)}" required maxlength="10" size="12" '
        'placeholder="YYYYMMDD"></label><button>Which nights could lend?</button></form>'
    )


def lenders_form(night: str, lenders: Sequence[Lender], token: str, most: int = 30) -> str:
    """Return the nights that could lend their masters, and the form that copies them."""
    if not lenders:
        return (
            '<div class="plan"><p>No other night of the archive has masters of its own: calibrate '
            "one first.</p></div>"
        )
    nearest = (
        '<option value="">the nearest that lacks nothing</option>' if not lenders[0].missing else ""
    )
    options = nearest + "".join(
        f'<option value="{escape(lender.night)}">{escape(dashed(lender.night))}, {lender.days} '
        f"day{'' if lender.days == 1 else 's'} away, "
        f"{escape('lacks ' + ', '.join(lender.missing) if lender.missing else 'lacks nothing')}"
        "</option>"
        for lender in lenders[:most]
    )
    warning = (
        '<p class="warned">No night has all the masters that this one needs; what one has can be '
        "copied.</p>"
        if lenders[0].missing
        else ""
    )
    return (
        f'<section class="plan"><p>The masters are copied into the night '
        f'<a href="{escape(night_url(night))}">{escape(dashed(night))}</a>, which is then '
        "reduced with them; it is recorded as “Copied from …”. Calibration files of its own, if "
        f'they come later, replace them.</p>{warning}<form class="line" method="post" '
        f'action="{ACTION_URL}">'
        + hidden_fields(token, action="copy-calibration", night=night, back=calibration_url(night))
        + f'<label>from<select name="source">{options}</select></label>'
        '<button class="main">Copy the masters</button></form></section>'
    )


# -- log -----------------------------------------------------------------------------------------


def log_form(by: str, text: str) -> str:
    """Return the form that filters the log."""
    return (
        f'<form class="line" method="get" action="{LOG_URL}"><label>who<input name="by" '
        f'value="{escape(by)}" maxlength="200"></label><label class="wide">what, of what, why'
        f'<input name="text" value="{escape(text)}" maxlength="200"></label>'
        f'<button>Find</button> <a href="{LOG_URL}">everything</a></form>'
    )


def log_table(page: ActionPage, by: str, text: str) -> str:
    """Return entries of the log, newest first, and where it goes on."""
    query = {"by": by, "text": text, "before": page.older}
    older = (
        f'<p class="count"><a href="{LOG_URL}?{escape(urlencode(query))}">older</a></p>'
        if page.older
        else ""
    )
    if not page.actions:
        more = " among the newest; there are older ones" if page.older else ""
        return f'<p class="quiet">The log has no such entry{more}.</p>{older}'
    rows = "".join(
        f'<tr><td class="time">{_time(action.time)}</td><td class="who">{escape(action.by)}</td>'
        f"<td>{escape(action.action)}</td><td>{_of_log(action.subject)}</td>"
        f"<td>{escape(action.detail_text)}</td></tr>"
        for action in page.actions
    )
    return (
        '<div class="listing log"><table><thead><tr><th>UTC</th><th>who</th><th>what</th>'
        f"<th>of</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>{older}"
    )


def _of_log(subject: str) -> str:
    if len(subject) == 8 and subject.isdigit():
        return f'<a href="{escape(night_url(subject))}">{escape(subject)}</a>'
    if night_of_id(subject):
        return f'<a href="{escape(observation_url(subject))}">{escape(subject)}</a>'
    return escape(subject)


def _time(time: datetime | None, nothing: str = NOTHING) -> str:
    return nothing if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


# -- on other pages ------------------------------------------------------------------------------


def observation_tools(identifier: str, products: Iterable[str]) -> str:
    """Return what an administrator can do with an observation, for its page."""
    options = "".join(
        f'<option value="{escape(name)}">{escape(PRODUCT_WORDS.get(name, name))}</option>'
        for name in products
    )
    return (
        f'<details class="tools"><summary>Make again…</summary><form class="line" method="get" '
        f'action="{REDO_URL}"><input type="hidden" name="subject" value="{escape(identifier)}">'
        f'<label>product<select name="product">{options}</select></label>'
        "<button>What would be made?</button></form></details>"
    )


def night_tools(night: str) -> str:
    """Return what an administrator can do with a night, for its page."""
    links = (
        (redo_url(night), "Make the night or its PCA again…"),
        (calibration_url(night), "Copy calibration…"),
        (f"/administration?{urlencode({'night': night})}", "Failures"),
    )
    spelled = "".join(f'<a href="{escape(url)}">{name}</a>' for url, name in links)
    return f'<nav class="admin-links" aria-label="Administration of the night">{spelled}</nav>'
