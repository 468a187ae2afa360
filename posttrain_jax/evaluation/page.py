"""How the templates beside this file become pages: text is escaped, and a name that a page lacks is an error."""

import pathlib

import jinja2


def environment() -> jinja2.Environment:
  """The environment in which reports are rendered; whoever asks for it may add filters."""
  return jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
