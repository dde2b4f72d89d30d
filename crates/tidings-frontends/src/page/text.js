// What the page writes: indented JSON, shell words, numbers. Knows neither the page nor the hub.

const PRETTY_CHARACTERS_MAX = 100_000;
const PRETTY_DEPTH_MAX = 40;

/** One argument of a POSIX shell, whatever is in it. */
export function shellWord(text) {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function isDocument(text) {
  if (text.length > PRETTY_CHARACTERS_MAX || !/^\s*[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Indents JSON without touching a token of it: `JSON.stringify(JSON.parse(text))` would round
 * large numbers and rewrite escapes, and a debugging page must show what was sent.
 */
export function pretty(text) {
  if (!isDocument(text)) return text;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g) ?? [];
  let depth = 0;
  let out = "";
  tokens.forEach((token, index) => {
    const opens = token === "{" || token === "[";
    const closes = token === "}" || token === "]";
    const before = tokens[index - 1];
    if (closes) depth -= 1;
    const empty = closes && (before === "{" || before === "[");
    const first = before === "{" || before === "[" || before === ",";
    if (index > 0 && !empty && (first || closes)) out += `\n${"  ".repeat(depth)}`;
    out += token === ":" ? ": " : token;
    if (opens) depth += 1;
    if (depth > PRETTY_DEPTH_MAX) depth = PRETTY_DEPTH_MAX;
  });
  return out;
}

/** The time of day with milliseconds, as the reader's clock shows it. */
export function clockTime(date) {
  const two = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Lines that say something. */
export function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
