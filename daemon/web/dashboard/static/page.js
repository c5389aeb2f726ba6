// What pages do beyond links and forms, declared by `data-` attributes. All pages work without this script too.

const DEBOUNCE_MS = 300;
const POLL_MS = 1000;
const SLOWEST_POLL_MS = 10000;
const ANSWER_MS = 10000;
const MOST_MISSES = 2;
const LONGEST_WAIT_MS = 3600000; // a timer may take no more than 24 days
const SELECTION_MS = 30000; // what is selected for longer has been forgotten
const SILENT_MS = 40000; // live.py sends something every 15 seconds

// ---- announcements, requests, content ----

function announce(text) {
  document.getElementById("said").textContent = text;
}

const UNREACHABLE = `<p class="wrong">The server cannot be reached. Nothing you typed is lost: try again in a moment.</p>`;

async function fetchPart(url, options = {}) {
  try {
    const answer = await fetch(url, { ...options, headers: { Accept: "text/html", "X-Fragment": "1" } });
    return await answer.text();
  } catch {
    return UNREACHABLE;
  }
}

function replaceContent(element, html) {
  element.innerHTML = html;
  start(element);
}

function debounced(action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), DEBOUNCE_MS);
  };
}

// ---- behaviours, by the attribute that declares them ----

// What was changed in a form is kept with its page in the history of the tab, for the way back to it: as changes of what
// the server wrote, which may be something else by then. `data-keep` names the hidden field that says what the form was
// opened with. Until the form is sent, this is kept too, so that saving tells of what others have changed since. The id
// of a new one is kept for good, so that it is not made twice. Secrets and pasted events are not kept.
function keep(form) {
  const opened = form.elements[form.dataset.keep];
  const kept = "input[name]:not([type=hidden], [data-secret]), textarea:not([data-secret])";
  const fields = () => [...form.querySelectorAll(kept)];
  const isTick = (each) => each.type === "checkbox" || each.type === "radio";
  const nameOf = (each) => (isTick(each) ? `${each.name}=${each.value}` : each.name);
  const { changes = {}, opened: before } = history.state?.typed ?? {};
  if (before) opened.value = before;
  for (const each of fields().filter((field) => nameOf(field) in changes)) {
    each[isTick(each) ? "checked" : "value"] = changes[nameOf(each)];
    const details = each.closest("details");
    if (details) details.open = true;
  }
  let [isSent, isWritten] = [false, true];
  const write = () => {
    isWritten = true;
    const isChanged = (each) => (isTick(each) ? each.checked !== each.defaultChecked : each.value !== each.defaultValue);
    const now = fields().filter(isChanged).map((each) => [nameOf(each), isTick(each) ? each.checked : each.value]);
    const typed = { changes: Object.fromEntries(now), opened: isSent && opened.name !== "once" ? "" : opened.value };
    history.replaceState({ ...history.state, typed }, "");
  };
  const later = debounced(write);
  form.addEventListener("input", () => {
    isSent = isWritten = false;
    later();
  });
  form.addEventListener("submit", () => {
    isSent = true;
    write();
  });
  addEventListener("pagehide", () => isWritten || write());
}

// Shows for a moment what came of a click. `label` is an element or a text; clicks meanwhile begin the moment anew.
function labelling(label) {
  const before = label.textContent;
  let timer;
  return (text) => {
    clearTimeout(timer);
    label.textContent = text;
    timer = setTimeout(() => (label.textContent = before), 2000);
  };
}

function copying(button, text) {
  button.hidden = false;
  const label = labelling(button.querySelector("[data-copy-label]"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      label("Copied");
      announce("Copied");
    } catch {
      label("Select and copy");
    }
  });
}

let isOpening = false;

async function openDialog(event, anchor) {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (isOpening) return;
  isOpening = true;
  await showDialog(anchor).catch(() => location.assign(anchor.href));
  isOpening = false;
}

