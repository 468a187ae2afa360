// What a person says of answers.

let storesFeedback = false;
let client = sessionStorage.getItem("client"); // a random name of this session of the browser
if (!client) {
  client = randomName();
  sessionStorage.setItem("client", client);
}

// Stores what is said. Sent again after a failure it has the same id, so that it is stored once.
async function tellServer(said) {
  await ask("/feedback", { client, ...said });
}

function answerOf(card) {
  return { text: card.text, model: card.model, version: card.version, sampling: card.sampling };
}

// Makes buttons of which one is chosen. `store` gets its value; a failure is shown, and another try is possible.
// They are never disabled, which would take the focus away.
function choices(label, names, store) {
  const group = make("div", { className: "row", role: "group", "aria-label": label });
  const done = make("span", { className: "said", role: "status" });
  const id = randomName();
  let open = true;
  const setOpen = (value) => {
    open = value;
    buttons.forEach((each) => each.setAttribute("aria-disabled", String(!value)));
  };
  const buttons = names.map(([name, value, title]) => {
    const button = make("button", { type: "button", "aria-pressed": "false" }, name);
    if (title) button.setAttribute("aria-label", title);
    button.addEventListener("click", async () => {
      if (!open) return;
      setOpen(false);
      try {
        await store(value, id);
        button.setAttribute("aria-pressed", "true");
        done.textContent = storesFeedback ? "Stored, thank you" : "";
        showProblem("");
      } catch (error) {
        setOpen(true);
        showProblem(`Not stored: ${error.message}`);
      }
    });
    return button;
  });
  group.append(...buttons, done);
  return group;
}

function thumbs(card) {
  const names = [["Good", true, "Good answer"], ["Bad", false, "Bad answer"]];
  return choices("Rate the answer", names, (up, id) =>
    tellServer({ kind: "thumb", id, prompt: card.prompt, answer: answerOf(card), up }));
}

// Adds a button that lets the answer be edited. The conversation goes on from the edited text.
function editing(card) {
  const button = make("button", { type: "button" }, "Edit");
  button.addEventListener("click", () => {
    const name = `edit-${randomName()}`;
    const field = make("textarea", { id: name, rows: 6, value: card.kept });
    const save = make("button", { type: "button", className: "main" }, "Save edit");
    const cancel = make("button", { type: "button" }, "Cancel");
    const form = make("div", {}, make("label", { htmlFor: name }, "Edited answer"), field);
    form.append(make("div", { className: "row" }, save, cancel));
    const close = () => { form.remove(); button.hidden = false; button.focus(); };
    const id = randomName();
    cancel.addEventListener("click", close);
    field.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } });
    save.addEventListener("click", async () => {
      if (field.value === card.text || !field.value.trim()) {
        showProblem("The edited answer is empty, or as it was.");
        return;
      }
      save.disabled = true;
      try {
        await tellServer({ kind: "edit", id, prompt: card.prompt, answer: answerOf(card), edited: field.value });
        card.keep(field.value);
        showProblem("");
        close();
        button.textContent = "Edit again";
        button.after(make("span", { className: "said", role: "status" }, "Edit stored"));
      } catch (error) {
        save.disabled = false;
        showProblem(`Not stored: ${error.message}`);
      }
    });
    button.hidden = true;
    card.element.append(form);
    field.focus();
    form.scrollIntoView({ block: "nearest" });
  });
  return button;
}
