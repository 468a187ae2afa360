// The conversation: questions, answers, and what is shown of them.

const at = (id) => document.getElementById(id);
const SAME = "\u0000same";
let models = []; // {name, reads_messages, max_tokens}
let turns = []; // {question, kept: () => text}
let running = null; // stops the answers that are being drawn
let voteNeeded = false;

function showProblem(text) { at("problem").textContent = visible(text); }
function showStatus(text) { at("status").textContent = text; }

// Makes the card of one answer.
function makeCard(title, model, prompt, sampling) {
  const thought = make("div", { className: "text", dir: "auto" });
  const fold = make("details", { className: "thought", hidden: true }, make("summary", {}, "Reasoning"), thought);
  const text = make("div", { className: "text", dir: "auto" });
  const name = make("h3", {}, title);
  const element = make("article", { className: "answer" }, name, fold, text);
  const card = { element, model, prompt, sampling, text: "", kept: "", version: null };
  card.show = (whole) => {
    const page = document.documentElement;
    const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 40;
    const parts = splitThought(whole);
    fold.hidden = !parts.thought;
    thought.textContent = visible(parts.thought);
    text.textContent = visible(parts.said);
    card.text = card.kept = whole;
    if (atEnd) page.scrollTop = page.scrollHeight; // follows what is written, unless the reader went back
  };
  card.keep = (edited) => {
    const original = card.text;
    card.show(edited);
    card.text = original;
    card.kept = edited;
  };
  card.reveal = () => { name.textContent = visible(`${title}: ${model}${card.version ? ` (${card.version})` : ""}`); };
  card.note = (message) => element.append(make("p", { className: "note" }, visible(message)));
  return card;
}

function samplingNow() {
  const seed = at("seed").value;
  return {
    temperature: Number(at("temperature").value), top_p: Number(at("top_p").value),
    max_tokens: Number(at("max_tokens").value), seed: seed === "" ? null : Number(seed),
  };
}

// Returns what a model is asked: one without a chat template reads the question alone.
function messagesFor(model, question, before) {
  const asked = { role: "user", content: question };
  if (!models.find((each) => each.name === model).reads_messages) return [asked];
  const system = at("system").value.trim();
  const earlier = before.flatMap((turn) => [
    { role: "user", content: turn.question }, { role: "assistant", content: turn.kept() },
  ]);
  return [...(system ? [{ role: "system", content: system }] : []), ...earlier, asked];
}

// Draws an answer into a card; says whether there is one.
async function draw(card, signal) {
  const request = { model: card.model, messages: card.prompt, ...card.sampling };
  const found = await stream(request, signal, card.show);
  card.version = found.version;
  if (found.problem) card.note(`No whole answer: ${found.problem}`);
  else if (!found.text.trim()) card.note("The answer is empty.");
  else if (found.ended === "length") card.note("Cut off at the longest length.");
  return found.text.trim() !== "" && !found.problem;
}

function makeCards(question, before) {
  const one = at("model").value, rival = at("rival").value;
  const names = rival === "" ? [one] : [one, rival === SAME ? one : rival];
  if (names.length === 2 && randomBelow(2)) names.reverse(); // who is A is drawn, and told after the vote
  const base = samplingNow();
  return names.map((model, place) => {
    const seed = base.seed === null ? randomBelow(2 ** 31) : (base.seed + place) % 2 ** 31;
    const title = names.length === 1 ? "Answer" : `Answer ${"AB"[place]}`;
    return makeCard(title, model, messagesFor(model, question, before), { ...base, seed });
  });
}

async function answer(question, turn, before) {
  const cards = makeCards(question, before);
  const box = make("div", { className: cards.length > 1 ? "answers two" : "answers" }, ...cards.map((each) => each.element));
  turn.element.append(box);
  running = new AbortController();
  updateButtons();
  showStatus(cards.length > 1 ? "Two answers are being written…" : "An answer is being written…");
  const whole = await Promise.all(cards.map((card) => draw(card, running.signal)));
  const stopped = running.signal.aborted;
  running = null;
  showStatus(stopped ? "Stopped." : cards.length > 1 ? "Both answers are there." : "The answer is there.");
  turn.cards = cards;
  turn.kept = () => cards[0].kept;
  if (cards.length === 2 && whole.every(Boolean) && cards[0].text !== cards[1].text) offerVote(turn, cards, box);
  else {
    cards.forEach((card, place) => {
      if (cards.length > 1) card.reveal();
      if (whole[place]) offerMore(turn, card, question, before);
    });
    if (!whole[0]) turn.kept = () => (cards[1] && whole[1] ? cards[1].kept : cards[0].kept);
    if (!whole.some(Boolean) && !cards.some((card) => card.text.trim())) {
      const row = cards[0].element.appendChild(make("div", { className: "row" }));
      offerAgain(turn, row, question, before);
    }
  }
  updateButtons();
}