async function showDialog(anchor) {
  const url = anchor.href;
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!answer.ok || answer.redirected) return location.assign(url);
  const dialog = document.createElement("dialog");
  const body = document.createElement("div");
  body.className = "dialog-body";
  body.append(...page.querySelector("main").childNodes);
  for (const form of body.querySelectorAll("form:not([action])")) form.action = url;
  for (const cancel of body.querySelectorAll("[data-cancel]")) {
    cancel.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    });
  }
  const heading = body.querySelector("h1");
  if (heading) {
    heading.id = "dialog-title";
    [heading.tabIndex, heading.autofocus] = [-1, true]; // screen readers begin here, and Enter does nothing here
    dialog.setAttribute("aria-labelledby", heading.id);
  }
  dialog.append(body);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (anchor.isConnected) return; // the browser gives it the focus back
    const links = [...document.querySelectorAll("a[data-dialog]")];
    links.find((each) => each.href === url)?.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  start(dialog);
  dialog.showModal();
}

function fragment(source) {
  const form = source.closest("form");
  let latest = 0;
  const load = debounced(async () => {
    const number = ++latest;
    const body = new URLSearchParams(new FormData(form));
    const html = await fetchPart(source.dataset.fragment, { method: "POST", body });
    if (number === latest) replaceContent(document.querySelector(source.dataset.into), html);
  });
  source.addEventListener(source.dataset.on ?? "input", load);
}

// Puts what the page of a link shows to be copied into its place. A refusal stands below, and the link can be tried again.
function reveal(anchor) {
  const refusal = document.createElement("div");
  anchor.addEventListener("click", async (event) => {
    event.preventDefault();
    const place = document.querySelector(anchor.dataset.reveal);
    const html = await fetchPart(anchor.href);
    replaceContent(refusal, html);
    if (!refusal.querySelector("[data-copy]")) {
      place.after(refusal);
      return announce(refusal.textContent);
    }
    refusal.remove();
    replaceContent(place, html);
    announce("Shown");
  });
}

function search(input) {
  const list = document.querySelector(input.dataset.search);
  input.closest("[hidden]")?.removeAttribute("hidden");
  input.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  input.addEventListener("input", () => {
    const text = input.value.trim().toLowerCase();
    let found = 0;
    for (const each of list.querySelectorAll("[data-text]")) {
      each.hidden = !(each.dataset.text || each.textContent).toLowerCase().includes(text);
      if (!each.hidden) found += 1;
    }
    for (const group of list.querySelectorAll("[data-group]")) {
      group.hidden = !group.querySelector("[data-text]:not([hidden])");
      for (const details of group.querySelectorAll("details")) details.open ||= Boolean(text);
    }
    for (const message of list.parentElement.querySelectorAll("[data-none]")) message.hidden = found > 0;
    announce(`${found} found`);
  });
}

// While the box is checked, all others are; unchecking it restores what was checked before.
function checkAll(box) {
  const all = document.querySelectorAll(box.dataset.checkAll);
  const others = [...all].filter((each) => each !== box);
  let before = [];
  const follow = () => {
    for (const each of others) {
      if (box.checked) each.checked = true;
      each.disabled = box.checked;
    }
  };
  box.addEventListener("change", () => {
    if (box.checked) before = others.filter((each) => each.checked);
    for (const each of others) each.checked = before.includes(each);
    follow();
    if (box.checked) return;
    for (const each of before) if (each.dataset.checkGroup) each.dispatchEvent(new Event("follow"));
  });
  if (box.checked) follow();
}

// The box in the head of a table is for those of all its rows, and says what they are.
function chooseAll(box) {
  const rows = [...box.closest("table").querySelectorAll("tbody .choose input")];
  const follow = () => {
    const chosen = rows.filter((each) => each.checked).length;
    [box.checked, box.indeterminate] = [chosen === rows.length, chosen > 0 && chosen < rows.length];
  };
  box.hidden = false;
  box.addEventListener("change", () => {
    for (const each of rows) each.checked = box.checked;
  });
  for (const each of rows) each.addEventListener("change", follow);
  follow();
}

