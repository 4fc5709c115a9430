/* The form in which candidates are ranked.

State: the <select name="place_X"> of each candidate ("" or 1..n) is the whole of it; it is what the page is sent
with, what a draft saves and what the server fills in again. Every move - by drag, key or button - goes one way:

    levels() reads the selects into tiers, best first -> a move makes other tiers of them -> put() writes the selects
    -> render() moves the cards and sets marks, buttons and the submit button after the selects -> the draft is saved.

Only the order of cards within a tie has no select; it is the order in which they stand on the page.
Without this script the selects themselves are shown, and the form does the same. */
"use strict";

const root = document.documentElement;
const $ = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

const kept = {
  read(key) { try { return localStorage.getItem(key); } catch { return null; } },
  write(key, value) { try { localStorage.setItem(key, value); } catch { /* private window: not kept */ } },
};

root.classList.add("js");
if (kept.read("theme")) root.dataset.theme = kept.read("theme");

let form, mode, cards, sent = false;

document.addEventListener("DOMContentLoaded", () => {
  startTheme();
  form = $("answer");
  if (form) startItem();
  if (form || document.body.dataset.page === "idle") listen();
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
});

function startTheme() {
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    kept.write("theme", root.dataset.theme);
  });
}

function startItem() {
  mode = form.dataset.mode;
  cards = all(".card");
  cards.forEach((card) => { card.tabIndex = 0; });
  form.addEventListener("click", onClick);
  form.addEventListener("input", save);
  form.addEventListener("submit", onSubmit);
  document.addEventListener("keydown", onKey);
  addEventListener("pagehide", saveAtLast);
  startDialogs();
  startCuts();
  startDrag();
  render();
}

/* --- the selects, and the tiers that they mean ------------------------------------------------------------------ */

const select = (card) => card.querySelector("select");
const letter = (card) => card.dataset.letter;
const cardOf = (name) => cards.find((card) => letter(card) === name);
const onPage = () => [...($("ranking")?.children ?? []), ...$("tray").children];

function levels() {
  const tiers = new Map();
  for (const card of onPage().filter((one) => select(one).value)) {
    const place = Number(select(card).value);
    tiers.set(place, [...(tiers.get(place) ?? []), card]);
  }
  return [...tiers.keys()].sort((a, b) => a - b).map((place) => tiers.get(place));
}

function put(tiers) {
  cards.forEach((card) => { select(card).value = ""; });
  tiers.forEach((tier, index) => tier.forEach((card) => { select(card).value = index + 1; }));
}

/* --- moves: tiers in, tiers out; null where there is nothing to do ----------------------------------------------- */

const without = (tiers, card) => tiers.map((tier) => tier.filter((one) => one !== card)).filter((tier) => tier.length);
const into = (tiers, card, index) => { const rest = without(tiers, card); rest.splice(index, 0, [card]); return rest; };

const sorting = {
  next: (tiers, card, at) => (at < 0 ? [...tiers, [card]] : null),
  place: (tiers, card, at, digit) => (digit <= cards.length ? into(tiers, card, digit - 1) : null),
  up: (tiers, card, at) => (at < 0 || (at === 0 && tiers[0].length === 1) ? null : into(tiers, card, tiers[at].length > 1 ? at : at - 1)),
  down: (tiers, card, at) => (at < 0 || (at === tiers.length - 1 && tiers[at].length === 1) ? null : into(tiers, card, at + 1)),
  remove: (tiers, card, at) => (at < 0 ? null : without(tiers, card)),
  tie(tiers, card, at) {
    if (at < 0) return tiers.length ? [...tiers.slice(0, -1), [...tiers.at(-1), card]] : null;
    const within = tiers[at].indexOf(card);
    if (within) return [...tiers.slice(0, at), tiers[at].slice(0, within), tiers[at].slice(within), ...tiers.slice(at + 1)];
    return at ? [...tiers.slice(0, at - 1), [...tiers[at - 1], ...tiers[at]], ...tiers.slice(at + 1)] : null;
  },
};
const other = (card) => cards.find((one) => one !== card);
const pairing = {
  next: (tiers, card) => [[card], [other(card)]],
  place: (tiers, card, at, digit) => (digit === 1 ? [[card], [other(card)]] : digit === 2 ? [[other(card)], [card]] : null),
  tie: () => [[...cards]],
  remove: () => [],
};
const choosing = {
  next: (tiers, card) => [[card]],
  place: (tiers, card, at, digit) => (digit === 1 ? [[card]] : null),
  remove: () => [],
};
const moves = () => ({ pair: pairing, best: choosing }[mode] ?? sorting);

