"""Draws groups of answers to prompts.

Which file to open:
- `engine.py`: the public methods, and the order of one `step`: admit, decode, store.
- `scheduler.py`: which answers leave and begin before a dispatch, and how much is prefilled.
- `results.py`: what is kept of a dispatch, and which answers have ended.
- `requests.py`: one request with what was drawn for it so far, and the engine's counts.
- `ledger.py`: which requests wait, begin, run or are finished.
- `places.py`: which slot a request has, and which pages of the device's memory hold its tokens and its prompt.
- `pages.py`, `pool_size.py`: which pages are free, and how many there are.
- `chunk_plan.py`, `chunk_lists.py`: which chunks a prefill takes, and its arrays.
- `page_lists.py`: the lists by which a dispatch finds the pages that it reads and writes.
- `device.py`: the memory on the device; pads requests to fixed shapes and calls the compiled programs.
- `sizes.py`: the numbers that fix these shapes.
- `programs.py`: the computation in those programs: prefill, begin, decode, and copies of pages.
- `state.py`: the arrays that stay on the device between programs.
- `stop_strings.py`: where the text of an answer ends at a stop string.
- `draw.py`: one token from logits: temperature, truncation and the random draw.
- `own_sampling.py`, `own_draw.py`: requests with a sampling of their own; each row drawn by its settings.
"""
