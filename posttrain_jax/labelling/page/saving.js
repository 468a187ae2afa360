// Talks to the server until it has answered, so that what a rater says is stored once.

let identity = {}; // headers that say who rates

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });

// Sends a request again and again while the server does not answer or has no room. The body is the same each time: its
// event has a name, by which the server knows it.
async function ask(method, path, body) {
  const headers = { ...identity, ...(body ? { "Content-Type": "application/json" } : {}) };
  for (let attempt = 0; ; attempt += 1) {
    let answer = null;
    try {
      answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
    } catch { /* no connection */ }
    if (answer && answer.status !== 429 && answer.status < 500) {
      trouble(null);
      const content = await answer.json().catch(() => null);
      if (answer.ok && content) return content;
      throw new Refused(answer.status, content && content.error ? content.error.message : `error ${answer.status}`);
    }
    trouble(answer ? "The server cannot save now. Trying again; please keep this page open." : "The server does not answer. Trying again; please keep this page open.");
    await pause(Math.min(8, 0.5 * 2 ** attempt));
  }
}

function eventName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function trouble(words) {
  $("trouble").hidden = words === null;
  if (words !== null && $("trouble").textContent !== words) $("trouble").textContent = words;
}

// A browser may refuse to keep anything, which is no reason to stop.
function keep(name, value) {
  try { sessionStorage.setItem(name, value); } catch { /* not kept */ }
}

function kept(name) {
  try { return sessionStorage.getItem(name) || ""; } catch { return ""; }
}

// Says something to those who cannot see it.
function announce(words) {
  $("status").textContent = words;
}
