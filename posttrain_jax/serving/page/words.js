// How words of models and people are put into the page: as text, never as HTML.

const THOUGHT = ["<think>", "</think>"];
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

// Shows control characters and changes of the writing direction by their codes, as they could make a text lie.
function visible(text) {
  return text.replace(UNSEEN, (letter) => `⟨U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

// Splits an answer at its last end of a thought. A thought without an end is all of the text so far.
function splitThought(text) {
  const end = text.lastIndexOf(THOUGHT[1]);
  const without = (part) => (part.trimStart().startsWith(THOUGHT[0]) ? part.trimStart().slice(THOUGHT[0].length) : part);
  if (end >= 0) return { thought: without(text.slice(0, end)).trim(), said: text.slice(end + THOUGHT[1].length).trimStart() };
  if (text.trimStart().startsWith(THOUGHT[0])) return { thought: without(text).trim(), said: "" };
  return { thought: "", said: text };
}

// Makes an element; children are elements or text.
function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.startsWith("aria-")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function randomBelow(limit) {
  return crypto.getRandomValues(new Uint32Array(1))[0] % limit;
}
