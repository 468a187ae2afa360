// Leads a rater from one item to the next.

const TASKS = { pairs, ranking, demonstrations, accept };
let study = null;
let view = null;
let busy = false;

function show(section) {
  for (const name of ["login", "work", "done"]) $(name).hidden = name !== section;
}

async function begin() {
  study = await ask("GET", "/api/study");
  $("key-rows").replaceChildren(...[...TASKS[study.kind].keys(study),
    ["Enter", "Save and go on"], ["Ctrl+Enter", "The same from within a text"], ["Esc", "Leave a text or a window"],
    ["X", "I cannot say: leave this one out"], ["U", "Undo: back to the last one"],
    ["I", "Instructions"], ["?", "These keys"]].map(([key, words]) =>
    element("tr", {}, element("td", {}, element("kbd", {}, key)), element("td", {}, words))));
  $("save-key").textContent = study.kind === "demonstrations" ? "Ctrl+Enter" : "Enter";
  const given = new URLSearchParams(location.hash.slice(1));
  const only = !study.key_needed && study.raters.length === 1 ? study.raters[0] : null;
  await enter(study.key_needed ? given.get("key") : given.get("rater") || only, "");
}

// Goes on as this rater, or asks who it is.
async function enter(who, problem) {
  if (who) {
    identity = study.key_needed ? { Authorization: `Bearer ${who}` } : { "X-Rater": who };
    try {
      const next = await ask("GET", "/api/next");
      $("rater").textContent = ` as ${next.rater}`;
      $("instructions-text").innerHTML = next.instructions; // rendered by the server, which leaves no HTML in it
      $("show-instructions").hidden = !next.instructions;
      render(next);
      if (next.instructions && next.done === 0) $("instructions").showModal();
      return;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problem = study.key_needed ? "This key is not one of this study." : "This is no rater of this study.";
    }
  }
  const field = study.key_needed
    ? element("input", { type: "text", id: "who", autocomplete: "off", spellcheck: "false" })
    : element("select", { id: "who" }, ...study.raters.map((name) => element("option", {}, name)));
  $("login-fields").replaceChildren(element("label", { for: "who" }, study.key_needed ? "Your key" : "Your name"), field);
  $("login-problem").textContent = problem;
  show("login");
  field.focus();
}

function render(next) {
  view = next;
  $("bar").max = Math.max(view.total, 1);
  $("bar").value = view.done;
  $("count").textContent = `${view.done} of ${view.total}`;
  $("undo").disabled = view.last === null;
  $("problem").textContent = "";
  if (view.item === null) {
    show("done");
    announce("All done, thank you");
  } else {
    $("work-title").textContent = TASKS[study.kind].title;
    $("prompt").replaceChildren(...prompt(view.prompt));
    $("fields").replaceChildren();
    show("work");
    TASKS[study.kind].build($("fields"), view, study);
    announce(`${view.done + 1} of ${view.total}`);
  }
  $("task").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

async function send(path, body, after) {
  if (busy) return;
  busy = true;
  $("save").disabled = true;
  try {
    const next = await ask("POST", path, { event: eventName(), ...body });
    if (after) after();
    render(next);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) await enter(null, "Please say again who you are.");
    else if (error.status === 409) {
      render(await ask("GET", "/api/next"));
      announce("This one was rated already; here is the next.");
    } else complain(error.message);
  } finally {
    busy = false;
    $("save").disabled = false;
  }
}

function complain(words) {
  $("problem").textContent = ""; // so that the same words are said again
  $("problem").textContent = words;
  $("problem").scrollIntoView({ block: "nearest" });
}

function save() {
  if (busy || view === null || view.item === null) return;
  const task = TASKS[study.kind];
  let label = null;
  try {
    label = task.read();
  } catch (error) {
    complain(error.message);
    return;
  }
  send("/api/label", { item: view.item, label }, () => task.saved && task.saved());
}

function skip() {
  if (view && view.item !== null) send("/api/label", { item: view.item, label: { skipped: true } });
}

function undo() {
  if (view && view.last !== null) send("/api/undo", { item: view.last });
}

function onKey(event) {
  const target = event.target;
  const writes = target.matches("textarea, select, input[type='text']");
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && event.ctrlKey) {
    event.preventDefault();
    save();
  } else if (event.key === "Escape" && writes) {
    target.blur();
  } else if (writes || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (event.key === "Enter") {
    // Buttons and links do what they say; a form's own fields submit it themselves.
    if (!target.matches("button:not(.handle), a, input")) {
      event.preventDefault();
      save();
    }
  } else if ($("single-keys").checked && view !== null) {
    const radio = target.matches("input[type='radio']") && event.key.startsWith("Arrow");
    if (!radio && shortcut(event.key.toLowerCase())) event.preventDefault();
  }
}

function shortcut(key) {
  const open = !$("work").hidden;
  if (open && TASKS[study.kind].key(key)) return true;
  if (key === "x" && open) skip();
  else if (key === "u") undo();
  else if (key === "i" && !$("show-instructions").hidden) $("instructions").showModal();
  else if (key === "?") $("keys").showModal();
  else return false;
  return true;
}

$("judgement").addEventListener("submit", (event) => { event.preventDefault(); save(); });
$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const who = $("who").value.trim();
  history.replaceState(null, "", `#${study.key_needed ? "key" : "rater"}=${encodeURIComponent(who)}`);
  enter(who, "");
});
$("judgement").addEventListener("input", () => { $("problem").textContent = ""; });
$("skip").addEventListener("click", skip);
$("undo").addEventListener("click", undo);
$("show-instructions").addEventListener("click", () => $("instructions").showModal());
$("show-keys").addEventListener("click", () => $("keys").showModal());
$("single-keys").checked = kept("single keys") !== "off";
$("single-keys").addEventListener("change", () => keep("single keys", $("single-keys").checked ? "on" : "off"));
document.addEventListener("keydown", onKey);
window.addEventListener("hashchange", () => location.reload()); // another rater's link
begin();
