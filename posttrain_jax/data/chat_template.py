"""Renders chats to text with a model's own chat template.

The role of a message decides which text is the assistant's. Looking for headers in the text would be wrong, because a
user may type a whole fake assistant turn. The template is compiled with a marker at every step of its loops, so each
piece of the output is known to belong to one message. The assistant's words are its turn, end-of-turn token included,
without the header that the generation prompt already gives.

Templates run as in transformers: sandboxed Jinja with trimmed blocks, `break` and `continue`, `tojson`,
`raise_exception` and `strftime_now`. `{% generation %}` tags are accepted and not needed.
"""

import datetime
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from posttrain_jax.types import InputError

# Most templates accept any role. Without this check, training would silently skip a misspelled "assistant".
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
Message = Mapping[str, Any]  # {"role", "content"}, optionally "tool_calls" and anything else that the template reads


def render(
  messages: Sequence[Message],
  template: str,
  *,
  add_generation_prompt: bool = False,
  tools: Sequence[Mapping[str, Any]] | None = None,
  **arguments: Any,
) -> str:
  """Renders a chat to text.

  Args:
    messages: the turns, each with "role" and "content", which is text or a list of text parts (or "tool_calls" in its
      place). An assistant's turn may have "reasoning_content", for templates that write it.
    template: Jinja source.
    add_generation_prompt: ends the text with the header of an assistant's turn.
    tools: JSON schemas of tools, for templates that show them to the model.
    **arguments: variables of the template: `bos_token`, `eos_token`, `enable_thinking`, `date_string`, ...

  Raises:
    InputError: if a message is malformed, or if the template fails or refuses the chat.
  """
  arguments |= {"add_generation_prompt": add_generation_prompt, "tools": tools}
  return _render_turns(messages, template, arguments)[0]


def assistant_spans(
  messages: Sequence[Message], template: str, *, tools: Sequence[Mapping[str, Any]] | None = None, **arguments: Any
) -> tuple[str, list[tuple[int, int]]]:
  """Renders a chat and finds the text that the assistant said.

  Args:
    messages: as in `render`.
    template: Jinja source.
    tools: as in `render`.
    **arguments: as in `render`.

  Returns:
    (text, one span [start, end) per assistant message, in characters). A span starts after the assistant's header and
    ends after the end-of-turn token.

  Raises:
    InputError: as in `render`, or if the template does not write assistant messages one by one in a loop.
  """
  text, turns = _render_turns(messages, template, arguments | {"add_generation_prompt": False, "tools": tools})
  spoken = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
  if not spoken:
    return text, []
  header, gap = _assistant_frame(template, arguments)
  spans = []
  for i in spoken:
    if len(turns[i]) != 1:
      raise InputError(f"chat template: message {i} is written in {len(turns[i])} places, expected one turn in a loop")
    start, end = turns[i][0]
    if not text.startswith(header, start, end):
      raise InputError(f"chat template: message {i} starts {text[start:end][:40]!r}, expected the header {header!r}")
    spans.append((start + len(header), end - len(gap) if text.endswith(gap, start, end) else end))
  return text, spans


def turn_endings(template: str, arguments: Mapping[str, Any]) -> list[str]:
  """Finds the texts after an assistant's last words, by rendering test chats.

  Args:
    template: Jinja source.
    arguments: variables of the template.

  Returns:
    The ending of a turn that another turn follows, and that of a last turn; none if the template fails on these chats.
  """
  endings = []
  for after in ([{"role": "user", "content": "v"}], []):
    turns = []
    for words in ("a", "b"):
      messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": words}, *after]
      try:
        text, ((start, end),) = assistant_spans(messages, template, **arguments)
      except InputError:
        return []
      turns.append(text[start:end])
    if turns[0] != turns[1]:  # else the template leaves out what the assistant says
      endings.append(_common_prefix(*(turn[::-1] for turn in turns))[::-1])
  return list(dict.fromkeys(endings))


def _assistant_frame(template: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
  """Finds the text around an assistant's words.

  It renders a test chat whose words are known. The assistant's turn is not the last turn of that chat: Qwen3 opens a
  last turn with an empty reasoning block, which the model has to write itself.

  Returns:
    (header before the words, white space after the end-of-turn token).
  """

  def written(words, **more):
    chat = [{"role": "user", "content": "u"}, {"role": "assistant", "content": words}, {"role": "user", "content": "v"}]
    text, turns = _render_turns(chat, template, {"tools": None, "add_generation_prompt": False, **arguments, **more})
    if not (turns[1] and turns[2]):
      raise InputError("chat template: messages are not written one by one in a loop, so roles cannot be told apart")
    return text, text[turns[1][0][0] : turns[1][-1][1]], turns[2][-1][1]

  text, first, _ = written("a")
  prompted, _, end = written("a", add_generation_prompt=True)
  _, second, _ = written("b")
  # A template may close the chat (with EOS) if no generation prompt is asked for.
  prompt = prompted[len(text) :] if prompted.startswith(text) else prompted[end:]
  header = _common_prefix(prompt, first, second)
  ending = _common_prefix(first[::-1], second[::-1])[::-1]
  token = ending.rstrip()
  # Without an end-of-turn token, the white space ends the turn, so it is learned.
  return header, ending[len(token) :] if token else ""


def _common_prefix(*texts: str) -> str:
  return "".join(column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*texts)))


