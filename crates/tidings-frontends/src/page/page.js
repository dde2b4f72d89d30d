// The page of `tidings dev`: two forms, the updates that arrive, and the same as terminal lines.
// Text from outside is only ever put in place as text, never as markup.

import { openSocket } from "/socket.js";
import { explain, openByEventSource, openByFetch } from "/stream.js";
import { clockTime, lines, pretty, shellWord } from "/text.js";

/** Updates that stay on the page; the oldest leave first. */
const UPDATES_MAX = 300;
/** Characters of one update that are shown; copying takes all of it. */
const SHOWN_CHARACTERS_MAX = 100_000;

const at = (id) => document.getElementById(id);
/** The language that a kind of patterns has in messages. */
const LANGUAGES = {
  all: "exact", match: "exact", match_urlpattern: "urlpattern", topic: "uritemplate",
};
const setup = { hub_path: "/.well-known/mercure", socket_path: null, token: "", draft_token: "", version: "" };
let close = null;
let closeSocket = null;
let beside = false;
let received = 0;
let unannounced = 0;
let ownToken = true;

const hubUrl = () => location.origin + setup.hub_path;
/** Selectors by `topic=`, and tokens in a URL, belong to the older generation. */
const isDraft = () => at("kind").value === "topic" || tokenInUrl();
const tokenInUrl = () => at("how").value === "eventsource" && at("who").value === "token";
const tokenFor = (draft) =>
  ownToken ? (draft ? setup.draft_token : setup.token) : at("token").value.trim();

/** The subscription that the form describes. */
function wanted() {
  const kind = at("kind").value;
  const draft = isDraft();
  const name = draft ? "topic" : kind === "all" ? "match" : kind;
  const patterns = kind === "all" ? ["*"] : lines(at("patterns").value);
  const query = patterns.map((pattern) => `${name}=${encodeURIComponent(pattern)}`);
  const start = at("start").value;
  const cursor = start === "after" ? at("cursor").value : start === "earliest" ? "earliest" : "";
  const token = at("who").value === "token" ? tokenFor(draft) : "";
  const matchers = patterns.map((pattern) => ({ match: pattern, match_type: LANGUAGES[kind] }));
  return { patterns, matchers, query, cursor, token, draft, byFetch: at("how").value === "fetch" };
}

/** Everything in the URL, as EventSource needs it. */
function wholeUrl({ query, cursor, token, draft }) {
  const all = [...query];
  const cursorName = draft ? "lastEventID" : "last_event_id";
  if (cursor) all.push(`${cursorName}=${encodeURIComponent(cursor)}`);
  if (token) all.push(`authorization=${encodeURIComponent(token)}`);
  return `${hubUrl()}?${all.join("&")}`;
}

function showState(state, text) {
  at("state").dataset.state = state;
  at("state-text").textContent = text;
  at("disconnect").disabled = close === null;
  at("connect").textContent = close === null ? "Subscribe" : "Subscribe anew";
}

function showSocketState(state, text) {
  at("socket-state").dataset.state = state;
  at("socket-state-text").textContent = text;
}

function disconnect() {
  close?.();
  closeSocket?.();
  close = null;
  closeSocket = null;
  showSocketState("idle", "Not connected");
  showState("idle", "Not connected");
}

function subscribe() {
  const want = wanted();
  if (want.patterns.length === 0) return at("patterns").reportValidity();
  disconnect();
  const url = `${hubUrl()}?${want.query.join("&")}`;
  at("request").textContent = `GET ${url.slice(location.origin.length)}`;
  const on = {
    open: ({ cursor }) => {
      if (cursor) at("last").textContent = cursor;
      showState("live", "Connected");
    },
    update: addUpdate,
    waiting: (why, milliseconds) => {
      const when = milliseconds === null ? "" : ` in ${Math.ceil(milliseconds / 1000)} s`;
      showState("waiting", `Reconnecting${when}: ${why}`);
    },
    refused: (why) => {
      close = null;
      showState("refused", `Refused: ${why}`);
    },
  };
  const types = at("types").value.split(/\s+/).filter(Boolean);
  close = want.byFetch
    ? openByFetch({ url, token: want.token, cursor: want.cursor, on })
    : openByEventSource({ url: wholeUrl(want), types, on });
  showState("waiting", "Connecting");
  if (beside) subscribeBeside(want);
}

