"""Serves language models over HTTP, in the form of OpenAI's API.

Which file to open:
- `completion.py`: what is asked of a served model, and the pieces of its answers.
- `running_model.py`: a model and its engine in a thread; takes requests at any time.
- `serving_engine.py`: its engine.
- `running_request.py`, `text_stream.py`: one request under way; its tokens as text.
- `asked_prompt.py`: from messages or text to the model's tokens.
- `model_versions.py`, `model_names.py`: which parameters are loaded, and how models are called.
- `app.py`: the paths over HTTP, and limits on requests; `answering.py`: one request from its body to the last byte.
- `openai_request.py`, `openai_answer.py`: OpenAI's form of a request and of an answer.
- `mailbox.py`: from the engine's thread to the server's loop.
- `metrics.py`: counts and times for Prometheus.
- `guard.py`: refuses what a local page or server must not accept: other hosts, other origins, too much at once.
- `access.py`: where a server may listen, and its token.
- `server.py`: runs an application, and ends it gracefully.
- `extra.py`: says which packages are missing.
"""
