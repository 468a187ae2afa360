// What a tab still knows when its page is loaded again, as phones do with pages that were out of sight.

const REMEMBERED = ["model", "rival", "system", "temperature", "top_p", "max_tokens", "seed", "question"];

function remember() {
  const talk = turns.filter((turn) => turn.kept().trim());
  const said = talk.map((turn) => ({ question: turn.question, answer: turn.kept(), model: turn.cards[0].model }));
  const fields = Object.fromEntries(REMEMBERED.map((id) => [id, at(id).value]));
  try {
    sessionStorage.setItem("talk", JSON.stringify({ said, fields }));
  } catch {
    sessionStorage.removeItem("talk"); // longer than a browser stores
  }
}

// Shows what was said before. It cannot be rated any more, but the conversation goes on from it.
function recall() {
  const { said = [], fields = {} } = JSON.parse(sessionStorage.getItem("talk") ?? "{}");
  for (const [id, value] of Object.entries(fields)) {
    const field = at(id), before = field.value;
    field.value = value;
    if (field.value !== value) field.value = before; // a model that is not served any more
  }
  for (const { question, answer, model } of said) {
    const turn = beginTurn(question), card = makeCard("Answer", model, [], {});
    card.show(answer);
    turn.element.append(make("div", { className: "answers" }, card.element));
    turn.cards = [card];
    turn.kept = () => card.kept;
  }
  if (said.length) showStatus("The conversation from before.");
}

addEventListener("pagehide", remember);
document.addEventListener("visibilitychange", () => { if (document.hidden) remember(); });