// The types of a group are chosen with it. Leaving one out chooses the others one by one, and says what that means.
function checkGroup(box) {
  const group = box.closest("[data-group]");
  const members = [...document.querySelectorAll(box.dataset.checkGroup)].filter((each) => each !== box);
  const note = group.querySelector("[data-single]");
  for (const button of group.querySelectorAll("[data-singly]")) button.hidden = true;
  let before = [];
  const follow = () => {
    for (const each of members) if (box.checked) each.checked = true;
  };
  box.addEventListener("follow", follow);
  box.addEventListener("change", () => {
    if (box.checked) before = members.filter((each) => each.checked);
    for (const each of members) each.checked = box.checked || before.includes(each);
    note.hidden = true;
  });
  for (const member of members) {
    member.addEventListener("change", () => {
      if (member.checked || !box.checked) return;
      box.checked = note.hidden = false;
      announce(note.textContent);
    });
  }
  follow();
}

// Commands of a row: Escape and a click elsewhere close them, and one menu is open at a time.
function menu(details) {
  const summary = details.querySelector("summary");
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    for (const each of document.querySelectorAll("details.menu[open]")) each.open = each === details;
  });
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !details.open) return;
    details.open = false;
    summary.focus();
  });
  document.addEventListener("click", (event) => {
    if (!details.contains(event.target)) details.open = false;
  });
}

// Copies what the page of a link shows to be copied; if that cannot be, the link leads there.
function copyFrom(anchor) {
  const label = labelling(anchor.firstChild);
  anchor.addEventListener("click", async (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    const text = fetchPart(anchor.href).then((html) => {
      const part = new DOMParser().parseFromString(html, "text/html");
      return new Blob([part.querySelector("[data-copy]").dataset.copy], { type: "text/plain" });
    });
    try {
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": text })]);
    } catch {
      return location.assign(anchor.href);
    }
    label("Copied");
    announce("Copied");
  });
}

function count(element) {
  const boxes = () => [...document.querySelectorAll(`${element.dataset.count} [data-text] input`)];
  const update = () => {
    const all = boxes();
    element.textContent = `${all.filter((box) => box.checked).length} of ${all.length}`;
  };
  element.closest("form").addEventListener("change", update);
  update();
}

// The pill beside the heading is true at each moment: a stream may be silent for long though nobody is there any more.
function live(element) {
  const pill = document.querySelector("[data-live-state]");
  let [stream, heardAt, newest] = [null, 0, null];
  const update = () => {
    if (newest === null || isSelected(element)) return;
    refresh(element, newest);
    newest = null;
  };
  const show = (text) => {
    [pill.hidden, pill.textContent] = [false, text];
    pill.classList.toggle("pill-ok", text === "Live");
    pill.classList.toggle("pill-warn", text !== "Live");
  };
  const hear = () => {
    heardAt = Date.now();
    show("Live");
  };
  const connect = () => {
    stream?.close();
    [stream, heardAt] = [new EventSource(element.dataset.live), Date.now()];
    show("Connecting");
    stream.addEventListener("open", hear);
    stream.addEventListener("heartbeat", hear);
    stream.addEventListener("message", (event) => {
      hear();
      newest = event.data;
      update();
    });
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) return show("Connecting"); // the browser does so by itself
      clearInterval(watch);
      show(pill.dataset.liveState);
      announce(pill.dataset.liveState);
    });
  };
  const watch = setInterval(() => {
    update();
    if (Date.now() - heardAt > SILENT_MS) connect();
  }, POLL_MS);
  connect();
  addEventListener("pagehide", () => stream.close());
}

function countdown(time) {
  const until = Date.parse(time.dateTime);
  const tick = () => {
    const seconds = Math.max(0, Math.round((until - Date.now() - SKEW_MS) / 1000));
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    time.textContent = hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
    if (!seconds || !time.isConnected) clearInterval(timer);
  };
  const timer = setInterval(tick, 1000);
  tick();
}

// ---- times: pages have them in UTC, and people see them in their own zone ----

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const AGES = [[86400, "day"], [3600, "h"], [60, "min"], [1, "s"]];
const AGE_MS = 15000;
const SKEW_MS = Date.parse(document.body.dataset.now) - Date.now(); // how far the server's clock is ahead of ours
const two = (number) => String(number).padStart(2, "0");

