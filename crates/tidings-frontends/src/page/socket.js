// The hub over a WebSocket, behind the same shape as a stream: calls `on.open`, `on.update`,
// `on.waiting` and `on.refused` and returns a function that closes the socket. Comes back by itself
// where it stopped. Knows nothing of the page.

const RETRY_FIRST_MS = 1000;
const RETRY_MOST_MS = 30000;
const NAME = "page";

/** What an update carries, as text. */
function text({ data, data_base64: coded }) {
  return data ?? `${Math.floor((coded.length * 3) / 4)} bytes, in base64: ${coded}`;
}

/** Subscribes to `matchers` from `start` on: "now", "earliest" or a cursor. */
export function openSocket({ url, token, matchers, start, on }) {
  let socket = null;
  let timer = null;
  let closed = false;
  let failures = 0;
  let retry = RETRY_FIRST_MS;
  // Where the client is, once the subscription stands: what follows is behind it.
  let place = "";
  let subscribed = false;
  let replaying = false;

  const say = (command) => socket.send(JSON.stringify(command));
  const refuse = (why) => { close(); on.refused(why); };

  function subscribe() {
    const behind = place || start;
    const begin = behind === "now" || behind === "earliest" ? behind : { after: behind };
    say({ op: "subscribe", ref: 2, name: NAME, matchers, start: begin });
  }

  function take(message) {
    if (message.op === "replaying") replaying = true;
    if (message.op === "live") replaying = false;
    if (message.op === "hello") {
      if (token) say({ op: "authenticate", ref: 1, token });
      subscribe();
    } else if (message.op === "subscribed") {
      subscribed = true;
      failures = 0;
      on.open({ cursor: message.cursor });
    } else if (message.op === "update") {
      on.update({ id: message.id, type: message.type ?? "", data: text(message) });
    } else if (message.op === "error") {
      refuse(`${message.code}: ${message.reason}`);
    } else if (message.op === "end") {
      retry = message.retry ?? RETRY_FIRST_MS;
    }
    if (subscribed && !replaying && message.cursor) place = message.cursor;
  }

  function connect() {
    socket = new WebSocket(url, "tidings.v1.json");
    subscribed = false;
    replaying = false;
    socket.addEventListener("message", (event) => { if (!closed) take(JSON.parse(event.data)); });
    socket.addEventListener("close", (event) => {
      if (closed) return;
      const wait = Math.min(retry * 2 ** failures, Math.max(retry, RETRY_MOST_MS));
      failures += 1;
      on.waiting(event.reason || "the socket closed", wait);
      timer = setTimeout(connect, wait);
    });
  }

  function close() {
    closed = true;
    clearTimeout(timer);
    socket.close();
  }

  connect();
  return close;
}
