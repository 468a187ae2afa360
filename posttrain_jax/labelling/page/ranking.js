// K answers in an order, from the best to the worst: by buttons, by keys, or by dragging.

const ranking = {
  title: "Put the answers into order, the best first",
  keys: (study) => [
    ["A to H", "Go to this answer"], ["↑ ↓", "Move the answer up or down"], ["1 to 9", "Move it to this place"],
    ...(study.ties ? [["=", "It is about as good as the one above, or no longer"]] : []),
  ],

  build(fields, view, study) {
    this.study = study;
    const order = view.answers.map((_, i) => i);
    const before = view.before && !view.before.skipped ? view.before.ranks : null;
    if (before) order.sort((i, j) => before[i] - before[j]);
    this.list = element("ol", { class: "ranking", "aria-label": "Answers, the best first" });
    this.list.append(...order.map((i) => this.entry(i, view.answers[i])));
    if (before) {
      [...this.list.children].forEach((li, place) => {
        if (place && study.ties) this.tie(li).checked = before[order[place]] === before[order[place - 1]];
      });
    }
    this.list.addEventListener("dragover", (event) => this.dragOver(event));
    this.list.addEventListener("drop", (event) => event.preventDefault());
    fields.append(
      element("p", { class: "note", id: "how" }, "Drag an answer by its grip, use its arrows, or press its letter and then ↑ or ↓."), this.list);
    this.number();
  },

  entry(index, text) {
    const name = `Answer ${letter(index)}`;
    const li = element("li", { class: "card", "data-answer": index });
    const grip = element("span", { class: "grip", draggable: "true", "aria-hidden": "true", title: "Drag" }, "⠿");
    grip.addEventListener("dragstart", (event) => {
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", name);
      this.dragged = li;
      li.classList.add("dragged");
    });
    grip.addEventListener("dragend", () => {
      li.classList.remove("dragged");
      this.dragged = null;
      this.number(li);
    });
    const move = (step, words, sign) =>
      element("button", { type: "button", "aria-label": `${name}: ${words}`, "data-step": step, onclick: () => this.move(li, step) }, sign);
    const buttons = element("span", { class: "buttons" });
    if (this.study.ties) {
      const box = element("input", { type: "checkbox", onchange: () => this.number(li) });
      buttons.append(element("label", { class: "tie" }, box, " about as good as the one above"));
    }
    buttons.append(move(-1, "up", "↑"), move(1, "down", "↓"));
    const place = element("span", { class: "place" });
    const handle = element("button", { type: "button", class: "handle", "aria-describedby": "how" }, place);
    li.append(element("div", { class: "bar" }, grip, handle, buttons), textBlock(text, { tabindex: "0", role: "region", "aria-label": `Text of ${name.toLowerCase()}` }));
    return li;
  },

  tie: (li) => li.querySelector(".tie input"),

  move(li, step) {
    const others = [...this.list.children];
    const target = others[others.indexOf(li) + step];
    if (!target) return;
    const focused = document.activeElement;
    if (step < 0) target.before(li);
    else target.after(li);
    this.number(li);
    // A button that is disabled at an end loses the focus, which a moved element loses, too.
    (focused && li.contains(focused) && !focused.disabled ? focused : li.querySelector(".handle")).focus();
  },

  dragOver(event) {
    if (!this.dragged) return;
    event.preventDefault();
    const over = event.target.closest("li");
    if (!over || over === this.dragged) return;
    const box = over.getBoundingClientRect();
    if (event.clientY < box.top + box.height / 2) over.before(this.dragged);
    else over.after(this.dragged);
  },

  // Writes the places anew, and says where an answer is now.
  number(moved) {
    const entries = [...this.list.children];
    const ranks = this.ranks();
    entries.forEach((li, at) => {
      const name = `Answer ${letter(Number(li.dataset.answer))}`;
      li.querySelector(".place").textContent = `${ranks[at] + 1}. ${name}`;
      li.querySelector("[data-step='-1']").disabled = at === 0;
      li.querySelector("[data-step='1']").disabled = at === entries.length - 1;
      if (this.study.ties) {
        li.querySelector(".tie").hidden = at === 0;
        if (at === 0) this.tie(li).checked = false;
        li.classList.toggle("tied", this.tie(li).checked);
      }
    });
    if (moved) announce(`Answer ${letter(Number(moved.dataset.answer))} has rank ${ranks[entries.indexOf(moved)] + 1} of ${entries.length}`);
  },

  // Returns the rank of each entry in the list's order.
  ranks() {
    let rank = -1;
    return [...this.list.children].map((li, at) => {
      const tied = this.study.ties && at > 0 && this.tie(li).checked;
      rank += tied ? 0 : 1;
      return rank;
    });
  },

  read() {
    const ranks = [];
    const found = this.ranks();
    [...this.list.children].forEach((li, at) => { ranks[Number(li.dataset.answer)] = found[at]; });
    return { ranks };
  },

  key(key) {
    const entries = [...this.list.children];
    // Further letters are other keys of the page.
    const asked = entries.find((li) => Number(li.dataset.answer) < 8 && key === letter(Number(li.dataset.answer)).toLowerCase());
    const current = document.activeElement && document.activeElement.closest(".ranking li");
    if (asked) asked.querySelector(".handle").focus();
    else if (!current) return false;
    else if (key === "arrowup") this.move(current, -1);
    else if (key === "arrowdown") this.move(current, 1);
    else if (key === "=" && this.study.ties && entries.indexOf(current)) {
      this.tie(current).checked = !this.tie(current).checked;
      this.number(current);
    } else if (/^[1-9]$/.test(key) && Number(key) <= entries.length) {
      while (entries.indexOf(current) !== Number(key) - 1) {
        this.move(current, Math.sign(Number(key) - 1 - entries.indexOf(current)));
        entries.splice(0, entries.length, ...this.list.children);
      }
    } else return false;
    return true;
  },
};

function letter(index) {
  return String.fromCharCode(65 + index);
}
