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

/* "localStorage" or "sessionStorage", where the browser lets us. */
function recall(area, key) { try { return window[area].getItem(key); } catch { return null; } }
function keep(area, key, value) { try { window[area].setItem(key, value); } catch { /* then it is not kept */ } }

root.classList.add("js");
if (recall("localStorage", "theme")) root.dataset.theme = recall("localStorage", "theme");

let form, mode, cards, sent = false;

document.addEventListener("DOMContentLoaded", () => {
  $("theme").addEventListener("click", changeTheme);
  form = $("answer");
  if (form) startItem();
  if (form || document.body.dataset.page === "idle") listen();
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
});

function changeTheme() {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  keep("localStorage", "theme", root.dataset.theme);
}

function startItem() {
  mode = form.dataset.mode;
  cards = all(".card");
  cards.forEach((card) => { card.tabIndex = 0; });
  form.addEventListener("click", onClick);
  form.addEventListener("input", save);
  form.addEventListener("submit", onSubmit);
  document.addEventListener("keydown", onKey);
  addEventListener("pagehide", () => { if (isUnsaved && !sent) navigator.sendBeacon("/draft", entries()); });
  all(".more").forEach((button) => button.addEventListener("click", () => showMore(button)));
  addEventListener("resize", measure);
  startDialogs();
  restore();
  render();
  if ($("ranking")) startDrag();
}

/* --- the selects, and the tiers that they mean ------------------------------------------------------------------ */
const select = (card) => card.querySelector("select");
const letter = (card) => card.dataset.letter;
const cardOf = (name) => cards.find((card) => letter(card) === name);
const onPage = () => [...($("ranking")?.children ?? []), ...$("tray").children];
const levelOf = (tiers, card) => tiers.findIndex((tier) => tier.includes(card));

function levels() {
  const tiers = [];
  for (const card of onPage().filter((one) => select(one).value)) (tiers[select(card).value] ??= []).push(card);
  return tiers.filter(Boolean);
}

const put = (tiers) => cards.forEach((card) => { select(card).value = levelOf(tiers, card) + 1 || ""; });

/* --- moves: (tiers, card, its level or -1, digit) -> other tiers, or null where there is nothing to do ------------ */
const without = (tiers, card) => tiers.map((tier) => tier.filter((one) => one !== card)).filter((tier) => tier.length);
const into = (tiers, card, index) => without(tiers, card).toSpliced(index, 0, [card]);
const other = (card) => cards.find((one) => one !== card);

const sorting = {
  next: (tiers, card, at) => (at < 0 ? [...tiers, [card]] : null),
  place: (tiers, card, at, digit) => (digit <= cards.length ? into(tiers, card, digit - 1) : null),
  up(tiers, card, at) {
    if (tiers[at]?.length > 1) return tiers.toSpliced(at, 1, [card], ...without([tiers[at]], card));
    return at > 0 ? into(tiers, card, at - 1) : null;
  },
  down(tiers, card, at) {
    if (tiers[at]?.length > 1) return tiers.toSpliced(at, 1, ...without([tiers[at]], card), [card]);
    return at >= 0 && at < tiers.length - 1 ? into(tiers, card, at + 1) : null;
  },
  remove: (tiers, card, at) => (at < 0 ? null : without(tiers, card)),
  tie(tiers, card, at) {
    if (at < 0) return tiers.length ? tiers.with(-1, [...tiers.at(-1), card]) : null;
    const within = tiers[at].indexOf(card);
    if (within) return tiers.toSpliced(at, 1, tiers[at].slice(0, within), tiers[at].slice(within));
    return at ? tiers.toSpliced(at - 1, 2, [...tiers[at - 1], ...tiers[at]]) : null;
  },
};
const pairing = {
  next: (tiers, card) => [[card], [other(card)]],
  place: (tiers, card, at, digit) => ({ 1: [[card], [other(card)]], 2: [[other(card)], [card]] })[digit] ?? null,
  tie: () => [[...cards]],
  remove: () => [],
};
const choosing = {
  next: (tiers, card) => [[card]],
  place: (tiers, card, at, digit) => (digit === 1 ? [[card]] : null),
  remove: () => [],
};

function move(name, card, digit) {
  const tiers = levels();
  const moves = { pair: pairing, best: choosing }[mode] ?? sorting;
  const result = moves[name]?.(tiers, card, levelOf(tiers, card), digit);
  if (result) change(result, card, name === "next" || name === "remove");
}

