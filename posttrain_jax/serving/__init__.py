"""Serves language models over HTTP, in the form of OpenAI's API.

Which file to open:
- `completion.py`: what is asked of a served model, and the pieces of its answers.
- `running_model.py`: a model and its engine in a thread; takes requests at any time.
- `guard.py`: refuses what a local page or server must not accept: other hosts, other origins, too much at once.
"""