function zone(at) {
  const minutes = -at.getTimezoneOffset();
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return minutes ? `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${two(rest)}` : ""}` : "UTC";
}

function exact(at, withMilliseconds = false) {
  const fraction = withMilliseconds ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":") + fraction;
  return `${at.getDate()} ${MONTHS[at.getMonth()]} ${at.getFullYear()}, ${clock} ${zone(at)}`;
}

function age(at) {
  const seconds = (Date.now() + SKEW_MS - at) / 1000;
  for (const [length, name] of AGES) {
    const number = Math.floor(Math.abs(seconds) / length);
    if (number < 1) continue;
    const text = `${number} ${name}${name === "day" && number > 1 ? "s" : ""}`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
  }
  return "just now";
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = age(new Date(time.dateTime));
    const hasCome = /^(in |now)/.test(time.textContent) && !text.startsWith("in ");
    time.textContent = hasCome ? "now" : text;
  }
}, AGE_MS);

// A time of day that a chart has in UTC, at the beginning of a text: “09:00”, “30 Nov” or “30 Nov, 09:00”.
function clock(element) {
  const { clock: iso, utc } = element.dataset;
  const at = new Date(iso);
  const [day, time] = [`${at.getDate()} ${MONTHS[at.getMonth()]}`, `${two(at.getHours())}:${two(at.getMinutes())}`];
  const local = [/[a-z]/i.test(utc) && day, utc.includes(":") && time].filter(Boolean).join(", ");
  element.textContent = local + element.textContent.slice(utc.length);
}

function zoneOf(footer) {
  const name = zone(new Date());
  if (name !== "UTC") footer.textContent = `All times are ${name}, your own time zone. Days in charts are days of UTC.`;
}

// A field has a moment in the reader's zone, and its form sends it in UTC. A form that has one as a text, because it is
// no moment, is in UTC as a whole. A moment that nobody touches stays itself: a field has whole seconds, and in autumn an
// hour comes twice.
function localField(input) {
  if (input.form.querySelector("[data-in-utc]")) return;
  const at = new Date(`${input.value}Z`);
  if (input.value) {
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    input.value = `${day}T${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
  }
  const shown = input.value;
  for (const name of input.form.querySelectorAll("[data-zone-name]")) name.textContent = zone(new Date());
  input.form.addEventListener("formdata", ({ formData }) => {
    if (!input.value) return;
    const entered = () => `${new Date(input.value).toISOString().slice(0, 19)}Z`;
    formData.set(input.name, input.value === shown ? input.dataset.exact : entered());
  });
}