/** The same subscription over a WebSocket. */
function subscribeBeside({ matchers, cursor, token }) {
  const url = location.origin.replace(/^http/, "ws") + setup.socket_path;
  const on = {
    open: () => showSocketState("live", "Connected"),
    update: (update) => {
      if (!isAnnouncement(update)) show(at("socket-list"), update, "of the WebSocket");
    },
    waiting: (why, milliseconds) => {
      showSocketState("waiting", `Reconnecting in ${Math.ceil(milliseconds / 1000)} s: ${why}`);
    },
    refused: (why) => {
      closeSocket = null;
      showSocketState("refused", `Refused: ${why}`);
    },
  };
  // A token of the older generation is for URLs only.
  const shown = token && ownToken ? setup.token : token;
  closeSocket = openSocket({ url, token: shown, matchers, start: cursor || "now", on });
  showSocketState("waiting", "Connecting");
}

/** Shows one protocol, or both: they begin anew, so that both begin at the same place. */
function chooseTab(both) {
  if (both === beside) return;
  beside = both;
  for (const [id, selected] of [["tab-stream", !both], ["tab-socket", both]]) {
    at(id).setAttribute("aria-selected", String(selected));
    at(id).tabIndex = selected ? 0 : -1;
  }
  at("lists").classList.toggle("both", both);
  at("lists").setAttribute("aria-labelledby", both ? "tab-socket" : "tab-stream");
  at("socket").hidden = !both;
  clear();
  subscribe();
}

/** What the hub itself says of its subscribers, in 1.0 or 0.x, is no update. */
const isAnnouncement = ({ type, data }) =>
  type === "mercure" || data.startsWith('{"@context":"https://mercure.rocks/",');

function addUpdate({ id, type, data }) {
  if (id) at("last").textContent = id;
  if (isAnnouncement({ type, data })) return;
  const number = (received += 1);
  show(at("list"), { id, type, data }, String(number));
  at("count").textContent = received.toLocaleString("en");
  at("empty").hidden = true;
  at("clear").disabled = false;
  announce();
}

/** Puts an update at the beginning of a list. */
function show(list, { id, type, data }, number) {
  const now = new Date();
  const item = at("update").content.cloneNode(true);
  const shown = pretty(data);
  const cut = shown.length > SHOWN_CHARACTERS_MAX;
  item.querySelector("time").textContent = clockTime(now);
  item.querySelector("time").dateTime = now.toISOString();
  item.querySelector(".type").textContent = type;
  item.querySelector(".id").textContent = id;
  item.querySelector(".data").textContent = cut
    ? `${shown.slice(0, SHOWN_CHARACTERS_MAX)}\n… and ${shown.length - SHOWN_CHARACTERS_MAX} more`
    : shown;
  item.querySelector("pre").setAttribute("aria-label", `Data of update ${number}`);
  const copy = item.querySelector(".copy-data");
  copy.setAttribute("aria-label", `Copy the data of update ${number}`);
  copy.addEventListener("click", () => copyText(copy, data));
  item.querySelector("li").classList.add("new");
  list.prepend(item);
  while (list.children.length > UPDATES_MAX) list.lastElementChild.remove();
}

/** Tells screen readers how many arrived, at most every two seconds. */
function announce() {
  unannounced += 1;
  if (unannounced > 1) return;
  setTimeout(() => {
    const many = `${unannounced} updates arrived`;
    at("announce").textContent = unannounced === 1 ? "One update arrived" : many;
    unannounced = 0;
  }, 2000);
}

function clear() {
  at("list").replaceChildren();
  at("socket-list").replaceChildren();
  received = 0;
  at("count").textContent = "0";
  at("empty").hidden = false;
  at("clear").disabled = true;
}

/** The fields of the publish form as pairs, in the order in which publishers send them. */
function fields() {
  const pairs = lines(at("topic").value).map((topic) => ["topic", topic]);
  pairs.push(["data", at("data").value]);
  if (at("private").checked) pairs.push(["private", "on"]);
  for (const name of ["id", "type"]) {
    if (at(name).value !== "") pairs.push([name, at(name).value]);
  }
  return pairs;
}

function showReceipt(kind, text) {
  at("receipt").dataset.kind = kind;
  at("receipt").textContent = text;
}

async function publish() {
  const headers = {};
  const token = tokenFor(false);
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const body = new URLSearchParams(fields());
    const response = await fetch(hubUrl(), { method: "POST", headers, body });
    if (!response.ok) return showReceipt("bad", await explain(response));
    const durability = /durability=([a-z]+)/.exec(response.headers.get("tidings-receipt") ?? "");
    const how = durability === null ? "" : ` (${durability[1]})`;
    return showReceipt("good", `Stored${how}: ${await response.text()}`);
  } catch (error) {
    return showReceipt("bad", `The hub did not answer: ${error.message}`);
  }
}

