"""Serves language models over HTTP, in the form of OpenAI's API.

Which file to open:
- `completion.py`: what is asked of a served model, and the pieces of its answers.
- `running_model.py`: a served model; takes requests at any time.
- `engine_thread.py`, `engine_process.py`: its engine in a thread, of this process or of another one.
- `engine_reports.py`: what the engine is asked and reports; `serving_engine.py`: its sizes.
- `running_request.py`, `text_stream.py`: one request under way; its tokens as text.
- `asked_prompt.py`: from messages or text to the model's tokens.
- `model_versions.py`, `model_names.py`: which parameters are loaded, and how models are called.
- `app.py`: the paths over HTTP, and limits on requests; `answering.py`: one request from its body to the last byte.
- `openai_request.py`, `openai_answer.py`: OpenAI's form of a request and of an answer.
- `mailbox.py`: from other threads to the server's loop.
- `metrics.py`: counts and times for Prometheus.
- `guard.py`: refuses what a local page or server must not accept: other hosts, other origins, too much at once.
- `access.py`: where a server may listen, and its token.
- `server.py`: runs an application, and ends it gracefully; `http_protocol.py`: how it speaks HTTP.
- `garbage.py`: makes Python's search for garbage cheap.
- `extra.py`: says which packages are missing.

People talk with models in the terminal and on a page:
- `chat_session.py`, `chat_commands.py`, `terminal_chat.py`: a conversation, its commands, and what the terminal shows.
- `answer_sources.py`, `shown_text.py`: answers from here or from a server; what of a text a terminal must not obey.
- `page/`, `chat_page.py`, `chat_routes.py`: the page, and what it asks of the server.
- `feedback_request.py`, `feedback_rows.py`, `feedback_store.py`: what people say of answers, as rows in files.
"""
