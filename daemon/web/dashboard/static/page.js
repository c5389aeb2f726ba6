// What pages do beyond links and forms, asked for by `data-` attributes. Without this script each of them still works.

const DEBOUNCE_MS = 300;
const POLL_MS = 1000;
const SLOWEST_POLL_MS = 10000;

// ---- saying, fetching, putting ----

function say(text) {
  document.getElementById("said").textContent = text;
}

const UNREACHABLE = `<p class="wrong">The server cannot be reached. Nothing you typed is lost: try again in a moment.</p>`;

async function part(url, options = {}) {
  try {
    const answer = await fetch(url, { ...options, headers: { Accept: "text/html", "X-Fragment": "1" } });
    return await answer.text();
  } catch {
    return UNREACHABLE;
  }
}

function put(place, html) {
  place.innerHTML = html;
  start(place);
}

function debounced(act) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), DEBOUNCE_MS);
  };
}

// ---- behaviours, by the attribute that asks for them ----

function copying(button, text) {
  button.hidden = false;
  const label = button.firstChild;
  const before = label.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      label.textContent = "Copied";
      say("Copied");
    } catch {
      label.textContent = "Select and copy";
    }
    setTimeout(() => (label.textContent = before), 2000);
  });
}

let isOpening = false;

async function openDialog(event, anchor) {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (isOpening) return;
  isOpening = true;
  await showDialog(anchor.href).catch(() => location.assign(anchor.href));
  isOpening = false;
}

async function showDialog(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok || answer.redirected) return location.assign(url);
  const dialog = document.createElement("dialog");
  const body = document.createElement("div");
  body.className = "dialog-body";
  body.append(...page.querySelector("main").childNodes);
  for (const form of body.querySelectorAll("form:not([action])")) form.action = url;
  for (const back of body.querySelectorAll("[data-cancel]")) {
    back.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    });
  }
  const heading = body.querySelector("h1");
  if (heading) {
    heading.id = "dialog-title";
    [heading.tabIndex, heading.autofocus] = [-1, true]; // where reading begins; Enter does nothing there
    dialog.setAttribute("aria-labelledby", heading.id);
  }
  dialog.append(body);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  start(dialog);
  dialog.showModal();
}

function fragment(source) {
  const form = source.closest("form");
  const place = () => document.querySelector(source.dataset.into);
  let turn = 0;
  const ask = debounced(async () => {
    const mine = ++turn;
    const body = new URLSearchParams(new FormData(form));
    const html = await part(source.dataset.fragment, { method: "POST", body });
    if (mine === turn) put(place(), html);
  });
  source.addEventListener(source.dataset.on ?? "input", ask);
}

function reveal(anchor) {
  anchor.addEventListener("click", async (event) => {
    event.preventDefault();
    put(document.querySelector(anchor.dataset.reveal), await part(anchor.href));
    say("Shown");
  });
}

function search(input) {
  const list = document.querySelector(input.dataset.search);
  input.closest("[hidden]")?.removeAttribute("hidden");
  input.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let found = 0;
    for (const each of list.querySelectorAll("[data-text]")) {
      each.hidden = !(each.dataset.text || each.textContent).toLowerCase().includes(wanted);
      if (!each.hidden) found += 1;
    }
    for (const group of list.querySelectorAll("[data-group]")) {
      group.hidden = !group.querySelector("[data-text]:not([hidden])");
      for (const fold of group.querySelectorAll("details")) fold.open ||= Boolean(wanted);
    }
    for (const none of list.parentElement.querySelectorAll("[data-none]")) none.hidden = found > 0;
    say(`${found} found`);
  });
}

// Whoever takes it back has what was chosen before.
function checkAll(box) {
  const all = document.querySelectorAll(`${box.dataset.checkAll} input[type=checkbox]`);
  const others = [...all].filter((each) => each !== box);
  let before = [];
  const follow = () => {
    for (const each of others) {
      if (box.checked) each.checked = true;
      each.disabled = box.checked;
    }
  };
  box.addEventListener("follow", follow);
  box.addEventListener("change", () => {
    if (box.checked) before = others.filter((each) => each.checked);
    for (const each of others) each.checked = before.includes(each);
    follow();
    if (box.checked) return;
    for (const each of before) if (each.dataset.checkAll) each.dispatchEvent(new Event("follow"));
  });
  if (box.checked) follow();
}

function count(place) {
  const boxes = () => [...document.querySelectorAll(`${place.dataset.count} [data-text] input`)];
  const tell = () => {
    const all = boxes();
    place.textContent = `${all.filter((box) => box.checked).length} of ${all.length}`;
  };
  place.closest("form").addEventListener("change", tell);
  tell();
}