function change(tiers, card, goesOn = false) {
  const focused = document.activeElement;
  const following = (goesOn && $("ranking") && (card.nextElementSibling ?? card.previousElementSibling)) || card;
  const before = cards.map((one) => one.getBoundingClientRect());
  put(tiers);
  render();
  if (card.contains(focused)) keepFocus(focused, following.parentElement === $("tray") ? following : card);
  if (!still && $("ranking")) cards.forEach((one, index) => glide(one, before[index]));
  say(card);
  save();
}

/* Focus stays where it was, or goes to the same button of the next card when its own went away with the card. */
function keepFocus(focused, card) {
  const button = card.querySelector(`[data-do="${focused.dataset.do}"]`);
  (button?.offsetParent && !button.disabled ? button : card).focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
}

function glide(card, old) {
  const now = card.getBoundingClientRect();
  const from = `translate(${old.left - now.left}px, ${old.top - now.top}px)`;
  if (old.left !== now.left || old.top !== now.top) card.animate({ transform: [from, "none"] }, { duration: 160, easing: "ease-out" });
}

/* --- what the page shows of it ---------------------------------------------------------------------------------- */
function render() {
  const tiers = levels();
  if ($("ranking")) {
    arrange($("ranking"), tiers.flat());
    arrange($("tray"), cards.filter((card) => !select(card).value));
  }
  cards.forEach((card) => mark(card, tiers));
  const choice = tiers.length === 1 ? "=" : tiers.length ? letter(tiers[0][0]) : "";
  all("[data-choice]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.choice === choice));
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
  const at = levelOf(tiers, card);
  const within = at < 0 ? -1 : tiers[at].indexOf(card);
  const isTied = at >= 0 && tiers[at].length > 1;
  $(`place-${letter(card)}`).textContent = label(at, isTied);
  card.classList.toggle("tied", within > 0);
  card.classList.toggle("leads", isTied && within < tiers[at].length - 1);
  card.classList.toggle("chosen", at === 0 && !$("ranking"));
  const button = (name) => card.querySelector(`[data-do="${name}"]`) ?? {};
  button("up").disabled = at === 0 && !isTied;
  button("down").disabled = at === tiers.length - 1 && !isTied;
  button("tie").disabled = at === 0 && within === 0;
  button("tie").ariaPressed = within > 0;
  if (mode === "best") button("next").ariaPressed = at === 0;
}

function label(at, isTied) {
  if (at < 0) return "";
  if (mode === "best") return "Best";
  if (mode === "pair") return isTied ? "Equal" : at ? "" : "Better";
  return `${isTied ? "= " : ""}${at + 1}${["st", "nd", "rd"][at] ?? "th"}`;
}

/* What the mode still asks for; the server asks for the same. */
function missing(tiers) {
  const placed = tiers.flat().length;
  if (mode === "pair") return placed === 2 ? "" : "Choose one, or Equal, to submit";
  if (mode === "best") return placed === 1 ? "" : "Choose the best one to submit";
  const wanted = mode === "top" ? Number(form.dataset.k) : cards.length;
  return placed < wanted ? `Place ${wanted - placed} more to submit` : "";
}

const made = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

function chips(tiers) {
  const joined = (nodes, sign) => nodes.flatMap((one, index) => (index ? [made("span", sign), one] : [one])).flat();
  return joined(tiers.map((tier) => joined(tier.map((card) => made("b", letter(card))), "=")), "›");
}

function say(card) {
  const tiers = levels();
  const at = levelOf(tiers, card);
  const ties = (tiers[at] ?? []).filter((one) => one !== card).map(letter);
  const where = at < 0 ? "not ranked" : `place ${at + 1} of ${tiers.length}${ties.length ? `, tied with ${ties.join(" and ")}` : ""}`;
  $("live").textContent = `${letter(card)}: ${where}. ${missing(tiers) || "Ready to submit"}.`;
}

function showMore(button) {
  button.ariaExpanded = button.ariaExpanded !== "true";
  button.textContent = button.ariaExpanded === "true" ? "Show less" : "Show all";
  measure();
}

/* Which texts are too long, and so cut until somebody asks for all. */
function measure() {
  const texts = all(".more").map((button) => [button, $(button.dataset.for), button.ariaExpanded === "true"]);
  texts.forEach(([, text, isOpen]) => text.classList.toggle("cut", !isOpen));
  const tooLong = texts.map(([, text]) => text.scrollHeight > text.clientHeight + 24);
  texts.forEach(([button, text, isOpen], index) => {
    button.hidden = !isOpen && !tooLong[index];
    text.classList.toggle("cut", tooLong[index]);
  });
}

/* --- drag ------------------------------------------------------------------------------------------------------- */
function startDrag() {
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
  const [above, below] = [levelOf(tiers, card.previousElementSibling), levelOf(tiers, card.nextElementSibling)];
  if (above < 0 || above !== below) return change(into(tiers, card, above + 1), card);
  return change(tiers.with(above, [...tiers[above], card]), card);
}

/* --- buttons and keys ------------------------------------------------------------------------------------------- */
function onClick(event) {
  const button = event.target.closest("[data-do], [data-choice]");
  if (button?.dataset.do) move(button.dataset.do, button.closest(".card"));
  else if (button) move(button.dataset.choice === "=" ? "tie" : "next", cardOf(button.dataset.choice) ?? cards[0]);
}

const named = { ArrowUp: "up", ArrowDown: "down", Delete: "remove", Backspace: "remove", "=": "tie" };
const steps = { ArrowLeft: -1, ArrowRight: 1 };
const isTyping = (node) => node.closest("input:not([type=checkbox]), textarea, select, audio, [contenteditable]");

function onKey(event) {
  if (all("dialog[open]").length) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return void ($("submit").disabled || form.requestSubmit($("submit")));
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !$("use-keys").checked) return;
  if (act(event.key, event.target)) event.preventDefault();
}

