r"""Makes training shards of raw text: quality rules, duplicates, toxicity, evaluation sets.

    python -m experiments.prepare --config.input.paths=raw/ --workdir=runs/prepared
    python -m experiments.prepare --config.input.paths="('web/*.jsonl.gz', 'books/')" \
        --config.contamination.paths="('gsm8k.jsonl', 'math.jsonl')" --workdir=runs/prepared

The rules and their bounds are those of MassiveText for English (Gopher, arXiv:2112.11446, appendix A.1.1) where it
has them. docs/prepare.md has each step, its cost and what was measured.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.seed = 0  # of the hash functions that find near duplicates
  config.workers = 0  # processes; 0: as many as there are cores. It does not change the result
  config.input = dict(
    paths=(),  # files (.jsonl, .txt, .md, each also with .gz), folders, patterns such as web/*.jsonl.gz
    field="text",  # the field of a row of JSONL that has the text
    separator="",  # text between two documents of a plain text file; empty: a file is one document
    longest=2_000_000,  # most bytes of a document; a longer one counts as unreadable
    unreadable="drop",  # what happens to a document that is no JSON, no UTF-8 or too long: drop or error
  )
  # Rules that are asked about each document, in this order; a document counts for the first one that drops it.
  config.rules = ("length", "symbols", "language", "repetition", "toxicity", "contamination")
  config.length = dict(
    lowest=50,  # fewest words of a document
    highest=100_000,  # most words
  )
  config.symbols = dict(
    shortest_mean=3.0,  # shortest mean length of a word, in characters
    longest_mean=10.0,  # longest mean length of a word
    marks=0.1,  # most hash signs and ellipses for each word
    letters=0.8,  # lowest share of words with a letter
    bullets=0.9,  # highest share of lines that begin with a bullet
    ellipses=0.3,  # highest share of lines that end with an ellipsis
  )
  config.language = dict(
    scripts=("LATIN",),  # scripts of letters, as Unicode names them; none: any
    share=0.8,  # lowest share of letters in these scripts
    words=("the", "be", "to", "of", "and", "that", "have", "with"),  # frequent words of the language
    different=2,  # how many different ones of them a document must have
    word_share=0.0,  # lowest share of them among a document's words
  )
  config.repetition = dict(
    lines=0.3,  # highest share of lines that an earlier line equals
    line_text=0.2,  # highest share of text in such lines
    paragraphs=0.3,  # highest share of paragraphs that an earlier one equals
    paragraph_text=0.2,  # highest share of text in such paragraphs
    top=((2, 0.2), (3, 0.18), (4, 0.16)),  # (n, highest share of text in the most frequent n-gram of words)
    # (n, highest share of text in n-grams of words that occurred before in the document)
    repeated=((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)),
  )
  config.toxicity = dict(
    words=(),  # words and phrases that are counted
    path="",  # file of more of them, one a line; with neither, the rule is not asked
    share=0.01,  # highest share of a document's words that stand in one
  )
  config.contamination = dict(
    paths=(),  # JSONL files of evaluation sets, plain or gzipped; without any, the rule is not asked
    fields=("question", "problem", "prompt", "answer"),  # their fields with text; a row needs at least one of them
    words=13,  # n: a document with n words in a row of an evaluation set is dropped
    shortest=8,  # fewest words of a text that is looked for; one with less than n words is looked for as a whole
  )
  config.exact = True  # drop documents with the same text as an earlier one
  config.near = dict(
    threshold=0.8,  # estimated Jaccard similarity from which on a document is dropped; 0: no such step
    words=5,  # words of the n-grams whose sets are compared
    permutations=128,  # entries of a MinHash signature; the estimate's standard error at 0.8 is 0.4 / √entries
    bands=16,  # parts of a signature; documents are compared if one part agrees
  )
  config.shard_megabytes = 200  # text of a shard, in 10⁶ bytes before compression
  config.samples = 5  # dropped documents of each step that the report shows
  return config