// Offers what can be done with an answer.
function offerMore(turn, card, question, before) {
  const row = make("div", { className: "row" });
  if (storesFeedback) row.append(thumbs(card), editing(card));
  card.element.append(row);
  offerAgain(turn, row, question, before);
}

function offerAgain(turn, row, question, before) {
  const again = make("button", { type: "button", className: "again" }, "Another answer");
  again.addEventListener("click", () => {
    if (running) return;
    again.remove();
    voteNeeded = false;
    answer(question, turn, before);
  });
  row.append(again);
}

function offerVote(turn, cards, box) {
  voteNeeded = true;
  const kept = (place) => {
    voteNeeded = false;
    cards.forEach((card, other) => { card.reveal(); card.element.classList.toggle("left", other !== place); });
    turn.kept = () => cards[place].kept;
    if (storesFeedback) cards[place].element.append(make("div", { className: "row" }, editing(cards[place])));
    showStatus(`The conversation goes on from answer ${"AB"[place]}.`);
    updateButtons();
  };
  const names = [["A is better", 0], ["Equally good", null], ["B is better", 1]];
  if (!storesFeedback) names.splice(1, 1);
  const group = choices("Which answer is better?", names, async (better, id) => {
    // What both have read: a model without a chat template has read the question alone.
    const [prompt] = cards.map((card) => card.prompt).sort((one, other) => one.length - other.length);
    if (storesFeedback) await tellServer({ kind: "vote", id, prompt, answers: cards.map(answerOf), better });
    skip.remove();
    kept(better ?? 0);
  });
  const skip = make("button", { type: "button" }, "Skip");
  skip.addEventListener("click", () => { group.remove(); kept(0); at("question").focus(); });
  group.append(skip);
  box.after(group);
  group.scrollIntoView({ block: "nearest" });
  showStatus("Both answers are there. Which one is better?");
}

function updateButtons() {
  at("send").disabled = running !== null || voteNeeded || !models.length;
  if (running === null && document.activeElement === at("stop")) at("question").focus();
  at("stop").hidden = running === null;
  at("empty").hidden = turns.length > 0;
}

function beginTurn(question) {
  const asked = make("div", { className: "question" }, make("h3", {}, "You"));
  asked.append(make("div", { className: "text", dir: "auto" }, visible(question)));
  const turn = { question, element: make("section", { className: "turn" }, asked), kept: () => "" };
  turns.push(turn);
  at("talk").append(turn.element);
  return turn;
}

async function send() {
  const question = at("question").value.trim();
  if (!question || running || !models.length) return;
  if (voteNeeded) { showProblem("Say first which answer is better, or skip."); return; }
  const wrong = [...document.querySelectorAll(".settings input")].find((field) => !field.checkValidity());
  if (wrong) { at("settings").open = true; wrong.reportValidity(); return; }
  showProblem("");
  at("question").value = "";
  const before = turns.filter((each) => each.kept().trim());
  document.querySelectorAll(".again").forEach((each) => each.remove()); // only the last question is asked again
  const turn = beginTurn(question);
  turn.element.scrollIntoView({ block: "start" });
  await answer(question, turn, before);
}

function forget() {
  running?.abort();
  turns = [];
  voteNeeded = false;
  at("talk").replaceChildren();
  showProblem("");
  showStatus("A new conversation.");
  updateButtons();
  at("question").focus();
}

function listen() {
  at("ask").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  at("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
  at("stop").addEventListener("click", () => { running?.abort(); at("question").focus(); });
  at("fresh").addEventListener("click", forget);
}

async function begin() {
  takeToken();
  const about = await (await ask("/chat/about")).json();
  models = about.models;
  storesFeedback = about.feedback;
  at("model").append(...models.map(({ name }) => make("option", { value: name }, visible(name))));
  const rivals = models.length > 1 ? models.map(({ name }) => make("option", { value: name }, visible(name))) : [];
  at("rival").append(make("option", { value: "" }, "nothing"), make("option", { value: SAME }, "itself"), ...rivals);
  const longest = Math.min(...models.map((each) => each.max_tokens));
  at("max_tokens").max = longest;
  at("max_tokens").value = Math.min(longest, Number(at("max_tokens").value));
  if (!storesFeedback) at("empty").textContent = "Ask something below.";
  recall();
  updateButtons();
}

listen();
begin().catch((error) => showProblem(error.message));