function move(name, card, digit) {
  const tiers = levels();
  const result = moves()[name]?.(tiers, card, tiers.findIndex((tier) => tier.includes(card)), digit);
  if (result) change(result, card, name === "next" || name === "remove");
}

function change(tiers, card, goesOn = false) {
  const focused = document.activeElement;
  const following = goesOn && mode !== "pair" && mode !== "best" ? card.nextElementSibling ?? card.previousElementSibling : null;
  animated(() => {
    put(tiers);
    render();
    if (card.contains(focused)) keepFocus(focused, card, following);
  });
  say(card);
  save();
}

/* Focus stays where it was, or goes to the same place of the next card when its button went away with the card. */
function keepFocus(focused, card, following) {
  const target = following && following.parentElement === $("tray") ? following : card;
  const button = target.querySelector(`[data-do="${focused.dataset?.do}"]`);
  const goal = focused === card || !button?.offsetParent || button.disabled ? target : button;
  goal.focus({ preventScroll: true });
  target.scrollIntoView({ block: "nearest" });
}

function animated(act) {
  const before = new Map(cards.map((card) => [card, card.getBoundingClientRect()]));
  act();
  if (still || mode === "pair" || mode === "best") return;
  for (const [card, old] of before) {
    const now = card.getBoundingClientRect();
    const [x, y] = [old.left - now.left, old.top - now.top];
    if (x || y) card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 160, easing: "ease-out" });
  }
}

/* --- what the page shows of it ---------------------------------------------------------------------------------- */

