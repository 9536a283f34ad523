"""Which kind of value each argument asks for, and the hostile values of that kind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import hostile_arrays
import hostile_choices
import hostile_loaders
import hostile_models
import hostile_numbers
import hostile_trees
import numpy as np
from hypothesis import strategies as st
from meaning import Hostile, Recipe, either

from hoarfrost.data import DataLoader, InputsLoader, TargetsLoader

ARRAYS = """inputs preds probs targets lower_bounds upper_bounds means variances variance
    aleatoric_variances epistemic_variances val_probs val_targets test_probs values
    val_lower_bounds val_upper_bounds test_lower_bounds test_upper_bounds val_preds
    val_uncertainties test_preds test_uncertainties conformal_intervals scores
    loo_val_outputs loo_val_targets loo_test_outputs samples grads"""
NUMBERS = """dropout_rate q error log_var mean low high prior_mean prior_precision noise_std
    temperature max_grad_norm early_stopping_min_delta min_prior_log_var max_prior_log_var value
    quantile std_init_params log_std_base momentum_decay init_step_size exploration_ratio
    ridge_penalty mean_field_factor hess_init beta1 beta2 final_step_size a b gamma
    running_average_factor eps filter_threshold c beta"""
INTEGERS = """output_dim num_filters depth widen_factor width num_heads mlp_dim lora_rank vocab_size
    max_length pad_id patch_size num_inputs batch_size divisor n n_bins n_data n_epochs
    n_samples n_posterior_samples n_output_samples n_target_samples grid_size
    num_unique_labels gradient_accumulation_steps eval_every_n_epochs early_stopping_patience
    memory_budget ignored_label devices keep_top_n_checkpoints save_every_n_steps
    rank n_loss_samples ensemble_size n_thinning burnin_length cycle_length gp_hidden_features
    burnin_epochs collect_every mc_samples num_chains num_cycles burnin_steps total_steps
    every burn_in"""
SWITCHES = """plot shuffle prefetch replace joint log verbose tune_prior_log_variance progress
    distribute frozen curvature verify
    disable_jit disable_calibration_metrics_computation disable_training_metrics_computation
    dump_state start_from_current_state return_ess normalize_input bootstrap tune_noise"""
CHOICES = """form pool name link structure hessian_structure how interval_type mode keep_curvature
    early_stopping_monitor return_aux parameters cache_features tune_prior"""
PAIRS = """data_loader train_data_loader val_data_loader calib_data_loader iterable tf_data_loader
    torch_data_loader loader"""
TREES = "params params_like tree mutable calib_params calib_mutable collections"
CALLABLES = """call log_variance_call activation initializer_fun fun freeze_fun trainable
    transform uncertainty_fn init"""
OBJECTS = """widths activations dense dropout dtype stage_sizes block_cls conv shortcut_size
    input_shape rngs module state likelihood_log_variance_model posterior_approximator model_editor
    optimizer plot_options output_calibrator checkpointer monitor processor hyperparameters
    metrics method fit_config map_fit_config calib_config inputs_loaders data
    cross_val_probs cross_val_targets cross_test_probs cross_val_outputs cross_test_outputs
    conformal_sets preconditioner momentum posterior"""
PATHS = "save_checkpoint_dir restore_checkpoint_path checkpoint_path path resume_dir"

KINDS: dict[str, str] = {
    argument: kind
    for kind, arguments in {
        "array": ARRAYS,
        "number": NUMBERS,
        "integer": INTEGERS,
        "seed": "seed rng key",
        "switch": SWITCHES,
        "choice": CHOICES,
        "pairs": PAIRS,
        "loader": "inputs_loader test_inputs_loader",
        "tree": TREES,
        "callable": CALLABLES,
        "object": OBJECTS,
        "path": PATHS,
        "anything": "status",
        "network": "model",
        "steps": "step_schedule learning_rate",
        "callbacks": "callbacks",
        "prior": "prior",
        "likelihood": "likelihood",
        "outputs": "outputs",
        "checked array": "rows features weights jacobian order",
        "checked size": "num_params num_outputs num_features",
    }.items()
    for argument in arguments.split()
}
# Where an argument of that name asks for something else.
OTHERWISE: dict[str, str] = {
    **{
        f"{loader}.{argument}": kind
        for loader in ("DataLoader", "HuggingFaceDataLoader")
        for argument, kind in (
            ("from_inputs_loaders.targets", "object"),
            ("from_array_data.data", "data"),
        )
    },
    "DiagonalGaussianPrior.log_var": "array",
    "Laplace.to_jax.dtype": "choice",
    # Names of columns.
    "HuggingFaceDataLoader.inputs": "object",
    "HuggingFaceDataLoader.targets": "object",
    "FitMonitor.metrics": "metrics",
    "CalibMonitor.metrics": "metrics",
    "InputsLoader.from_data_loader.data_loader": "object",
    "TargetsLoader.from_data_loader.data_loader": "object",
    **{
        f"{one}.iterable": "loader"
        for loader in ("InputsLoader", "TargetsLoader")
        for one in (loader, f"{loader}.from_iterable")
    },
    **{
        f"{one}.log_prob.targets": "extreme targets"
        for one in ["Gaussian", "HeteroscedasticGaussian", "Poisson", "Bernoulli", "Categorical"]
    },
    "_core.FullCurvature.factor.prior_precision": "checked array",
    "_core.FullPosterior.sample.n": "checked size",
    "_core.FullPosterior.sample.seed": "checked size",
    "_core.head_bytes.outputs": "choice",
    # A prior is a density over any tree of numbers.
    **{
        f"{prior}.{method}": "any tree"
        for prior in ("IsotropicGaussianPrior", "DiagonalGaussianPrior")
        for method in (
            "log_joint_prob.params",
            "precision_tree.params",
            "mean_tree.params",
        )
    },
    # A draw has the dtypes of that tree.
    "IsotropicGaussianPrior.sample.params_like": "tree like",
    "DiagonalGaussianPrior.sample.params_like": "tree like",
}


def kind_of(name: str, argument: str) -> str:
    """The kind of an argument of a public callable; `KeyError` for one that is new."""
    return OTHERWISE.get(f"{name}.{argument}", KINDS[argument])


@functools.cache
def recipes(kind: str) -> st.SearchStrategy[Recipe]:
    """What hostile values there are of a kind."""
    simple: dict[str, Callable[[], st.SearchStrategy[Recipe]]] = {
        "array": hostile_arrays.recipes,
        "number": hostile_numbers.recipes_of_numbers,
        "integer": hostile_numbers.recipes_of_integers,
        "seed": hostile_numbers.recipes_of_seeds,
        "switch": hostile_choices.recipes_of_switches,
        "choice": hostile_choices.recipes_of_choices,
        "tree": hostile_trees.recipes_of_trees,
        "callable": hostile_trees.recipes_of_callables,
        "metrics": hostile_trees.recipes_of_callables,
        "steps": recipes_of_steps,
        "object": hostile_choices.recipes_of_objects,
        "path": hostile_choices.recipes_of_objects,
        "anything": hostile_choices.recipes_of_objects,
        "any tree": hostile_trees.recipes_of_trees,
        "tree like": hostile_trees.recipes_of_trees,
        "network": hostile_models.recipes_of_networks,
        "callbacks": hostile_models.recipes_of_callbacks,
        "prior": hostile_models.recipes_of_priors,
        "likelihood": hostile_models.recipes_of_likelihoods,
        "outputs": hostile_models.recipes_of_outputs,
        "extreme targets": hostile_models.recipes_of_targets,
        "checked array": hostile_arrays.recipes_of_checked,
        "checked size": hostile_numbers.recipes_of_sizes,
    }
    if kind in simple:
        return simple[kind]()
    if kind == "data":
        return st.tuples(st.just("part"), hostile_arrays.recipes(), st.integers(0, 1)) | st.tuples(
            st.just("other"), st.sampled_from(hostile_choices.OTHERS), st.just(0)
        )
    return hostile_loaders.recipes(pairs=kind == "pairs")


def make(kind: str, recipe: Recipe, right: Any, argument: str) -> Hostile:
    """The hostile value of a recipe in place of a right one."""
    if kind in ("array", "checked array"):
        return hostile_arrays.make(recipe, right)
    if kind in ("number", "integer", "seed", "checked size"):
        return hostile_numbers.make(recipe, right, argument, whole=kind != "number")
    if kind == "steps":
        return make_steps(recipe, right, argument)
    if kind == "switch":
        return hostile_choices.make_switch(recipe, right)
    if kind == "choice":
        return hostile_choices.make_choice(recipe, right)
    if kind == "tree":
        return hostile_trees.make_tree(recipe, right)
    if kind == "callable":
        return hostile_trees.make_callable(recipe, right)
    if kind == "metrics":
        made = hostile_trees.make_callable(recipe, lambda *arguments: 0.0)
        return Hostile((made.value,), made.meaning) if callable(made.value) else made
    if kind == "object":
        return hostile_choices.make_object(recipe)
    if kind in ("path", "anything"):
        return hostile_choices.make_path(recipe)
    if kind == "any tree":
        return hostile_trees.make_any_tree(recipe, right)
    if kind == "tree like":
        return hostile_trees.make_tree_like(recipe, right)
    if kind == "data":
        return make_data(recipe, right)
    if kind == "network":
        return hostile_models.make_network(recipe, right)
    if kind == "callbacks":
        return hostile_models.make_callbacks(recipe)
    if kind == "prior":
        return hostile_models.make_prior(recipe)
    if kind == "likelihood":
        return hostile_models.make_likelihood(recipe, right)
    if kind in ("outputs", "extreme targets"):
        return hostile_models.make_outputs(recipe, right)
    return hostile_loaders.make(recipe, batches_of(right), lambda batches: like(right, batches))


def recipes_of_steps() -> st.SearchStrategy[Recipe]:
    return st.tuples(st.just("number"), hostile_numbers.recipes_of_numbers()) | st.tuples(
        st.just("function"), hostile_trees.recipes_of_callables()
    )


def make_steps(recipe: Recipe, right: Any, argument: str) -> Hostile:
    """A number, or a function of the number of the step, which may give any positive one."""
    name, own = recipe
    if name == "number":
        return hostile_numbers.make(own, right, argument)
    if own in (("other", "one"), ("gives", "no callable"), ("gives", "number")):
        return either(hostile_trees.make_callable(own, right).value)
    return hostile_trees.make_callable(own, lambda step: 0.01)


def make_data(recipe: Recipe, right: tuple[Any, Any]) -> Hostile:
    """A pair of arrays, one of which is hostile."""
    name, detail, part = recipe
    if name == "other":
        return hostile_choices.make_object(("other", detail))
    made = hostile_arrays.make(tuple(detail), right[part])

    def with_part(value: Any) -> tuple[Any, ...]:
        return (value, right[1]) if part == 0 else (right[0], value)

    meaning = made.meaning
    if hasattr(meaning, "plain"):
        meaning = type(meaning)(with_part(meaning.plain), meaning.eps)
    return Hostile(with_part(made.value), meaning)


def batches_of(right: Any) -> list[Any]:
    """The batches of a right loader, plain."""
    loader = (
        right.in_order() if isinstance(right, DataLoader | InputsLoader | TargetsLoader) else right
    )
    return [tuple(map(plain, b)) if isinstance(b, list | tuple) else plain(b) for b in loader]


def plain(part: Any) -> Any:
    return part if isinstance(part, np.ndarray) else np.asarray(part.numpy())


def like(right: Any, batches: list[Any]) -> Any:
    """Plain batches as a loader of the kind that is right."""
    if isinstance(right, DataLoader | InputsLoader | TargetsLoader):
        return type(right).from_iterable(batches)
    return batches
