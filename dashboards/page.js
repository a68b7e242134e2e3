// What every page does in the browser: keys, the theme, parts that come by themselves, animations.
"use strict";
(() => {
  const REFRESH_MS = 20000, TYPING_MS = 200, FRAME_MS = 700;
  const keys = document.getElementById("keys");
  const theme = document.getElementById("theme");
  const follow = (rel) => {
    const link = document.querySelector(`[rel="${rel}"][href]`);
    if (link) location.assign(link.href);
  };
  const help = () => (keys.open ? keys.close() : keys.showModal());
  const change = () => theme.requestSubmit();
  const ACTIONS = {
    ArrowLeft: () => follow("prev"), k: () => follow("prev"),
    ArrowRight: () => follow("next"), j: () => follow("next"),
    u: () => follow("up"), "/": () => follow("search"), t: change, "?": help,
  };
  const FIELDS = "input, select, textarea, audio, video, [contenteditable], [role=slider]";

  theme.addEventListener("submit", () => {
    theme.elements.next.value = location.pathname + location.search;
  });
  document.getElementById("show-keys").addEventListener("click", help);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    // Fields may stand in the shadow trees of widgets.
    const place = event.composedPath()[0];
    if (place instanceof Element && place.closest(FIELDS)) return;
    if (keys.open && event.key !== "?") return;
    const action = Object.hasOwn(ACTIONS, event.key) ? ACTIONS[event.key] : null;
    if (action) { event.preventDefault(); action(); }
  });

  // Parts: <div data-slot="name"> below <div data-parts="address"> are asked for again, as
  // <div data-part="name">, and replaced where they have changed.
  const shown = new Map();
  function say(parts, sentence) {
    const notice = Object.assign(document.createElement("p"), { className: "remark failure" });
    notice.textContent = sentence;
    parts.querySelector("[data-answer]")?.replaceChildren(notice);
  }
  async function renew(parts) {
    const asked = parts.dataset.parts;
    const answer = await fetch(asked, { credentials: "same-origin" });
    const text = await answer.text();
    if (asked !== parts.dataset.parts) return; // something else was chosen meanwhile
    if (!answer.ok) {
      const own = answer.headers.get("Content-Type")?.startsWith("text/plain");
      throw new Error(own ? text : "This cannot be shown any more; reload the page.");
    }
    const found = new DOMParser().parseFromString(text, "text/html");
    for (const part of found.querySelectorAll("[data-part]")) {
      const name = part.dataset.part, slot = parts.querySelector(`[data-slot="${name}"]`);
      if (slot && shown.get(name) !== part.innerHTML) {
        shown.set(name, part.innerHTML);
        slot.replaceChildren(...part.childNodes);
      }
    }
  }
  for (const parts of document.querySelectorAll("[data-parts]")) {
    for (const slot of parts.querySelectorAll("[data-slot]"))
      shown.set(slot.dataset.slot, slot.innerHTML);
    // An outage is waited out.
    setInterval(() => document.hidden || renew(parts).catch(() => {}), REFRESH_MS);
    const form = parts.querySelector("form[data-choice]");
    if (!form) continue;
    let waiting = 0;
    const choose = async () => {
      clearTimeout(waiting);
      const chosen = new URLSearchParams(new FormData(form));
      for (const [name, value] of [...chosen]) if (!value) chosen.delete(name);
      history.replaceState(null, "", `${location.pathname}?${chosen}`);
      parts.dataset.parts = `${form.dataset.choice}?${chosen}`;
      parts.dataset.waiting = "";
      try {
        await renew(parts);
        parts.querySelector("[data-answer]")?.replaceChildren();
      } catch (error) {
        say(parts, error instanceof TypeError ? "The server does not answer." : error.message);
      }
      delete parts.dataset.waiting;
    };
    form.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(choose, TYPING_MS);
    });
    form.addEventListener("submit", (event) => { event.preventDefault(); choose(); });
  }

  // Of a <form data-sparse> empty fields stay out of the address; they are given back for whoever
  // comes back to the page. Enter clicks the button, too, and clicks leave the trees of widgets.
  document.addEventListener("click", (event) => {
    const place = event.composedPath()[0];
    const sends = "form[data-sparse] button[type=submit]";
    const form = place instanceof Element ? place.closest(sends)?.form : null;
    if (!form) return;
    const empty = [...form.elements].filter((field) => field.name && !field.value.trim());
    for (const field of empty) field.disabled = true;
    setTimeout(() => { for (const field of empty) field.disabled = false; }, 0);
  });

  // Animations: <section data-player> with a picture, a button, a slider and a list of frames.
  const player = (node) => node instanceof Element ? node.closest("[data-player]") : null;
  const frames = (stage) => [...stage.querySelectorAll("[data-frame]")];
  function show(stage, number) {
    const all = frames(stage), { frame, caption } = all[number % all.length].dataset;
    stage.querySelector("img").src = frame;
    stage.querySelector("output").textContent = caption;
    stage.querySelector("input").value = number % all.length;
    new Image().src = all[(number + 1) % all.length].dataset.frame;
  }
  function play(stage, on) {
    const button = stage.querySelector("button");
    button.textContent = on ? "Pause" : "Play";
    button.setAttribute("aria-pressed", String(on));
    clearInterval(Number(stage.dataset.timer));
    if (!on) { delete stage.dataset.timer; return; }
    stage.dataset.timer = setInterval(() => {
      if (!stage.isConnected) { clearInterval(Number(stage.dataset.timer)); return; }
      // A frame that is still loading is waited for.
      if (stage.querySelector("img").complete)
        show(stage, Number(stage.querySelector("input").value) + 1);
    }, FRAME_MS);
  }
  document.addEventListener("click", (event) => {
    const stage = player(event.target);
    if (stage && event.target.closest("button")) play(stage, !stage.dataset.timer);
  });
  document.addEventListener("input", (event) => {
    const stage = player(event.target);
    if (stage) { play(stage, false); show(stage, Number(event.target.value)); }
  });
})();