function render() {
  const tiers = levels();
  if ($("ranking")) {
    arrange($("ranking"), tiers.flat());
    arrange($("tray"), cards.filter((card) => !select(card).value));
  }
  cards.forEach((card) => mark(card, tiers));
  all("[data-choice]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.choice === choice(tiers)));
  const left = missing(tiers);
  $("submit").disabled = sent || Boolean(left);
  $("reason").textContent = left || "Ready to submit";
  $("reason").classList.toggle("ready", !left);
  $("order")?.replaceChildren(...chips(tiers));
  measure();
}

function arrange(list, wanted) {
  wanted.forEach((card, index) => {
    if (list.children[index] !== card) list.insertBefore(card, list.children[index] ?? null);
  });
}

function mark(card, tiers) {
  const at = tiers.findIndex((tier) => tier.includes(card));
  const within = at < 0 ? -1 : tiers[at].indexOf(card);
  const isTied = at >= 0 && tiers[at].length > 1;
  $(`place-${letter(card)}`).textContent = label(at, isTied);
  card.classList.toggle("tied", within > 0);
  card.classList.toggle("leads", isTied && within < tiers[at].length - 1);
  card.classList.toggle("chosen", at === 0 && (mode === "best" || mode === "pair"));
  const set = (name, isOff, isOn) => {
    const button = card.querySelector(`[data-do="${name}"]`);
    if (button) button.disabled = isOff;
    if (button && isOn !== undefined) button.setAttribute("aria-pressed", isOn);
  };
  set("up", at === 0 && !isTied);
  set("down", at === tiers.length - 1 && !isTied);
  set("tie", at === 0 && within === 0, within > 0);
  if (mode === "best") set("next", false, at === 0);
}

function label(at, isTied) {
  if (at < 0) return "";
  if (mode === "best") return "Best";
  if (mode === "pair") return isTied ? "Equal" : at ? "" : "Better";
  return `${isTied ? "= " : ""}${at + 1}${["st", "nd", "rd"][at] ?? "th"}`;
}

function choice(tiers) {
  if (!tiers.length) return "";
  return tiers.length === 1 ? "=" : letter(tiers[0][0]);
}

function missing(tiers) {
  const placed = tiers.flat().length;
  const more = (wanted) => (placed < wanted ? `Place ${wanted - placed} more to submit` : "");
  if (mode === "pair") return placed === 2 ? "" : "Choose one, or Equal, to submit";
  if (mode === "best") return placed === 1 ? "" : "Choose the best one to submit";
  return more(mode === "top" ? Number(form.dataset.k) : cards.length);
}

function chips(tiers) {
  const made = (tag, text) => { const node = document.createElement(tag); node.textContent = text; return node; };
  return tiers.flatMap((tier, index) => [
    ...(index ? [made("span", "›")] : []),
    ...tier.flatMap((card, within) => [...(within ? [made("span", "=")] : []), made("b", letter(card))]),
  ]);
}

function say(card) {
  const tiers = levels();
  const at = tiers.findIndex((tier) => tier.includes(card));
  const ties = at < 0 ? [] : tiers[at].filter((one) => one !== card).map(letter);
  const where = at < 0 ? "not ranked" : `place ${at + 1} of ${tiers.length}${ties.length ? `, tied with ${ties.join(" and ")}` : ""}`;
  $("live").textContent = `${letter(card)}: ${where}. ${missing(tiers) || "Ready to submit"}.`;
}

/* --- long texts ------------------------------------------------------------------------------------------------- */

function startCuts() {
  all(".more").forEach((button) => button.addEventListener("click", () => {
    const isOpen = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", isOpen);
    button.textContent = isOpen ? "Show less" : "Show all";
    measure();
  }));
  addEventListener("resize", measure);
}

function measure() {
  const buttons = all(".more");
  const isOpen = (button) => button.getAttribute("aria-expanded") === "true";
  buttons.forEach((button) => $(button.dataset.for).classList.toggle("cut", !isOpen(button)));
  const isLong = buttons.map((button) => { const text = $(button.dataset.for); return text.scrollHeight > text.clientHeight + 24; });
  buttons.forEach((button, index) => {
    button.hidden = !isOpen(button) && !isLong[index];
    if (!isLong[index]) $(button.dataset.for).classList.remove("cut");
  });
}

/* --- drag ------------------------------------------------------------------------------------------------------- */

function startDrag() {
  if (!$("ranking")) return;
  const options = {
    group: "cards", handle: ".handle", animation: still ? 0 : 150, forceFallback: true, fallbackOnBody: true,
    fallbackTolerance: 4, emptyInsertThreshold: 24, swapThreshold: 0.6, scrollSensitivity: 80, scrollSpeed: 14,
    onStart: () => root.classList.add("dragging"),
    onEnd(event) {
      root.classList.remove("dragging");
      if (event.from !== event.to || event.oldIndex !== event.newIndex) dropped(event.item);
    },
  };
  Sortable.create($("tray"), { ...options, sort: false });
  Sortable.create($("ranking"), options);
}

/* The card stands in a place of its own, or in a tie when it was dropped between two cards that are tied. */
function dropped(card) {
  const tiers = without(levels(), card);
  if (card.parentElement === $("tray")) return change(tiers, card);
  const level = (one) => tiers.findIndex((tier) => tier.includes(one));
  const [above, below] = [level(card.previousElementSibling), level(card.nextElementSibling)];
  if (above < 0 || above !== below) return change(into(tiers, card, above + 1), card);
  return change(tiers.with(above, [...tiers[above], card]), card);
}

/* --- buttons and keys ------------------------------------------------------------------------------------------- */

function onClick(event) {
  const button = event.target.closest("[data-do], [data-choice]");
  if (!button) return;
  if (button.dataset.do) return move(button.dataset.do, button.closest(".card"));
  const chosen = cardOf(button.dataset.choice);
  return move(chosen ? "next" : "tie", chosen ?? cards[0]);
}

const named = { ArrowUp: "up", ArrowDown: "down", Delete: "remove", Backspace: "remove", "=": "tie" };
const isTyping = (node) => node.closest("input:not([type=checkbox]), textarea, select, audio, [contenteditable]");

function onKey(event) {
  if (all("dialog[open]").length) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return form.requestSubmit($("submit"));
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !$("use-keys").checked) return;
  if (act(event.key, event.target)) event.preventDefault();
}