// Shows the moment at the position of a slider while it is moved.
function moments(slider) {
  const [from, to] = [Date.parse(slider.dataset.from), Date.parse(slider.dataset.to)];
  const output = slider.parentElement.querySelector("output");
  const update = () => {
    const at = new Date(from + ((to - from) * slider.value) / slider.max);
    const text = slider.value === slider.max ? "Now" : exact(at);
    slider.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  slider.addEventListener("input", update);
  update();
}

// What is chosen from a list applies at once; what is typed, with Enter. The keys of a list pass each choice on the way
// to another, so what they chose applies with the button.
function autoChoice(form) {
  for (const select of form.querySelectorAll("select")) {
    let byKey = false;
    select.addEventListener("keydown", () => (byKey = true));
    select.addEventListener("pointerdown", () => (byKey = false));
    select.addEventListener("change", () => byKey || form.requestSubmit());
  }
}

function auto(form) {
  for (const button of form.querySelectorAll("[data-auto-button]")) button.hidden = true;
  form.addEventListener("change", debounced(() => form.requestSubmit()));
}

// Loads a part again until it is settled. The longer it does not change, the longer the interval becomes, unless the
// part has one of its own. What is settled until a moment goes on then. What cannot be loaded again is of the past, and
// the page says so.
function poll(element) {
  const [url, every] = [element.dataset.poll, Number(element.dataset.every)];
  const said = () => element.querySelector("[data-summary]")?.textContent.trim() ?? "";
  let [shown, newest, etag, announced, wait] = ["", "", "", every ? said() : "", every || POLL_MS];
  let [freshAt, misses] = [new Date(), 0];
  const version = () => element.querySelector("[data-version]")?.dataset.version;
  const loaded = version();
  const isSettled = () => element.querySelector("[data-settled]");
  const offerRefresh = () => {
    for (const each of document.querySelectorAll("[data-poll-instead]")) each.hidden = !isSettled();
  };
  const load = async () => {
    if (!element.isConnected) return;
    const goesOn = isSettled() ? Date.parse(isSettled().dataset.settled) - SKEW_MS - Date.now() : 0;
    if (goesOn > 0) return setTimeout(load, Math.min(goesOn, LONGEST_WAIT_MS));
    if (Number.isNaN(goesOn)) return;
    if (!document.hidden) {
      const answer = await loadAgain(url, etag);
      if (answer?.status in GONE) return tellStale(`${GONE[answer.status]}: ${seenAt(freshAt)} `, "to go on");
      misses = answer ? 0 : misses + 1;
      if (answer) freshAt = new Date();
      if (misses >= MOST_MISSES) tellStale(`The server does not answer: ${seenAt(freshAt)} It is asked again and again.`);
      if (answer?.html !== undefined) etag = answer.etag;
      newest = answer?.html ?? newest;
      wait = every || (newest === shown ? Math.min(wait * 1.3, SLOWEST_POLL_MS) : POLL_MS);
      if (newest !== shown && !isSelected(element)) refresh(element, (shown = newest));
      offerRefresh();
      showState(element);
      if (!misses) tellStale(version() !== loaded && "It was changed meanwhile. ", "to see all of it as it is now");
      if (said() !== announced) announce((announced = said()));
    }
    setTimeout(load, wait);
  };
  offerRefresh();
  setTimeout(load, wait);
}

// The status of an answer, and the part if it is another one than that of the ETag; null if there is no answer to show.
async function loadAgain(url, etag) {
  const headers = { Accept: "text/html", "X-Fragment": "1", ...(etag && { "If-None-Match": etag }) };
  try {
    const answer = await fetch(url, { headers, signal: AbortSignal.timeout(ANSWER_MS) });
    const { status } = answer;
    if (answer.ok) return { status, html: await answer.text(), etag: answer.headers.get("ETag") ?? "" };
    return status === 304 || status in GONE ? { status } : null;
  } catch {
    return null;
  }
}

const GONE = { 401: "Your session has ended", 403: "You may no longer see this", 404: "This is no longer there" };
const seenAt = (at) => `what you see is of ${exact(new Date(at.getTime() + SKEW_MS))}.`;

// Says on top of a page what of it is not as it is now; no longer, without a text. `purpose` is that of loading it again.
function tellStale(text, purpose) {
  const notice = document.getElementById("stale");
  const before = notice.textContent.trim();
  notice.hidden = !text;
  if (!text) return notice.firstElementChild.replaceChildren();
  const again = document.createElement("a");
  [again.href, again.textContent] = [location.pathname + location.search, "Reload the page"];
  notice.firstElementChild.replaceChildren(text, ...(purpose ? [again, ` ${purpose}.`] : []));
  if (!before) announce(notice.textContent);
}

// A part may have the state, or a text, that is shown elsewhere on the page.
function showState(element) {
  for (const text of element.querySelectorAll("template[data-text-of]")) {
    const shown = document.getElementById(text.dataset.textOf);
    if (shown && shown.textContent !== text.innerHTML) shown.textContent = text.innerHTML;
  }
  const state = element.querySelector("template[data-state-now]")?.innerHTML.trim();
  for (const pill of document.querySelectorAll("[data-state] > .pill")) {
    if (state && pill.outerHTML !== state) pill.outerHTML = state;
  }
}

let selectedAt = 0;
document.addEventListener("selectionchange", () => (selectedAt = Date.now()));

// True while somebody selects a text of a part to copy it: replacing the part would take the selection away.
function isSelected(element) {
  const selection = getSelection();
  return Date.now() - selectedAt < SELECTION_MS && !selection.isCollapsed && element.contains(selection.anchorNode);
}

// Replaces a part, and keeps the focus on its links and buttons and its details open: those of the same row (`data-key`),
// wherever it is now. What has gone with its row leaves its place to no other. What is scrolled within it stays so.
function refresh(element, html) {
  const places = (selector) => {
    const counts = new Map();
    return [...element.querySelectorAll(selector)].map((each) => {
      const row = each.closest("[data-key]")?.dataset.key ?? "";
      counts.set(row, (counts.get(row) ?? 0) + 1);
      return { each, row, place: `${row} ${counts.get(row)}`, href: each.getAttribute("href") };
    });
  };
  const focusable = "a, button, summary";
  const before = places(focusable).find(({ each }) => each === document.activeElement);
  const open = new Map(places("details").map(({ each, place }) => [place, each.open]));
  const scrollable = "[tabindex='0']";
  const scrolled = new Map(places(scrollable).map(({ each, place }) => [place, [each.scrollLeft, each.scrollTop]]));
  replaceContent(element, html);
  for (const { each, place } of places("details")) each.open = open.get(place) ?? each.open;
  for (const { each, place } of places(scrollable)) [each.scrollLeft, each.scrollTop] = scrolled.get(place) ?? [0, 0];
  if (!before) return;
  const now = places(focusable);
  const isSame = ({ row, href }) => href && href === before.href && row === before.row;
  (now.find(isSame) ?? now.find(({ place }) => place === before.place))?.each.focus({ preventScroll: true });
}

const BEHAVIOURS = {
  "form[data-keep]": keep, // before those that follow its fields
  "[data-copy]": (button) => copying(button, () => button.dataset.copy),
  "[data-copy-near]": (button) => copying(button, () => button.closest(".code").querySelector("pre").textContent),
  "a[data-dialog]": (anchor) => anchor.addEventListener("click", (event) => openDialog(event, anchor)),
  "[data-fragment]": fragment,
  "a[data-reveal]": reveal,
  "[data-search]": search,
  "[data-check-all]": checkAll,
  "[data-check-group]": checkGroup,
  "[data-choose-all]": chooseAll,
  "details[data-menu]": menu,
  "a[data-copy-from]": copyFrom,
  "[data-count]": count,
  "[data-live]": live,
  "time[data-countdown]": countdown,
  "time[data-moment]": (time) => (time.textContent = exact(new Date(time.dateTime), time.dataset.moment === "ms")),
  "time[data-ago]": (time) => (time.title = exact(new Date(time.dateTime))),
  "[data-clock]": clock,
  "[data-zone-here]": (name) => (name.textContent = zone(new Date())),
  "[data-zone]": zoneOf,
  'input[type="datetime-local"]': localField,
  "[data-from]": moments,
  "form[data-auto]": auto,
  "form[data-auto-choice]": autoChoice,
  "[data-poll]": poll,
  "[data-focus]": (element) => element.focus(),
};

function start(root) {
  for (const [selector, behave] of Object.entries(BEHAVIOURS)) {
    for (const element of root.querySelectorAll(selector)) behave(element);
  }
}

start(document);

// A second click on a button sends nothing: the request of the first one would still be carried out, and its answer lost,
// with the session that a sign-in link began, or a token. If no answer comes, the button works again.
const sending = new WeakMap();
addEventListener("submit", (event) => {
  const [form, button] = [event.target, event.submitter];
  if (event.defaultPrevented || form.getAttribute("method") !== "post") return;
  const before = sending.get(form);
  if (before?.button === button && Date.now() - before.at < ANSWER_MS) return event.preventDefault();
  sending.set(form, { button, at: Date.now() });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const form of document.forms) sending.delete(form);
});

// The notice after a command is shown once: `done` is removed, so that a reload or a bookmark does not repeat it.
const url = new URL(location.href);
if (url.searchParams.has("done")) {
  for (const name of ["done", "saved"]) url.searchParams.delete(name);
  history.replaceState(null, "", url);
}
