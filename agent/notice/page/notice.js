// Shows what the notice process says, word for word; no word of this page is in here. When that process falls
// silent the page says what it was given for that case, and never that the tablet may be used.
"use strict";

const $ = (id) => document.getElementById(id);
const SIGNS = {
  docked: "good", uncertain: "soon", restricted: "lock", foreign: "wrong",
  unknown: "ask", permit: "clock", override: "clock", silent: "cut",
};
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; // Crockford's base 32: no I, L, O, U
const MEANT = { I: "1", L: "1", O: "0" };
const CODE_LENGTH = 12;
const SURE_MS = 15000; // a question nobody answers goes away
const SAID_MS = 8000;

const silent = JSON.parse(document.body.dataset.silent);
const still = matchMedia("(prefers-reduced-motion: reduce)");
let view = {};
let endsAt = null; // of the countdown, on the clock of performance.now()
let wholeMs = 1; // the longest that was seen of this countdown
let typed = "";
let lastHeard = performance.now();

// --- what is shown -------------------------------------------------------------------------------

function show(fresh) {
  const before = view;
  view = fresh;
  document.body.dataset.kind = view.kind;
  document.documentElement.dataset.tone = view.tone;
  put("title", view.title);
  put("why", view.why);
  $("sign").setAttribute("href", `#${SIGNS[view.kind] || "lock"}`);
  if (before.kind !== view.kind) {
    $("steps").replaceChildren(...view.steps.map(step));
    $("do").hidden = view.steps.length === 0;
    wholeMs = 1;
  }
  countdown(view.countdown, before);
  offers();
}

function put(id, text) { // untouched when the same: a screen reader would say it again
  if ($(id).textContent !== text) $(id).textContent = text;
}

function step(text) {
  const words = document.createElement("span");
  words.textContent = text;
  const item = document.createElement("li");
  item.append(words);
  return item;
}

function countdown(left, before) {
  $("time").hidden = !left;
  document.querySelector("main").classList.toggle("calm", !left);
  if (!left) {
    endsAt = null;
    put("announce", "");
    return;
  }
  endsAt = performance.now() + left.left_ms;
  wholeMs = Math.max(wholeMs, left.left_ms);
  put("label", left.label);
  tick();
  if (before.kind !== view.kind) put("announce", `${left.label} ${$("digits").textContent} ${$("unit").textContent}`);
}

// The time left is drawn from this page's own clock; nobody is asked for it.
function tick() {
  if (endsAt === null) return;
  const leftMs = Math.max(0, endsAt - performance.now());
  const seconds = Math.ceil(leftMs / 1000);
  const long = seconds >= 90;
  put("digits", long ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : String(seconds));
  put("unit", long ? view.countdown.minutes : view.countdown.seconds);
  const share = (still.matches ? seconds * 1000 : leftMs) / wholeMs;
  $("bar").style.transform = `scaleX(${Math.min(1, share)})`;
}

function draw() {
  tick();
  if (still.matches) setTimeout(draw, 250);
  else requestAnimationFrame(draw);
}

function offers() {
  const { override, code } = view;
  const some = override && override.left > 0;
  $("override").hidden = !some;
  $("none").hidden = !override || some;
  if (override) {
    put("none", override.none);
    label("override", override.offer, override.left_words);
    put("sure-title", override.title);
    put("sure-text", override.text);
    put("sure-yes", override.yes);
    put("sure-no", override.no);
  }
  if (!some && $("sure").open) $("sure").close();
  $("code").hidden = !code;
  if (!code) {
    if ($("entry").open) $("entry").close();
    return;
  }
  label("code", code.offer, "");
  put("entry-title", code.title);
  put("how-long", code.how_long);
  put("entry-back", code.back);
  put("read-out", code.read_out);
  put("challenge", code.challenge);
  put("then", code.then);
  $("keys").setAttribute("aria-label", code.entered);
  if ($("entry").open) codeStep();
}

