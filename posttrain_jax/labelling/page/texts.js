// Makes elements, and shows texts that nobody can trust.

const $ = (name) => document.getElementById(name);

// Characters that are not seen, or that change the order of those around them, are shown by their number.
const UNSEEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u00AD\u200B\u200E\u200F\u202A-\u202E\u2060-\u2069\uFEFF]/;
const FOLDED = 20000; // characters that are shown at first

// Returns a new element. Text becomes text: nothing here is ever read as HTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function kbd(key) {
  return element("kbd", { "aria-hidden": "true" }, key);
}

// Returns a block that shows a text; a long one is folded.
function textBlock(text, attributes = {}) {
  const block = element("div", { class: "text", dir: "auto", ...attributes });
  const fill = (shown) => block.replaceChildren(...pieces(shown));
  if (text.length <= FOLDED) {
    fill(text);
    return element("div", {}, block);
  }
  fill(text.slice(0, FOLDED) + " …");
  const more = element("button", { type: "button", class: "more" }, `Show all ${text.length.toLocaleString("en")} characters`);
  more.addEventListener("click", () => {
    fill(text);
    more.remove();
  });
  return element("div", {}, block, more);
}

function pieces(text) {
  return text.split(new RegExp(`(${UNSEEN.source})`)).filter(Boolean).map((piece) => {
    if (!UNSEEN.test(piece)) return piece;
    const code = piece.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return element("span", { class: "sign", title: "A character that is not seen" }, `U+${code}`);
  });
}

// Returns a group of radio buttons: choices are [value, words, key].
function radios(name, legend, choices, changed) {
  const labels = choices.map(([value, words, key]) =>
    element("label", { class: "choice" },
      element("input", { type: "radio", name, value, onchange: changed }), element("span", {}, words), kbd(key)));
  return element("fieldset", { id: `${name}-group` }, element("legend", {}, legend), element("div", { class: "choices" }, ...labels));
}

function checkedValue(name) {
  const found = document.querySelector(`input[name="${name}"]:checked`);
  return found ? found.value : null;
}

function check(name, value) {
  const found = document.querySelector(`input[name="${name}"][value="${value}"]`);
  if (!found || found.disabled) return;
  found.checked = true;
  found.dispatchEvent(new Event("change", { bubbles: true }));
}

function prompt(turns) {
  if (turns.length === 1) return [textBlock(turns[0].text)];
  return turns.map((turn) => element("div", { class: "turn" }, element("h4", {}, turn.role), textBlock(turn.text)));
}
