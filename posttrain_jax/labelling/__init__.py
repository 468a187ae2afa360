"""Lets people rate answers on a local page, and exports what they said.

Which file to open:
- `items.py`: what raters see, read from rows of a file.
- `labels.py`: what a rater may say about an item.
- `study.py`: the directory that keeps items, settings and votes.
- `assignment.py`: who rates which item, in which order, with which sides.
- `event_log.py`: the append-only file of all that raters did.
- `session.py`: where each rater is.
- `app.py`, `keys.py`, `page.py`: the page and its requests.
- `votes.py`, `consensus.py`, `export.py`: from events to rows that training reads.
- `agreement.py`, `timing.py`, `strengths_figure.py`: how far raters agree, how long they take, what they say.
"""
