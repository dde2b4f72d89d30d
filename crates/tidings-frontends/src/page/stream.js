// Server-Sent Events, by fetch and by EventSource, behind one shape: both call `on.open`,
// `on.update`, `on.waiting` and `on.refused` and return a function that closes the stream.
// Knows nothing of the page.

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;

/** Takes the bytes of a stream apart as the HTML standard says, in whatever pieces they come. */
export class EventParser {
  #rest = "";
  #afterReturn = false;
  #atStart = true;
  #data = [];
  #type = "";
  #lastId = "";

  constructor(onUpdate, onRetry) {
    this.onUpdate = onUpdate;
    this.onRetry = onRetry;
  }

  feed(text) {
    if (text === "") return;
    if (this.#atStart) {
      this.#atStart = false;
      if (text.startsWith("\ufeff")) text = text.slice(1);
    }
    // A CR ended the last piece: an LF that follows belongs to the same line end.
    if (this.#afterReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterReturn = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#lastId = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.onRetry(Number(value));
  }

  #dispatch() {
    const update = { id: this.#lastId, type: this.#type, data: this.#data.join("\n") };
    const complete = this.#data.length > 0;
    this.#data = [];
    this.#type = "";
    if (complete) this.onUpdate(update);
  }
}

/** What a refusal says: the detail of its problem document, or its text. */
export async function explain(response) {
  const text = (await response.text().catch(() => "")).trim();
  const status = `${response.status} ${response.statusText}`.trim();
  if (/^application\/(problem\+)?json/.test(response.headers.get("content-type") ?? "")) {
    try {
      const problem = JSON.parse(text);
      const words = [problem.title, problem.detail].filter((word) => typeof word === "string");
      if (words.length > 0) return `${response.status} ${words.join(": ")}`;
    } catch {
      // Not JSON after all: the text itself has to do.
    }
  }
  return text === "" || status.includes(text) ? status : `${status}: ${text.slice(0, 300)}`;
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

async function readAll(response, parser) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parser.feed(decoder.decode(value, { stream: true }));
  }
}

/** Subscribes by fetch, which can send a token in a header and sees every type and status. */
export function openByFetch({ url, token, cursor, on }) {
  const abort = new AbortController();
  const { signal } = abort;
  let retry = RETRY_FIRST_MS;
  let failures = 0;
  let last = cursor;

  async function once() {
    const headers = { Accept: "text/event-stream" };
    if (token) headers.Authorization = `Bearer ${token}`;
    let target = url;
    // A header made by fetch carries Latin-1 only; the query carries every id.
    if (/^[\x20-\x7e]+$/.test(last)) headers["Last-Event-ID"] = last;
    else if (last) target += `&last_event_id=${encodeURIComponent(last)}`;
    const response = await fetch(target, { headers, signal, cache: "no-store" });
    if (response.status >= 500 || response.status === 429) {
      const seconds = Number(response.headers.get("retry-after"));
      return { why: await explain(response), after: seconds * 1000 };
    }
    if (response.status !== 200) return { refused: await explain(response) };
    failures = 0;
    on.open({ cursor: response.headers.get("mercure-last-event-id") ?? "" });
    const update = (it) => { last = it.id || last; on.update(it); };
    await readAll(response, new EventParser(update, (value) => { retry = value; }));
    return { why: "the hub closed the stream" };
  }

  (async () => {
    while (!signal.aborted) {
      const end = await once().catch((error) => ({ why: error.message }));
      if (signal.aborted) return;
      if (end.refused) return on.refused(end.refused);
      const wait = end.after || Math.min(retry * 2 ** failures, Math.max(retry, RETRY_MOST_MS));
      failures += 1;
      on.waiting(end.why, wait);
      await pause(wait, signal);
    }
  })();
  return () => abort.abort();
}

/** Subscribes by the browser's EventSource. A token has to be in the URL already. */
export function openByEventSource({ url, types, on }) {
  const source = new EventSource(url);
  const take = (event) => on.update({
    id: event.lastEventId,
    type: event.type === "message" ? "" : event.type,
    data: event.data,
  });
  for (const type of new Set(["message", ...types])) source.addEventListener(type, take);
  source.addEventListener("open", () => on.open({ cursor: "" }));
  source.addEventListener("error", (event) => {
    // A type named "error" arrives here, too: as a MessageEvent.
    if (event instanceof MessageEvent) return;
    if (source.readyState === EventSource.CLOSED) {
      on.refused("the hub refused; EventSource does not say why, fetch does");
    } else {
      on.waiting("the stream ended", null);
    }
  });
  return () => source.close();
}