def _render_turns(
  messages: Sequence[Message], template: str, arguments: Mapping[str, Any]
) -> tuple[str, list[list[tuple[int, int]]]]:
  """Renders a chat and returns, for each message, the spans [start, end) of its text."""
  messages = plain(messages)  # identity tells them apart, so each is a separate object
  number = {id(message): i for i, message in enumerate(messages)}
  turns: list[list[tuple[int, int]]] = [[] for _ in messages]
  pieces, written, current = [], 0, {}

  def step(loop, item):
    if loop in current:
      i, start = current.pop(loop)
      if start < written:
        turns[i].append((start, written))
    if id(item) in number:
      current[loop] = number[id(item)], written
    return ""

  try:
    for piece in _compile(template).generate(messages=messages, __step__=step, **arguments):
      pieces.append(piece)
      written += len(piece)
  except Exception as error:  # a template is a program, so any exception is possible
    raise InputError(f"chat template: {type(error).__name__}: {' '.join(str(error).split())}") from None
  return "".join(pieces), turns


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
  """Copies a chat, with contents that are lists of text parts joined to text.

  Raises:
    InputError: if a message is malformed, or has a part that is not text.
  """
  if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
    raise InputError(f"chat: messages is {messages!r}, expected a list of at least one message")
  found = []
  for i, message in enumerate(messages):
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
      raise InputError(f"chat: message {i} is {message!r}, expected an object with 'role' and 'content'")
    if message["role"] not in ROLES:
      raise InputError(f"chat: role of message {i} is {message['role']!r}, expected one of {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
      content = "".join(_part(part, i) for part in content)
    if not isinstance(content, str) and not message.get("tool_calls"):
      raise InputError(f"chat: content of message {i} is {content!r}, expected text or a list of text parts")
    found.append({**message, "content": content} if "content" in message else dict(message))
  return found


def _part(part: Any, number: int) -> str:
  text = part.get("text") if isinstance(part, Mapping) else part
  if not isinstance(text, str) or (isinstance(part, Mapping) and not str(part.get("type", "text")).endswith("text")):
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise InputError(f"chat: content of message {number} has a part of type {kind!r}, expected text")
  return text


def tools_of(columns: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
  """Returns the tools of a row as JSON schemas; None if it has none.

  Templates show them to the model.

  Args:
    columns: the row. Its "tools" is a list, or JSON of one, as data sets have it.

  Raises:
    InputError: if it is something else.
  """
  tools = columns.get("tools")
  if isinstance(tools, str):
    try:
      tools = json.loads(tools) if tools.strip() else None
    except ValueError as error:
      raise InputError(f"tools: malformed JSON: {error}") from None
  if not tools:
    return None
  if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
    raise InputError(f"tools is {repr(tools)[:40]}, expected a list of JSON schemas")
  return tools


@functools.lru_cache(maxsize=16)
def _compile(template: str) -> jinja2.Template:
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationTag]
  )
  environment.filters["tojson"] = _to_json
  environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
  tree = _MarkLoops().visit(environment.parse(template)).set_environment(environment)
  return jinja2.Template.from_code(environment, environment.compile(tree), environment.make_globals(None))


class _MarkLoops(NodeTransformer):
  """Inserts calls that report the steps of each loop.

  A loop's body starts with `__step__(loop, item)`. After the loop follows `__step__(loop, none)`.
  """

  def __init__(self):
    self.loops = 0

  def visit_For(self, node):
    self.generic_visit(node)
    if node.recursive or not isinstance(node.target, nodes.Name):
      return node
    self.loops += 1

    def mark(item):
      arguments = [nodes.Const(self.loops), item]
      call = nodes.Call(nodes.Name("__step__", "load"), arguments, [], None, None)
      return nodes.Output([call]).set_lineno(node.lineno)

    node.body.insert(0, mark(nodes.Name(node.target.name, "load")))
    return [node, mark(nodes.Const(None))]

  def leave_alone(self, node):
    """Keeps a block unchanged whose output is buffered.

    The length of the rendered text is not known inside such a block, so a marker would be wrong there.
    """
    return node

  visit_Macro = visit_CallBlock = visit_FilterBlock = visit_AssignBlock = leave_alone


class _GenerationTag(jinja2.ext.Extension):
  """Accepts `{% generation %}...{% endgeneration %}` and keeps only its contents.

  Transformers marks the assistant's text with this tag.
  """

  tags = {"generation"}  # noqa: RUF012  (Jinja's interface)

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
  """Returns plain JSON; Jinja's own filter would escape it for HTML."""
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
  return datetime.datetime.now().strftime(form)


def _raise(message: str) -> NoReturn:
  raise jinja2.TemplateError(message)
