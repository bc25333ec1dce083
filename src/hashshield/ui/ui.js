"use strict";
// Shows the session's state and sends the user's requests; the server does everything else.
const $ = (id) => document.getElementById(id);
const MOST_BYTES = Number(document.body.dataset.bytes), MOST = Number(document.body.dataset.most);
const cards = new Map();
let queue = 0, state = null, closed = false, timer = 0, wasBusy = false;

function make(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function alarm(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  let said = "HashShield refused this (" + answer.status + ").";
  try { said = (await answer.json()).error; } catch { /* the answer holds no message */ }
  throw new Error(said);
}

// Runs a request and shows its failure on the page; returns its answer, or undefined.
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    const gone = error instanceof TypeError;
    if (!closed) alarm(gone ? "HashShield does not answer any more. Start hashshield ui again." : error.message);
    return undefined;
  }
}

const size = (bytes) => bytes < 1e6 ? Math.max(1, Math.round(bytes / 1e3)) + " kB" : (bytes / 1e6).toFixed(1) + " MB";
const photos = (number) => number + (number === 1 ? " photo" : " photos");

// Dropped and chosen files

async function take(files) {
  alarm("");
  const refused = [];
  for (const file of files) {
    if (file.size > MOST_BYTES) { refused.push(file.name + " is larger than " + size(MOST_BYTES)); continue; }
    queue++;
    render();
    try {
      await ask("photos", { method: "POST", body: file, headers: { "X-Name": encodeURIComponent(file.name) } });
    } catch (error) {
      refused.push(file.name + ": " + (error instanceof TypeError ? "could not be read" : error.message));
    }
    queue--;
    await refresh();
  }
  if (refused.length) alarm("Not taken: " + refused.slice(0, 5).join("; ") + (refused.length > 5 ? " and " + (refused.length - 5) + " more" : ""));
}

// Returns the files of a dropped folder; entries must be requested before the event handler returns.
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (let part; found.length <= MOST;) {
    part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    for (const inner of part) found.push(...await filesOf(inner));
  }
  return found;
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.kind === "file" && item.webkitGetAsEntry && item.webkitGetAsEntry());
  const plain = [...transfer.files];
  if (!entries.some((entry) => entry && entry.isDirectory)) return take(plain);
  const found = [];
  for (const entry of entries) if (entry) found.push(...await filesOf(entry).catch(() => []));
  return take(found);
}

// What is shown

function render() {
  if (!state) return;
  const waiting = state.photos.filter((photo) => photo.state === "waiting");
  const done = state.photos.filter((photo) => photo.state === "done");
  const saved = done.filter((photo) => photo.saved);
  renderWaiting(waiting);
  const button = $("protect");
  button.disabled = state.busy || queue > 0 || !waiting.length;
  button.textContent = queue ? "Receiving " + photos(queue) : waiting.length ? "Protect " + photos(waiting.length) : "Protect";
  renderRun();
  $("results").hidden = !done.length;
  $("archive").hidden = !saved.length;
  $("archive").textContent = saved.length === 1 ? "Save the copy (zip)" : "Save all " + saved.length + " copies (zip)";
}

function renderWaiting(waiting) {
  const list = $("waiting"), there = new Map([...list.children].map((item) => [Number(item.dataset.number), item]));
  for (const photo of waiting) {
    if (there.delete(photo.number)) continue;
    const remove = make("button", { type: "button", textContent: "×", title: "Remove" });
    remove.setAttribute("aria-label", "Remove " + photo.name);
    remove.addEventListener("click", () => removeWaiting(photo.number));
    const item = make("li", {}, make("bdi", { className: "name", textContent: photo.name, title: photo.name }),
      make("span", { className: "soft", textContent: size(photo.size) }), remove);
    item.dataset.number = photo.number;
    list.append(item);
  }
  for (const item of there.values()) item.remove();
  list.hidden = !waiting.length;
}

async function removeWaiting(number) {
  const item = document.querySelector('#waiting [data-number="' + number + '"]');
  // The focus moves to the next photo's button, so that keyboard users keep their place.
  const next = item && (item.nextElementSibling || item.previousElementSibling);
  await attempt(() => ask("photos/" + number, { method: "DELETE" }));
  (next ? next.querySelector("button") : $("files")).focus();
  await refresh();
}

