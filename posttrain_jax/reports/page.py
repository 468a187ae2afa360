"""Prepares the HTML templates: text is escaped, and an unknown name is an error."""

import pathlib

import jinja2


def environment(folder: pathlib.Path) -> jinja2.Environment:
  """Makes the environment that renders the templates of a folder; the caller may add filters."""
  return jinja2.Environment(
    loader=jinja2.FileSystemLoader(folder),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
