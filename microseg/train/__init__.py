"""Training: a domain and a recipe to a run folder. Imports torch, but not by itself."""

# The methods of `train uda`. `auto` compares several; `source` is the control.
ADAPTATION_METHODS = (
    "auto", "normalise", "statistics", "adaptsegnet", "advent", "minent", "fda", "dacs", "mic", "intrada", "dast", "source",
)  # fmt: skip
