"""Shows in the terminal which tokens of a demonstration are learned."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from posttrain_jax.data.encoding import Example
from posttrain_jax.data.tokenizer import Tokenizer

# Two shades take turns, so that borders between tokens are visible.
LEARNED_STYLES = ("black on green", "black on bright_green")
OTHER_STYLES = ("dim", "dim reverse")

# A line end is kept, after its sign. No other control character reaches the terminal.
_VISIBLE = {c: chr(0x2400 + c) for c in range(32)} | {0x7F: "␡", ord("\n"): "⏎\n"}
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 4  # of a character in UTF-8, so the most tokens that can share a character


def inspect_examples(examples: Sequence[Example], tokenizer: Tokenizer, console: Console, *, count: int) -> None:
  """Prints the first examples, learned tokens on green and the others dim.

  Without colours (for example in a file), "·" separates tokens and ⟦⟧ encloses learned tokens. Special tokens are
  written out, and line ends are shown as ⏎. If several tokens share one character, the last of them shows the
  character and the others show "…".

  Args:
    examples: the demonstrations.
    tokenizer: the tokeniser that encoded them.
    console: the terminal or file to print to.
    count: number of examples to print.
  """
  colours = console.color_system is not None and not console.no_color
  legend = [("learned", True), (" not learned", False)] if colours else "⟦learned⟧, not learned, · between tokens"
  console.print(_coloured(legend) if colours else legend, soft_wrap=True, markup=False, highlight=False)
  for number, example in enumerate(examples[:count], 1):
    tokens, learned = len(example.tokens), int(example.mask[1:].sum())
    heading = f"{number} of {len(examples)}, {example.source}: {tokens} tokens, {learned} learned"
    console.print(Text(f"\n{heading} ({learned / tokens:.0%})", style="bold"), soft_wrap=True)
    # No token comes before the first one, so nothing predicts it.
    learned_tokens = [False, *example.mask[1:].tolist()]
    pieces = list(zip(token_texts(example.tokens.tolist(), tokenizer), learned_tokens, strict=True))
    console.print(_coloured(pieces) if colours else Text(_bracketed(pieces)), soft_wrap=True)


def token_texts(tokens: Sequence[int], tokenizer: Tokenizer) -> list[str]:
  """Returns a printable text for each token.

  Args:
    tokens: n ids.
    tokenizer: the tokeniser that encoded them.

  Returns:
    n texts: "…" for a token whose character ends in a later token, U+FFFD for bytes that are not a character, and
    "<id 7>" for an id without a token.
  """
  texts = []
  while len(texts) < len(tokens):
    start = len(texts)
    whole = ((n, tokenizer.decode(tokens[start : start + n])) for n in range(1, _MOST_BYTES + 1))
    size, text = next(
      ((n, text) for n, text in whole if start + n <= len(tokens) and _BROKEN not in text),
      (1, tokenizer.decode(tokens[start : start + 1])),
    )
    texts += ["…"] * (size - 1) + [text.translate(_VISIBLE) or f"<id {tokens[start]}>"]
  return texts


def _coloured(pieces: Sequence[tuple[str, bool]]) -> Text:
  text = Text()
  for i, (piece, learned) in enumerate(pieces):
    text.append(piece, (LEARNED_STYLES if learned else OTHER_STYLES)[i % 2])
  return text


def _bracketed(pieces: Sequence[tuple[str, bool]]) -> str:
  text, before = "", False
  for i, (piece, learned) in enumerate(pieces):
    border = {(False, True): "⟦", (True, False): "⟧"}.get((before, learned), "·" if i else "")
    text, before = text + border + piece, learned
  return text + ("⟧" if before else "")