function label(id, first, second) {
  const [one, two] = $(id).querySelectorAll("span");
  if (one.textContent !== first) one.textContent = first;
  if (two && two.textContent !== second) two.textContent = second;
}

// --- what is asked -------------------------------------------------------------------------------

async function ask(what) {
  try {
    const answer = await fetch("do", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what),
    });
    if (answer.ok) return await answer.json();
  } catch { /* the process is gone: said below */ }
  return { ok: false, says: document.body.dataset.failure };
}

let saying = 0;
function say(text) {
  put("says", text);
  clearTimeout(saying);
  saying = setTimeout(() => put("says", ""), SAID_MS);
}

let unsure = 0;
$("override").addEventListener("click", () => {
  $("sure").showModal();
  $("sure-no").focus();
  clearTimeout(unsure);
  unsure = setTimeout(() => $("sure").close(), SURE_MS);
});
$("sure-no").addEventListener("click", () => $("sure").close());
$("sure-yes").addEventListener("click", async () => {
  $("sure-yes").disabled = true;
  const answer = await ask({ act: "override", confirmed: true });
  $("sure-yes").disabled = false;
  $("sure").close();
  say(answer.says);
});

$("code").addEventListener("click", () => {
  typed = "";
  put("entry-says", "");
  $("lengths").replaceChildren(...view.code.options.map(([minutes, words]) => key(words, () => challenge(minutes))));
  keys();
  codeStep();
  $("entry").showModal();
});
$("entry-back").addEventListener("click", () => $("entry").close());

function codeStep() {
  const asked = view.code.challenge !== "";
  $("ask-step").hidden = asked;
  $("code-step").hidden = !asked;
  const waitS = Math.ceil(view.code.wait_ms / 1000);
  if (waitS > 0) put("entry-says", `${view.code.wait} ${waitS} ${view.code.seconds}`);
  spell();
}

async function challenge(minutes) {
  const answer = await ask({ act: "challenge", minutes });
  put("entry-says", answer.ok ? "" : answer.says);
}

function keys() {
  const send = key(view.code.send, answer, "wide strong");
  send.id = "send";
  const remove = key(view.code.delete, () => { typed = typed.slice(0, -1); spell(); }, "wide");
  remove.id = "delete";
  $("keys").replaceChildren(...[...ALPHABET].map((each) => key(each, () => type(each))), remove, send);
}

function key(words, press, classes = "") {
  const button = document.createElement("button");
  button.type = "button";
  button.className = classes;
  button.textContent = words;
  button.addEventListener("click", press);
  return button;
}

function type(character) {
  if (typed.length < CODE_LENGTH) typed += character;
  put("entry-says", "");
  spell();
}

function spell() {
  const slots = [...typed.padEnd(CODE_LENGTH, "·")];
  put("typed", [0, 4, 8].map((at) => slots.slice(at, at + 4).join("")).join("-"));
  if ($("send")) $("send").disabled = typed.length !== CODE_LENGTH;
}

async function answer() {
  const said = await ask({ act: "answer", answer: typed });
  typed = "";
  spell();
  if (said.ok) {
    $("entry").close();
    say(said.says);
  } else {
    put("entry-says", said.says);
  }
}

document.addEventListener("keydown", (event) => {
  if (!$("entry").open || $("code-step").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  const character = MEANT[event.key.toUpperCase()] || event.key.toUpperCase();
  if (character.length === 1 && ALPHABET.includes(character)) type(character);
  else if (event.key === "Backspace") { typed = typed.slice(0, -1); spell(); }
});
document.addEventListener("contextmenu", (event) => event.preventDefault());

// --- what is heard -------------------------------------------------------------------------------

const events = new EventSource("events");
events.addEventListener("message", (event) => {
  lastHeard = performance.now();
  show(JSON.parse(event.data));
});
setInterval(() => {
  if (performance.now() - lastHeard > 3 * Number(document.body.dataset.beatMs)) show(silent);
}, 500);

show(silent);
draw();
