// What is asked of the server.

// The token comes in the address, behind "#token=", which browsers do not send; it is taken out of the address.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

async function ask(path, body, signal) {
  for (;;) {
    const headers = { "Content-Type": "application/json" };
    const token = sessionStorage.getItem("token");
    if (token) headers.Authorization = `Bearer ${token}`;
    const method = body === undefined ? "GET" : "POST";
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
    if (response.status !== 401) {
      if (!response.ok) throw new Error(await problemOf(response));
      return response;
    }
    await askForToken(token ? "This token is not accepted." : "This server asks for a token.");
  }
}

async function problemOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

let asking = null; // one question for the token at a time
function askForToken(why) {
  asking ??= new Promise((resolve) => {
    const login = document.getElementById("login");
    document.getElementById("login_said").textContent = why;
    document.getElementById("token").value = "";
    login.addEventListener("close", () => {
      sessionStorage.setItem("token", document.getElementById("token").value.trim());
      asking = null;
      resolve();
    }, { once: true });
    login.showModal();
  });
  return asking;
}

// Asks a model and tells of each piece. Returns {text, version, ended}; a stop by the user is no error.
async function stream(request, signal, tell) {
  let text = "", version = null, ended = null;
  try {
    const response = await ask("/v1/chat/completions", { ...request, stream: true }, signal);
    for await (const chunk of chunksOf(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      version = chunk.system_fingerprint ?? version;
      const choice = chunk.choices?.[0];
      text += choice?.delta?.content ?? "";
      ended = choice?.finish_reason ?? ended;
      tell(text);
    }
    if (ended === null) throw new Error("the connection ended before the answer did");
  } catch (error) {
    if (!signal.aborted) return { text, version, problem: error.message };
    return { text, version, ended: "stopped" };
  }
  return { text, version, ended };
}

async function* chunksOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (held + (value ?? "")).split("\n");
    held = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
    if (done) return;
  }
}