function live(place) {
  const stream = new EventSource(place.dataset.live);
  stream.addEventListener("message", (event) => putBack(place, event.data));
  stream.addEventListener("error", () => {
    if (stream.readyState !== EventSource.CLOSED) return; // it comes back by itself
    for (const pill of document.querySelectorAll("[data-live-lost]")) {
      say((pill.textContent = pill.dataset.liveLost));
      pill.classList.replace("pill-ok", "pill-warn");
    }
  });
  addEventListener("pagehide", () => stream.close());
}

function countdown(time) {
  const until = Date.parse(time.dateTime);
  const tick = () => {
    const seconds = Math.max(0, Math.round((until - Date.now()) / 1000));
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    time.textContent = hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
    if (!seconds || !time.isConnected) clearInterval(timer);
  };
  const timer = setInterval(tick, 1000);
  tick();
}

const MOMENT = { timeZone: "UTC", dateStyle: "medium", timeStyle: "medium" };

// Says which moment a slider stands at, while it is moved.
function moments(slider) {
  const [from, to] = [Date.parse(slider.dataset.from), Date.parse(slider.dataset.to)];
  const shown = slider.parentElement.querySelector("output");
  const tell = () => {
    const at = new Date(from + ((to - from) * slider.value) / slider.max);
    const text = slider.value === slider.max ? "Now" : `${at.toLocaleString("en-GB", MOMENT)} UTC`;
    slider.setAttribute("aria-valuetext", text);
    shown.textContent = text;
  };
  slider.addEventListener("input", tell);
  tell();
}

function auto(form) {
  for (const button of form.querySelectorAll("[data-auto-button]")) button.hidden = true;
  form.addEventListener("change", debounced(() => form.requestSubmit()));
}

// A part that changes for a while is asked for again, the less often the longer nothing does, until it is settled.
function poll(place) {
  const url = place.dataset.poll;
  let [shown, said, wait] = ["", "", POLL_MS];
  const isSettled = () => place.querySelector("[data-settled]");
  const offerRefresh = () => {
    for (const each of document.querySelectorAll("[data-poll-instead]")) each.hidden = !isSettled();
  };
  const ask = async () => {
    offerRefresh();
    if (!place.isConnected || isSettled()) return;
    if (!document.hidden) {
      const answer = await fetch(url, { headers: { Accept: "text/html", "X-Fragment": "1" } }).catch(() => null);
      if ([401, 403, 404].includes(answer?.status)) return;
      const html = answer?.ok ? await answer.text() : shown;
      wait = html === shown ? Math.min(wait * 1.3, SLOWEST_POLL_MS) : POLL_MS;
      if (html !== shown) putBack(place, (shown = html));
      const news = place.querySelector("[data-summary]")?.textContent.trim() ?? "";
      if (news !== said) say((said = news));
    }
    setTimeout(ask, wait);
  };
  offerRefresh();
  setTimeout(ask, wait);
}

// Whoever is at a link of the part, or has opened something in it, stays there.
function putBack(place, html) {
  const within = () => [...place.querySelectorAll("a, button, summary")];
  const [held, at] = [document.activeElement.getAttribute("href"), within().indexOf(document.activeElement)];
  const open = [...place.querySelectorAll("details")].map((each) => each.open);
  put(place, html);
  for (const [n, each] of place.querySelectorAll("details").entries()) each.open = open[n] ?? each.open;
  if (at < 0) return;
  const same = within().find((each) => held && each.getAttribute("href") === held);
  (same ?? within()[at])?.focus({ preventScroll: true });
}

const BEHAVIOURS = {
  "[data-copy]": (button) => copying(button, () => button.dataset.copy),
  "[data-copy-near]": (button) => copying(button, () => button.closest(".code").querySelector("pre").textContent),
  "a[data-dialog]": (anchor) => anchor.addEventListener("click", (event) => openDialog(event, anchor)),
  "[data-fragment]": fragment,
  "a[data-reveal]": reveal,
  "[data-search]": search,
  "[data-check-all]": checkAll,
  "[data-count]": count,
  "[data-live]": live,
  "time[data-countdown]": countdown,
  "[data-from]": moments,
  "form[data-auto]": auto,
  "[data-poll]": poll,
  "[data-focus]": (place) => place.focus(),
};

function start(root) {
  for (const [selector, behave] of Object.entries(BEHAVIOURS)) {
    for (const element of root.querySelectorAll(selector)) behave(element);
  }
}

start(document);

// The notice of what was done belongs to this visit: a reload, or a bookmark, shall not repeat it.
const url = new URL(location.href);
if (url.searchParams.has("done")) {
  url.searchParams.delete("done");
  history.replaceState(null, "", url);
}
