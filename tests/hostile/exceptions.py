"""Where a value that makes no sense elsewhere is right, or is for others to judge; each says why.

Such a value is not passed over: its result is judged by the callable's oracle, and may hold no NaN
where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meaning import Recipe

from hoarfrost import conformal

LOADERS = ("DataLoader", "HuggingFaceDataLoader", "InputsLoader", "TargetsLoader")
CONFORMAL = tuple(conformal.__all__)
FUNCTIONS = ("fit_laplace", "plan", "describe", "features")
METHODS = ("fit_map", "fit_swag", "fit_advi", "fit_ivon", "fit_ensemble", "fit_sngp")
METHODS += ("sample_sghmc", "sample_cyclical_sgld")
FUNCTIONS += METHODS


@dataclass(frozen=True)
class Exemption:
    """Cases that are no error, and why."""

    reason: str
    owners: tuple[str, ...]
    argument: str
    holds: Callable[[Recipe], bool]


def is_content(recipe: Recipe) -> bool:
    parts = ("inputs", "targets", "part", "with", "no numbers", "dtype", "swapped", "shape")
    trees = ("dict inputs", "dict later", "rank changes", "width changes", "only empty batches")
    return recipe[0] in parts or recipe[1] in trees


EXEMPTIONS = (
    Exemption(
        "a loader holds what it is given and hands it out unchanged; its readers check numbers",
        LOADERS,
        "",
        is_content,
    ),
    Exemption(
        "a batch of inputs, or of targets, may be any tree of arrays",
        ("InputsLoader", "TargetsLoader"),
        "",
        lambda recipe: recipe[1] in ("one of a pair", "triples", "dict"),
    ),
    Exemption(
        "two numbers are the targets of two loaders",
        ("DataLoader", "HuggingFaceDataLoader"),
        "targets",
        lambda recipe: recipe == ("other", "list"),
    ),
    Exemption(
        "a transform that gives None leaves the batch out, as in Fortuna",
        LOADERS,
        "transform",
        lambda recipe: recipe == ("gives", "none"),
    ),
    Exemption(
        "the parameters of a function are whatever tree it is given; it may leave some unused",
        FUNCTIONS,
        "params",
        lambda recipe: recipe[:2] in (("tree", "extra"), ("tree", "leaf twice")),
    ),
    Exemption(
        "of a tuple that a model returns the first item is its outputs, as is documented",
        FUNCTIONS,
        "model",
        lambda recipe: recipe == ("network", "tuple"),
    ),
    Exemption(
        "axes between the points and the outputs are positions of a point",
        (*FUNCTIONS, "Laplace", "WeightPosterior"),
        "inputs",
        lambda recipe: recipe == ("shape", "one more axis in front"),
    ),
    Exemption(
        "None is no calibration",
        ("ProbClassifier", "ProbRegressor"),
        "output_calibrator",
        lambda recipe: recipe == ("other", "none"),
    ),
)


EXEMPTIONS += (
    Exemption(
        "inputs_loader is taken for code written for Fortuna, and no draw depends on inputs: its "
        "kind is checked, and it is not gone over",
        ("LaplacePosterior", "MAPPosterior", "ADVIPosterior"),
        "inputs_loader",
        lambda recipe: recipe[0] in ("inputs", "broken", "form") or recipe[1].startswith("list"),
    ),
    Exemption(
        "what a tree does not hold is written from the posterior",
        ("Laplace", "WeightPosterior"),
        "tree",
        lambda recipe: recipe[:2] in (("tree", "empty"), ("tree", "missing")),
    ),
    Exemption(
        "parameters are put in their places as they are; no number is computed with them",
        ("Laplace", "WeightPosterior"),
        "tree",
        lambda recipe: recipe[0] == "array" and recipe[1][0] == "with",
    ),
    Exemption(
        "no dtype is the one of the inputs, in Flax",
        ("model",),
        "dtype",
        lambda recipe: recipe == ("other", "none"),
    ),
    Exemption(
        "a plan asks for the shapes of inputs alone",
        ("plan", "describe"),
        "",
        lambda recipe: recipe[0] == "with" or recipe == ("network", "nan"),
    ),
    Exemption(
        "no metric is a right number of metrics, and a metric may be any number, a NaN too",
        ("FitMonitor", "CalibMonitor"),
        "metrics",
        lambda recipe: recipe in (("gives", "number"), ("gives", "nan"), ("other", "tuple")),
    ),
    Exemption(
        "no callback is a right number of callbacks",
        ("FitConfig",),
        "callbacks",
        lambda recipe: recipe == ("other", "tuple"),
    ),
    Exemption(
        "two numbers are two stages",
        ("model",),
        "stage_sizes",
        lambda recipe: recipe == ("other", "list"),
    ),
    Exemption(
        "two numbers are two targets",
        ("DataLoader",),
        "targets",
        lambda recipe: recipe == ("other", "list"),
    ),
    Exemption(
        "an interval may have no end",
        ("picp", "prediction_interval_coverage_probability"),
        "",
        lambda recipe: recipe[:2] in (("with", "inf"), ("with", "-inf")),
    ),
    Exemption(
        "a conformal interval may have no end, and a quantile of scores none to give",
        CONFORMAL,
        "conformal_intervals",
        lambda recipe: recipe[:2] in (("with", "inf"), ("with", "-inf")),
    ),
    Exemption(
        "a conformal interval may have no end, and a quantile of scores none to give",
        CONFORMAL,
        "quantile",
        lambda recipe: recipe[0] == "value" and float.fromhex(recipe[1]) == float("inf"),
    ),
    Exemption(
        "there may be any number of test points, with an axis of one output",
        CONFORMAL,
        "loo_test_outputs",
        lambda recipe: recipe[1] in ("one more axis behind", "one column less", "one column more"),
    ),
    Exemption(
        "a set without an error holds all classes",
        ("ClassificationPredictive",),
        "error",
        lambda recipe: recipe[0] == "value" and float.fromhex(recipe[1]) == 0,
    ),
    Exemption(
        "nothing more is asked for",
        (
            *("ClassificationPredictive", "RegressionPredictive"),
            *("ClassificationLikelihood", "RegressionLikelihood"),
        ),
        "return_aux",
        lambda recipe: recipe == ("other", "tuple"),
    ),
    Exemption(
        "no preconditioner is the unit matrix",
        ("SGHMCPosteriorApproximator", "CyclicalSGLDPosteriorApproximator"),
        "preconditioner",
        lambda recipe: recipe == ("other", "none"),
    ),
    Exemption(
        "axes in front are kept: all draws may be merged at once",
        ("Laplace", "WeightPosterior"),
        "tree",
        lambda recipe: recipe[:2] == ("array", ("shape", "one more axis in front")),
    ),
    Exemption(
        "samples are a tree with any number of parameters, of any shape",
        ("effective_sample_size", "kernel_stein_discrepancy_imq"),
        "",
        lambda recipe: recipe[0] == "shape" or recipe == ("wrong kind", "dict"),
    ),
    Exemption(
        "one name may stand in a list",
        ("Laplace",),
        "parameters",
        lambda recipe: recipe in (("form", "tuple"), ("form", "list")),
    ),
    Exemption(
        "an axis in front makes one example of many positions, each of which is a point",
        (
            *("ClassificationPredictive", "RegressionPredictive"),
            *("ClassificationLikelihood", "RegressionLikelihood"),
        ),
        "inputs_loader",
        lambda recipe: "one more axis in front" in str(recipe),
    ),
    Exemption(
        "None is False, as in Fortuna",
        ("FitCheckpointer", "CalibCheckpointer"),
        "",
        lambda recipe: recipe == ("other", "none"),
    ),
    Exemption(
        "one variance may stand for all points",
        (
            *("ClassificationPredictive", "RegressionPredictive"),
            *("ClassificationLikelihood", "RegressionLikelihood"),
        ),
        "",
        lambda recipe: recipe in (("shape", "0-d"), ("wrong kind", "number")),
    ),
    Exemption(
        "the core is private and reads a run of numbers: of what shape is said by the structures",
        ("_core",),
        "",
        lambda recipe: recipe[0] == "shape",
    ),
)


# A building block, a dtype or a shape that a ready-made network hands on: Flax, NumPy or Python
# says what is wrong with it as the network is made, and nothing is computed before.
HANDED_ON = ("dense", "dropout", "conv", "block_cls", "activation", "dtype", "initializer_fun")
HANDED_ON += ("input_shape", "rngs", "shortcut_size")


def handed_on(name: str, argument: str) -> bool:
    """Whether an argument is one that is handed on, whose errors are those of others."""
    return name.startswith("model.") and argument in HANDED_ON


def reason_for(name: str, argument: str, recipe: Recipe) -> str:
    """Why a case is no error although its value makes no sense elsewhere; "" if it is one."""
    owner = name.partition(".")[0]
    for one in EXEMPTIONS:
        if owner in one.owners and one.argument in ("", argument) and one.holds(recipe):
            return one.reason
    return ""