function showLines() {
  const want = wanted();
  const parts = ["curl -N"];
  const header = (name, value) => parts.push(`-H ${shellWord(`${name}: ${value}`)}`);
  if (want.byFetch && want.token) header("Authorization", `Bearer ${want.token}`);
  if (want.byFetch && want.cursor) header("Last-Event-ID", want.cursor);
  const url = want.byFetch ? `${hubUrl()}?${want.query.join("&")}` : wholeUrl(want);
  at("curl-subscribe").textContent = `${parts.join(" ")} ${shellWord(url)}`;
  const token = tokenFor(false);
  const bearer = token ? ` -H ${shellWord(`Authorization: Bearer ${token}`)}` : "";
  const form = fields().map((pair) => ` --data-urlencode ${shellWord(pair.join("="))}`).join("");
  at("curl-publish").textContent = `curl${bearer}${form} ${shellWord(hubUrl())}`;
}

const HINTS = {
  match: ["https://example.com/books/1", "Byte for byte."],
  match_urlpattern: ["https://example.com/books/:id", "Relative ones belong to the hub's URL."],
  topic: ["https://example.com/books/{id}", "A topic, a URI Template (RFC 6570) or *."],
};

function showFields() {
  const kind = at("kind").value;
  at("patterns-field").hidden = kind === "all";
  at("patterns").required = kind !== "all";
  if (HINTS[kind]) [at("patterns").placeholder, at("patterns-hint").textContent] = HINTS[kind];
  at("cursor-field").hidden = at("start").value !== "after";
  const native = at("how").value === "eventsource";
  at("types-field").hidden = !native;
  at("how-hint").hidden = !native;
  at("how-hint").textContent = at("who").value === "token"
    ? "It cannot send a header, so the token goes into the URL: a way of Mercure 0.x."
    : "It reconnects by itself and sends the id of the last update.";
  at("how").setCustomValidity(tokenInUrl() && kind === "match_urlpattern"
    ? "A token in the URL is a way of Mercure 0.x, which has no URL Patterns. Take fetch." : "");
  if (ownToken) at("token").value = tokenFor(isDraft());
  at("token-hint").textContent = ownToken
    ? `The hub's own, for every topic, in the form of Mercure ${isDraft() ? "0.x" : "1.0"}.`
    : "Yours, sent as it is.";
  showLines();
}

async function copyText(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

function showTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = theme === "dark" ? "Light" : "Dark";
  const other = theme === "dark" ? "light" : "dark";
  at("theme").setAttribute("aria-label", `Switch to ${other} colours`);
}

function chooseTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* Storage may be forbidden. */ }
  const follow = () => showTheme(chosen ?? (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", follow);
  follow();
  at("theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    showTheme(chosen);
    try { localStorage.setItem("theme", chosen); } catch { /* Then it lasts as the page does. */ }
  });
}

function listen() {
  at("subscribe").addEventListener("submit", (event) => { event.preventDefault(); subscribe(); });
  at("publish").addEventListener("submit", (event) => { event.preventDefault(); publish(); });
  at("disconnect").addEventListener("click", disconnect);
  at("clear").addEventListener("click", () => { clear(); at("updates").focus(); });
  for (const [id, both] of [["tab-stream", false], ["tab-socket", true]]) {
    at(id).addEventListener("click", () => chooseTab(both));
  }
  at("tabs").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    chooseTab(!beside);
    at(beside ? "tab-socket" : "tab-stream").focus();
  });
  at("token").addEventListener("input", () => { ownToken = false; });
  at("token-reset").addEventListener("click", () => { ownToken = true; showFields(); });
  for (const kind of ["input", "change"]) document.addEventListener(kind, showFields);
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copyText(button, at(button.dataset.copy).textContent));
  }
  at("data").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("publish").requestSubmit();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => { if (event.persisted) subscribe(); });
}

async function start() {
  chooseTheme();
  listen();
  const answer = await fetch("/.well-known/tidings/dev.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(await explain(answer));
  Object.assign(setup, await answer.json());
  at("hub-url").textContent = hubUrl();
  at("tabs").hidden = !setup.socket_path;
  at("version").textContent = `Tidings ${setup.version}`;
  showFields();
  subscribe();
}

start().catch((error) => showState("refused", `The page could not start: ${error.message}`));
