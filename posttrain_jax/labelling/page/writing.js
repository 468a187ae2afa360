// Writing an answer, and accepting or rejecting one.

const demonstrations = {
  title: "Write the best answer that you can",
  keys: () => [["E", "Go to the text"], ["Esc", "Leave the text"]],

  build(fields, view, study) {
    this.draft = `draft ${view.item}`; // kept until it is saved, so that nothing is lost when the page is reloaded
    const words = element("p", { class: "note", id: "length" });
    this.area = element("textarea", { id: "answer", rows: "10", "aria-describedby": "length", spellcheck: "true" });
    const count = () => { words.textContent = `${this.area.value.length} of at most ${study.most_characters} characters`; };
    this.area.addEventListener("input", () => {
      count();
      keep(this.draft, this.area.value);
    });
    this.area.value = (view.before && view.before.text) || kept(this.draft);
    count();
    fields.append(element("div", { class: "writing" }, element("label", { for: "answer" }, "Your answer"), this.area, words));
  },

  read() {
    if (!this.area.value.trim()) throw new Error("Write an answer.");
    return { text: this.area.value };
  },

  saved() { keep(this.draft, ""); },

  key(key) {
    if (key !== "e") return false;
    this.area.focus();
    return true;
  },
};

const accept = {
  title: "Is this answer good enough to learn from?",
  keys: (study) => [["A", "Accept"], ["R", "Reject"], ...(study.edits ? [["E", "Edit it, and accept it so"]] : [])],

  build(fields, view, study) {
    this.editor = editor("Edit the answer", view.answers);
    fields.append(
      element("div", { class: "answers" }, answerCard("Answer", view.answers[0])),
      radios("accepted", "Accept it?", [["true", "Accept", "A"], ["false", "Reject", "R"]], () => this.chosen()));
    if (study.edits) fields.append(this.editor.node);
    if (view.before && !view.before.skipped) {
      this.editor.set(0, view.before.edited);
      check("accepted", view.before.accepted);
    }
  },

  chosen() { this.editor.turn(checkedValue("accepted") === "true" ? 0 : null, "the answer"); },

  read() {
    const accepted = checkedValue("accepted");
    if (accepted === null) throw new Error("Accept the answer or reject it.");
    return { accepted: accepted === "true", edited: this.editor.value() };
  },

  key(key) {
    if (key === "a") check("accepted", "true");
    else if (key === "r") check("accepted", "false");
    else if (key === "e") {
      check("accepted", "true");
      this.editor.open();
    } else return false;
    return true;
  },
};