/* Whether the key means something here. */
function act(key, target) {
  const card = target.closest(".card");
  const wanted = key.length === 1 && cardOf(key.toUpperCase());
  if (key === "?") return $("help").showModal() ?? true;
  if (wanted) return show(wanted);
  if (!card) return false;
  if (key === "ArrowLeft" || key === "ArrowRight") return show(onPage().at((onPage().indexOf(card) + (key === "ArrowLeft" ? -1 : 1)) % cards.length));
  if (/^[1-9]$/.test(key)) return move("place", card, Number(key)) ?? true;
  if (key === "Enter" && target === card) return move("next", card) ?? true;
  return named[key] ? move(named[key], card) ?? true : false;
}

function show(card) {
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
  return true;
}

function onSubmit(event) {
  if (sent) return event.preventDefault();
  sent = true;
  clearTimeout(timer);
  inFlight?.abort();
  return setTimeout(() => all("#answer button").forEach((button) => { button.disabled = true; }));
}

/* --- the draft -------------------------------------------------------------------------------------------------- */

let timer, inFlight, isUnsaved = false;
const entries = () => new URLSearchParams(new FormData(form));

function save() {
  isUnsaved = true;
  clearTimeout(timer);
  timer = setTimeout(send, 300);
}

async function send(wait = 1000) {
  if (sent) return;
  inFlight?.abort();
  inFlight = new AbortController();
  const { signal } = inFlight;
  isUnsaved = false;
  const status = await fetch("/draft", { method: "POST", body: entries(), signal }).then((answer) => answer.status, () => 0);
  if (signal.aborted) return;
  if (status && status < 400) return void ($("saved").textContent = "Draft saved");
  isUnsaved = true;
  const isFinal = status >= 400 && status < 500;
  $("saved").textContent = isFinal ? "Not saved: please reload the page" : "Not saved, retrying";
  if (!isFinal && !sent) timer = setTimeout(send, wait, Math.min(2 * wait, 10000));
}

function saveAtLast() {
  if (isUnsaved && !sent) navigator.sendBeacon("/draft", entries());
}

/* --- what the server tells -------------------------------------------------------------------------------------- */

function listen() {
  const source = new EventSource("/events");
  source.addEventListener("state", (event) => onState(JSON.parse(event.data)));
  source.onopen = () => { $("lost").textContent = ""; };
  source.onerror = () => {
    $("lost").textContent = form ? "Connection lost, your draft is kept" : "Connection lost, trying again";
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
  addEventListener("pagehide", () => source.close());
}

function onState(state) {
  if (!form && state.item !== null) setTimeout(() => location.reload(), Math.max(0, 700 - performance.now()));
  if ($("answered")) $("answered").textContent = state.answered;
  if (!form || sent) return;
  $("gone").hidden = state.item === form.dataset.item;
  $("waiting").textContent = state.waiting;
  $("bar").max = Math.max(1, state.answered + state.waiting);
  $("bar").value = state.answered;
}

/* --- dialogs ---------------------------------------------------------------------------------------------------- */

function startDialogs() {
  all("[data-close]").forEach((button) => button.addEventListener("click", () => button.closest("dialog").close()));
  $("keys").addEventListener("click", () => $("help").showModal());
  $("use-keys").checked = kept.read("keys") !== "off";
  $("use-keys").addEventListener("change", (event) => kept.write("keys", event.target.checked ? "on" : "off"));
  $("compare")?.addEventListener("submit", compare);
}

async function compare(event) {
  event.preventDefault();
  const asked = new URLSearchParams(new FormData($("compare")));
  const answer = await fetch(`/compare?${asked}`, { headers: { Accept: "application/json" } }).catch(() => null);
  const parts = answer?.ok ? (await answer.json()).parts : [["=", "No answer from the server; please try again."]];
  $("diff-title").textContent = `${asked.get("left")} and ${asked.get("right")}: differences`;
  $("diff-left").textContent = asked.get("left");
  $("diff-right").textContent = asked.get("right");
  $("diff-parts").replaceChildren(...parts.map(part));
  $("diff").showModal();
}

function part([op, text]) {
  const node = document.createElement({ "-": "del", "+": "ins" }[op] ?? "span");
  node.textContent = text;
  return node;
}