/* Does what the key means here; whether it means something. */
function act(key, target) {
  const card = target.closest(".card");
  const wanted = key.length === 1 && cardOf(key.toUpperCase());
  if (key === "?") $("help").showModal();
  else if (wanted) show(wanted);
  else if (!card) return false;
  else if (steps[key]) show(onPage().at((onPage().indexOf(card) + steps[key]) % cards.length));
  else if (/^[1-9]$/.test(key)) move("place", card, Number(key));
  else if (key === "Enter" && target === card) move("next", card);
  else if (named[key]) move(named[key], card);
  else return false;
  return true;
}

function show(card) {
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

/* Once only; the buttons are disabled after the browser has read which of them was pressed. */
function onSubmit(event) {
  if (sent) return event.preventDefault();
  sent = true;
  clearTimeout(timer);
  inFlight?.abort();
  return setTimeout(() => all("#answer button").forEach((button) => { button.disabled = true; }));
}

/* --- the draft: kept in this tab until the server has it, so that a reload in between loses nothing --------------- */
let timer, inFlight, isUnsaved = false;
const entries = () => new URLSearchParams(new FormData(form));
const draftKey = () => `draft ${form.dataset.item}`;

function unsaved(draft) {
  isUnsaved = Boolean(draft);
  keep("sessionStorage", draftKey(), draft);
}

function save() {
  unsaved(entries());
  clearTimeout(timer);
  timer = setTimeout(send, 300);
}

function restore() {
  const left = recall("sessionStorage", draftKey());
  if (!left) return;
  const draft = new URLSearchParams(left);
  cards.forEach((card) => { select(card).value = draft.get(select(card).name) ?? ""; });
  form.elements.note.value = draft.get("note") ?? "";
  form.elements.all_bad.checked = draft.has("all_bad");
  save();
}

async function send(wait = 1000) {
  if (sent) return;
  inFlight?.abort();
  const { signal } = (inFlight = new AbortController());
  const body = entries();
  const status = await fetch("/draft", { method: "POST", body, signal }).then((answer) => answer.status, () => 0);
  if (signal.aborted) return;
  const isFinal = status >= 400 && status < 500 && status !== 429;
  if (status && status < 400) {
    if (String(body) === String(entries())) unsaved("");
    $("saved").textContent = "Draft saved";
  } else {
    $("saved").textContent = isFinal ? "Not saved: please reload the page" : "Not saved, retrying";
    if (!isFinal) timer = setTimeout(send, wait, Math.min(2 * wait, 10000));
  }
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
  if (!form && state.item !== null) setTimeout(() => location.assign("/"), Math.max(0, 700 - performance.now()));
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
  $("use-keys").checked = recall("localStorage", "keys") !== "off";
  $("use-keys").addEventListener("change", (event) => keep("localStorage", "keys", event.target.checked ? "on" : "off"));
  $("compare")?.addEventListener("submit", compare);
}

async function compare(event) {
  event.preventDefault();
  const asked = new URLSearchParams(new FormData($("compare")));
  const answer = await fetch(`/compare?${asked}`, { headers: { Accept: "application/json" } }).catch(() => null);
  const parts = answer?.ok ? (await answer.json()).parts : [["=", "No answer from the server; please try again."]];
  ["left", "right"].forEach((side) => { $(`diff-${side}`).textContent = asked.get(side); });
  $("diff-title").textContent = `${asked.get("left")} and ${asked.get("right")}: differences`;
  $("diff-parts").replaceChildren(...parts.map(([op, text]) => made({ "-": "del", "+": "ins" }[op] ?? "span", text)));
  $("diff").showModal();
}
