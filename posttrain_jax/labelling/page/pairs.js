// Two answers: which is better, by how much, and how it would be better still.

const STRENGTHS = [
  ["significantly", "Significantly better", "1"], ["better", "Better", "2"],
  ["slightly", "Slightly better", "3"], ["negligibly", "Marginally better", "4"],
];

// An editor of one of several texts: each keeps its own draft.
function editor(words, texts) {
  const drafts = [...texts];
  const area = element("textarea", { id: "edit-text", rows: "8", spellcheck: "true" });
  const label = element("label", { for: "edit-text" }, "");
  const reset = element("button", { type: "button" }, "Undo the edit");
  const open = element("button", { type: "button", id: "edit" }, words, " ", kbd("E"));
  const region = element("div", { hidden: true }, label, area, element("div", { class: "actions" }, reset));
  let current = null;
  area.addEventListener("input", () => { drafts[current] = area.value; });
  reset.addEventListener("click", () => { drafts[current] = area.value = texts[current]; region.hidden = true; open.hidden = false; open.focus(); });
  open.addEventListener("click", () => show(true));
  function show(focused) {
    region.hidden = false;
    open.hidden = true;
    if (focused) area.focus();
  }
  return {
    node: element("div", { class: "edit", hidden: true }, open, region),
    // Turns to a text; null for none.
    turn(index, name) {
      current = index;
      this.node.hidden = index === null;
      if (index === null) return;
      area.value = drafts[index];
      label.textContent = `Edit of ${name}`;
      const changed = drafts[index] !== texts[index];
      region.hidden = !changed;
      open.hidden = changed;
    },
    open() { if (current !== null) show(true); },
    value() { return current === null || drafts[current] === texts[current] ? null : drafts[current]; },
    set(index, text) { if (text !== null) drafts[index] = text; },
  };
}

function answerCard(name, text) {
  const id = `answer-${name.replace(/\W/g, "")}`;
  return element("section", { class: "card", "aria-labelledby": id }, element("h3", { id }, name), textBlock(text));
}

const pairs = {
  title: "Which answer is better?",
  keys: (study) => [
    ["A or ←", "Answer A is better"], ["B or →", "Answer B is better"],
    ...(study.ties ? [["T", "They are about the same"]] : []),
    ["1 2 3 4", "By how much: significantly, better, slightly, marginally"],
    ...(study.edits ? [["E", "Edit the better answer"]] : []),
  ],

  build(fields, view, study) {
    this.study = study;
    this.cards = view.answers.map((text, i) => answerCard(`Answer ${"AB"[i]}`, text));
    this.editor = editor("Edit the better answer", view.answers);
    const sides = [["0", "Answer A", "A"], ["1", "Answer B", "B"]];
    if (study.ties) sides.splice(1, 0, ["same", "About the same", "T"]);
    this.strengths = radios("strength", "By how much?", STRENGTHS, () => {});
    fields.append(
      element("div", { class: "answers" }, ...this.cards),
      radios("better", "Which answer is better?", sides, () => this.chosen()), this.strengths);
    if (study.edits) fields.append(this.editor.node);
    if (view.before && !view.before.skipped) {
      const { better, strength, edited } = view.before;
      if (better !== null) this.editor.set(better, edited);
      check("better", better === null ? "same" : better);
      if (strength) check("strength", strength);
    }
  },

  chosen() {
    const better = checkedValue("better");
    this.cards.forEach((card, i) => card.classList.toggle("preferred", better === String(i)));
    this.strengths.hidden = better === "same";
    this.editor.turn(better === "same" ? null : Number(better), `answer ${"AB"[better]}`);
  },

  read() {
    const better = checkedValue("better");
    if (better === null) throw new Error(this.study.ties ? "Say which answer is better, or that they are about the same." : "Say which answer is better.");
    if (better === "same") return { better: null, strength: null, edited: null };
    const strength = checkedValue("strength");
    if (strength === null) throw new Error("Say by how much it is better.");
    return { better: Number(better), strength, edited: this.editor.value() };
  },

  key(key) {
    const side = { a: "0", arrowleft: "0", b: "1", arrowright: "1", t: "same" }[key];
    if (side !== undefined) check("better", side);
    else if ("1234".includes(key)) check("strength", STRENGTHS[Number(key) - 1][0]);
    else if (key === "e") this.editor.open();
    else return false;
    return true;
  },
};