function renderRun() {
  $("run").hidden = !state.total && !state.error;
  const bar = $("bar");
  if (state.busy && !state.done) bar.removeAttribute("value"); else bar.value = state.total ? state.done / state.total : 0;
  bar.hidden = !state.total;
  const counted = state.done + " of " + photos(state.total) + " done";
  const now = state.current ? "; working on " + state.current : "; getting ready";
  const text = state.stopping ? "Stopping…" : state.busy ? counted + (state.done < state.total ? now : "") + "." : counted + ".";
  if ($("doing").textContent !== text) $("doing").textContent = text;
  $("stop").hidden = !state.busy;
  $("stop").disabled = state.stopping;
  $("notices").replaceChildren(...state.notices.map((notice) => make("li", { textContent: notice })));
  $("notices").hidden = !state.notices.length;
  if (wasBusy && !state.busy) {
    if (state.error) alarm(state.error);
    else if (document.activeElement === $("stop") || document.activeElement === document.body) $("main").focus();
  }
  wasBusy = state.busy;
}

async function renderCards() {
  const done = state.photos.filter((photo) => photo.state === "done").sort((a, b) => a.rank - b.rank);
  const wanted = new Set(done.map((photo) => photo.number));
  for (const [number, card] of cards) if (!wanted.has(number)) { card.remove(); cards.delete(number); }
  for (const photo of done) {
    if (cards.has(photo.number)) continue;
    const answer = await attempt(() => ask("cards/" + photo.number));
    if (!answer) continue;
    // The card comes from the report's template, with names escaped; DOMParser and the policy keep scripts from running.
    const card = document.adoptNode(new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".card"));
    card.dataset.rank = photo.rank;
    card.append(actions(photo));
    cards.set(photo.number, card);
    card.querySelectorAll(".compare input").forEach(show);
  }
  // A card is moved only if the order has changed, because moving it would remove its focus.
  let place = null;
  for (const photo of done) {
    const card = cards.get(photo.number);
    if (!card) continue;
    const next = place ? place.nextElementSibling : $("cards").firstElementChild;
    if (next !== card) $("cards").insertBefore(card, next);
    place = card;
  }
}

function actions(photo) {
  const row = make("p", { className: "do" });
  if (photo.saved) {
    const save = make("a", { className: "button", href: "saved/" + photo.number, download: "", textContent: "Save copy" });
    save.setAttribute("aria-label", "Save copy of " + photo.name);
    row.append(save);
  }
  const again = make("button", { type: "button", textContent: "Try another preset" });
  again.setAttribute("aria-label", "Try another preset on " + photo.name);
  again.title = "Puts the photo back among those to protect";
  again.addEventListener("click", async () => {
    await attempt(() => ask("again/" + photo.number, { method: "POST" }));
    await refresh();
    $("protect").focus();
  });
  row.append(again);
  return row;
}

let asking = false, once = false;
async function refresh() {
  if (closed) return;
  if (asking) { once = true; return; }
  asking = true;
  clearTimeout(timer);
  do {
    once = false;
    const answer = await attempt(() => ask("state"));
    if (answer) {
      state = await answer.json();
      render();
      await renderCards();
    }
  } while (once);
  asking = false;
  timer = setTimeout(refresh, state && state.busy ? 400 : 5000);
}

// What the user does

const zone = $("drop");
// Anywhere on the page: a photo dropped beside the zone must not replace the page.
addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  dropped(event.dataTransfer);
});
$("files").addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await take(files);
});
$("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  alarm("");
  const form = event.target.elements;
  const order = { preset: form.preset.value };
  for (const name of ["strip_gps", "strip_metadata", "rename"]) order[name] = form[name].checked;
  const headers = { "Content-Type": "application/json" };
  await attempt(() => ask("protect", { method: "POST", body: JSON.stringify(order), headers }));
  await refresh();
  if (state && state.busy) $("stop").focus();
});
$("stop").addEventListener("click", async () => {
  await attempt(() => ask("stop", { method: "POST" }));
  await refresh();
});
$("end").addEventListener("click", async () => {
  const unsaved = state && state.photos.some((photo) => photo.saved);
  if (unsaved && !confirm("Close HashShield? Copies that you have not saved are deleted.")) return;
  const answer = await attempt(() => ask("end", { method: "POST" }));
  if (!answer) return;
  closed = true;
  clearTimeout(timer);
  document.querySelector("main").replaceChildren(make("p", { textContent: "HashShield has ended, and its copies here are deleted. You can close this tab." }));
  document.querySelector("footer").remove();
});
refresh();
