"""The Laplace posterior: a Gaussian over the trainable parameters, and what follows from it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hoarfrost.checks import check_count, check_draws, check_switch, is_number, plain, shown
from hoarfrost.data.positions import in_positions
from hoarfrost.dtypes import narrowed
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.fork import check_not_forked
from hoarfrost.laplace.evidence.evidence import Earlier, Evidence
from hoarfrost.laplace.evidence.noise import Residuals
from hoarfrost.laplace.evidence.tuning import LARGEST, SMALLEST, Optimum, Tuning, optimise
from hoarfrost.laplace.evidence.validation import HeldOut, Question
from hoarfrost.laplace.export import Form, ServedPredictive, to_jax
from hoarfrost.laplace.held_out import check_temperature, checked_parameters, tuned
from hoarfrost.laplace.joint_covariance import covariance_at_each, joint_covariance
from hoarfrost.laplace.linearised import LinearisedNetwork
from hoarfrost.laplace.more_data import updated
from hoarfrost.laplace.pickling import reduced
from hoarfrost.laplace.predictions import Predictor, check_classes, check_numbers, checked_draws
from hoarfrost.laplace.saving import save
from hoarfrost.laplace.store import FactorStore
from hoarfrost.laplace.structure.base import Curvature, Factor
from hoarfrost.laplace.turns import Turn, changes, reads
from hoarfrost.likelihood import Classification, Gaussian
from hoarfrost.memory import check_room
from hoarfrost.network import write_to_module
from hoarfrost.predictive.link import choose_link
from hoarfrost.predictive.prediction import RegressionPrediction
from hoarfrost.prior import PriorPrecision, resolve_prior_precision
from hoarfrost.types import Tree


@dataclass(eq=False, repr=False)
class Laplace:
    """The Gaussian posterior ``N(theta_MAP, (H + T)^-1)`` over the trainable parameters.

    Made by `hoarfrost.fit_laplace`. ``H`` is the generalised Gauss-Newton matrix of the data, ``T``
    the diagonal of prior precisions. Vectors and matrices over the P parameters are in the order
    of `jax.flatten_util.ravel_pytree` of the trainable tree.

    Attributes
    ----------
    hessian_structure : str
        "full", "dual", "kron" or "diag".
    log_likelihood : float
        Of all data at the mean, constants included.
    num_data : int
        Number of data points: of positions, where outputs have them, without those masked.
    tuning : Tuning or None
        The certificate of the last `optimize_prior_precision` or `optimize_hyperparameters`.
    temperature : float
        The likelihood stands to the power of ``1 / temperature``.
    held_out : HeldOut or None
        The certificate of the last `optimize_on`.
    earlier : Earlier or None
        What the evidence takes of the posterior that is the prior; `prior_precision` is the prior
        of that one then, and `prior_mean` its mean.
    """

    linearised: LinearisedNetwork = field(repr=False)
    hessian_structure: str
    prior: PriorPrecision
    log_likelihood: float
    num_data: int
    store: FactorStore
    centre: np.ndarray
    residuals: Residuals | None = None
    collections: Mapping[str, Tree] = field(default_factory=dict)
    tuning: Tuning | None = None
    temperature: float = 1.0
    held_out: HeldOut | None = None
    earlier: Earlier | None = None
    turn: Turn = field(default_factory=Turn, init=False)

    @property
    def num_params(self) -> int:
        """P, the number of trainable parameters."""
        return self.linearised.mean.size

    @property
    def mean(self) -> np.ndarray:
        """The MAP of the trainable parameters, shape ``(P,)``, float64."""
        return self.linearised.mean.copy()

    @property
    def prior_mean(self) -> np.ndarray:
        """Of the prior, shape ``(P,)``, float64."""
        return self.centre.copy()

    @property
    def prior_precision(self) -> Any:
        """A float where one was given for all parameters, else a tree like the trainable one."""
        return jax.tree.map(copy.copy, self.prior.value)

    @property
    def noise_std(self) -> float | tuple[float, ...] | None:
        """Of a Gaussian likelihood: a float, or one for each output; else None."""
        likelihood = self.linearised.likelihood
        if not isinstance(likelihood, Gaussian):
            return None
        std = likelihood.noise_std
        return tuple(std) if isinstance(std, Sequence) else std

    @property
    def deviation(self) -> np.ndarray:
        """The mean's distance from the prior's mean, shape ``(P,)``, float64."""
        return self.linearised.mean - self.centre

    @property
    def evidence(self) -> Evidence:
        """What the log marginal likelihood depends on, beside the factor."""
        return Evidence(
            self.prior,
            self.deviation,
            self.log_likelihood,
            self.linearised.likelihood.name,
            self.residuals,
            self.noise_std,
            self.temperature,
            self.earlier,
        )

    @property
    def factor(self) -> Factor:
        """The factorised precision."""
        return self.store.factor

    @property
    def curvature(self) -> Curvature | None:
        """The curvature of the likelihood; None where it is not kept."""
        return self.store.curvature

    @property
    def nbytes(self) -> int:
        """Bytes of the factor and of what is kept beside it for later predictions."""
        return self.factor.nbytes

    @reads
    def drop_cache(self) -> None:
        """Give back the memory kept for later predictions.

        After predictions for many inputs a last layer keeps blocks of its covariance, half as large
        as its factor, which make later ones faster. They are made again when needed.
        """
        self.store.drop_cache()

    @reads
    def precision(self) -> np.ndarray:
        """The posterior precision ``H + T``, shape ``(P, P)``, float64.

        Raises
        ------
        MemoryLimitError
            If it does not fit, before the work.
        """
        self._check_room_for("precision")
        return self.factor.precision()

    @reads
    def covariance(self) -> np.ndarray:
        """The posterior covariance, shape ``(P, P)``, float64.

        Raises
        ------
        MemoryLimitError
            If it does not fit, before the work.
        """
        self._check_room_for("covariance")
        return self.factor.covariance()

    @reads
    def variance(self) -> np.ndarray:
        """The diagonal of the covariance, without forming it; shape ``(P,)``, float64."""
        return self.store.variance()

    @reads
    def log_marginal_likelihood(
        self, prior_precision: Any = None, noise_std: float | Sequence[float] | None = None
    ) -> float:
        """The log evidence, given the frozen parameters.

        Parameters
        ----------
        prior_precision : number, tree of numbers or tree of arrays, optional
            By default the posterior's own; another one costs a factorisation (nothing of that size
            for a multiple of it in a last layer under Gaussian noise), and a product of that size
            first where the curvature was not kept and comes back from the factor.
        noise_std : float or sequence of float, optional
            Of a Gaussian likelihood; by default the posterior's own. One number, or one for each
            output.

        Raises
        ------
        InvalidArgumentError
            If another prior precision or noise is asked for and the curvature was not kept and does
            not come back from the factor (a last layer's), or the likelihood has no such noise.
        MemoryLimitError
            If the curvature comes back from the factor, and there is no room for it.
        """
        evidence, store = self._under(prior_precision, noise_std)
        return evidence.value(store.factor.log_det())

    @changes
    def optimize_prior_precision(
        self, structure: Literal["scalar", "layerwise", "weights_biases", "diagonal"] = "scalar"
    ) -> Any:
        """Change this posterior: its prior precision becomes that of the largest evidence.

        The evidence is concave in the logarithms of the precisions, so the maximum is the only
        one. A precision that it would send beyond 1e-8 or 1e8 stops there, and `tuning` says so;
        one about which it says nothing, to rounding (a unit that is never active), stays as it is.
        The mean stays where training left it. The certificate is `tuning`.

        Parameters
        ----------
        structure : {"scalar", "layerwise", "weights_biases", "diagonal"}
            One precision for all; one a layer (leaves with the same parent); one for the leaves
            with two axes or more and one for the others; one a parameter.

        Returns
        -------
        float or tree
            A float for "scalar", else a tree like the trainable one, of floats, or of arrays for
            "diagonal".

        Raises
        ------
        InvalidArgumentError
            If the structure is none of these, or the curvature was not kept.
        """
        return self._adopt(self._optimum(structure, noise=False))

    @changes
    def optimize_prior_scale(self, low: float = SMALLEST, high: float = LARGEST) -> Any:
        """Change this posterior: its prior precision times the factor of the largest evidence.

        Parameters
        ----------
        low, high : float
            Bounds of that factor.

        Returns
        -------
        float or tree
            The new prior precision, in the form of the old one.

        Raises
        ------
        InvalidArgumentError
            If the bounds are not positive, finite and ordered, or the curvature was not kept.
        """
        _log_bounds(low, high)
        low, high = float(plain(low)), float(plain(high))
        return self._adopt(self._optimum("scale", noise=False, bounds=(low, high)))

    @changes
    def optimize_hyperparameters(
        self, structure: Literal["scalar", "layerwise", "weights_biases", "diagonal"] = "scalar"
    ) -> tuple[Any, float | tuple[float, ...]]:
        """Change this posterior: prior precision and Gaussian noise of the largest evidence.

        Parameters
        ----------
        structure : {"scalar", "layerwise", "weights_biases", "diagonal"}
            As in `optimize_prior_precision`.

        Returns
        -------
        prior_precision : float or tree
            As in `optimize_prior_precision`.
        noise_std : float or tuple of float
            One number where one was given. Where one for each output was given, each is tuned by
            itself in a last layer with its full covariance and a prior that outputs share; else
            all keep their proportions.

        Raises
        ------
        InvalidArgumentError
            If the likelihood is not Gaussian, the structure unknown, or the curvature not kept.
        """
        optimum = self._optimum(structure, noise=True)
        value = self._adopt(optimum)
        assert optimum.noise_std is not None
        return value, optimum.noise_std

    @changes
    def optimize_on(
        self,
        data_loader: Any,
        parameters: str | Sequence[str] = "prior_precision",
        link: str | None = None,
        n_samples: int = 100,
        seed: int | jax.Array = 0,
        *,
        low: float = 1e-4,
        high: float = 1e4,
        grid_size: int = 9,
    ) -> Any:
        """Change this posterior: prior precision, temperature or both predict held-out data best.

        The mean of `log_prob` is maximised over a factor on each parameter, on a grid and then by
        a golden section about its best point, to a tenth in the logarithm (temperatures beside a
        prior to a finer one). The curvature that is there serves for all: nothing is fitted again.
        The certificate is `held_out`; `tuning`, of the evidence, is None then.

        Parameters
        ----------
        data_loader : DataLoader or iterable of (inputs, targets)
            Data that the fit has not seen, or their features; gone over for each prior that is
            tried.
        parameters : {"prior_precision", "temperature"} or both
            What is tuned.
        link, n_samples, seed
            As in `log_prob`; the same draws for every candidate, where the link draws any.
        low, high : float
            Bounds of the factor on each parameter.
        grid_size : int
            How many factors are tried first, bounds included, at least 2.

        Returns
        -------
        float, tree or tuple
            The new prior precision, in the form of the old one, or the new temperature; of both a
            tuple in the order of `parameters`.

        Raises
        ------
        InvalidArgumentError
            If an argument is none of these, or the curvature was not kept.
        """
        names = checked_parameters(parameters)
        self._check_tunable(names[0])
        bounds = _log_bounds(low, high)
        grid_size = check_count("grid_size", grid_size, 2)
        draws = checked_draws(seed, n_samples)
        question = Question(data_loader, link, draws.n_samples, draws.seed)
        choose_link("density", self.linearised.likelihood, link)
        # The factor and one candidate's would not both fit where memory is tight.
        self.store = self.store.alone()
        self.store.release()
        best, certificate, said = tuned(self, names, question, bounds, grid_size)
        self._become(
            prior=best.prior,
            store=best.store,
            temperature=best.temperature,
            tuning=None,
            held_out=certificate,
        )
        for message in said:
            warnings.warn(message, UserWarning, stacklevel=3)
        values = [getattr(self, name) for name in names]
        return values[0] if len(values) == 1 else tuple(values)

    @reads
    def with_prior_precision(self, prior_precision: Any) -> Laplace:
        """A copy under another prior precision: a new factor, no new pass over the data.

        This posterior stays as it is.

        Raises
        ------
        InvalidArgumentError
            If it is not positive, or the curvature was not kept and does not come back.
        MemoryLimitError
            If it comes back from the factor, and there is no room for it.
        """
        evidence, store = self._under(prior_precision)
        return self._with(prior=evidence.prior, store=store)

    @reads
    def with_temperature(self, temperature: float) -> Laplace:
        """A copy at another temperature: a new factor, no new pass over the data.

        The likelihood stands to the power of ``1 / temperature``: the precision is ``H /
        temperature + T``. Below 1 the posterior is as if there were more data, above 1 fewer.

        Raises
        ------
        InvalidArgumentError
            If it is no positive number, or the curvature was not kept and does not come back.
        MemoryLimitError
            If it comes back from the factor, and there is no room for it.

        References
        ----------
        Wenzel et al. (2020), How good is the Bayes posterior in deep neural networks really?
        """
        temperature = check_temperature(temperature)
        self._check_tunable("temperature")
        evidence = dataclasses.replace(self.evidence, temperature=temperature)
        store = self.store.at(self.prior.vector, evidence.scale, "temperature")
        return self._with(temperature=temperature, store=store)

    @reads
    def sample(self, seed: int | jax.Array, n_samples: int) -> Tree:
        """Draws from the posterior.

        Parameters
        ----------
        seed : int or jax.Array
            A number or a JAX key; the same one gives the same draws, bit for bit.
        n_samples : int
            How many.

        Returns
        -------
        tree
            The trainable tree, leaves with a leading axis `n_samples`, in the parameters' dtype.

        Raises
        ------
        InvalidArgumentError
            If the seed is neither number nor key, or `n_samples` no positive integer.
        MemoryLimitError
            If the draws do not fit, before the work.
        NonFiniteError
            If a draw is too large for the dtype of its parameter.
        """
        check_not_forked("sample")
        seed, n_samples = check_draws(seed, n_samples)
        sizes = (leaf.size * (8 + leaf.dtype.itemsize) for leaf in self._leaves)
        check_room(
            f"{n_samples} draws of the parameters",
            # They are put in order one by one.
            n_samples * sum(sizes) + 8 * self.num_params,
            "give a smaller n_samples",
        )
        draws = self.factor.deviations(seed, n_samples)
        draws += self.linearised.mean
        remedy = "give a larger prior_precision, or parameters of a wider dtype"
        return jax.tree.map(
            lambda draw, leaf: jnp.asarray(narrowed(draw, leaf.dtype, "a draw", remedy)),
            self.linearised.subset.shaped(draws),
            self.linearised.trainable,
        )

    def merge(self, tree: Tree = None) -> Tree:
        """The full parameter tree with these trainable leaves and the frozen ones of the MAP.

        Parameters
        ----------
        tree : tree, optional
            A trainable tree, such as one draw of `sample` (or all of them: a leading axis is kept).
            By default the MAP's own.

        Raises
        ------
        ShapeError
            If a leaf is not of the shape of the parameter that it stands for, leading axes apart.
        SelectionError
            If a leaf is missing, or is none of the trainable ones.
        InvalidArgumentError
            If a leaf is no array of real numbers.
        """
        subset = self.linearised.subset
        params = subset.params if tree is None else subset.merged(tree)
        return subset.devices.alone(subset.network.join(params, self.collections))

    def write_to(self, module: Any, tree: Tree = None) -> None:
        """Put parameters, and running statistics beside them, into an NNX module.

        Nothing else changes a module that a posterior was fitted to.

        Parameters
        ----------
        module : flax.nnx.Module
            Changed in place: its random state and modes stay as they are.
        tree : tree, optional
            A trainable tree, such as one draw of `sample`, or a full one of `merge`; what it does
            not hold, and everything where none is given, is that of the MAP.

        Raises
        ------
        InvalidArgumentError
            If it is no NNX module, or has no variable where the posterior has one.
        ShapeError
            If a variable there has another shape. On an error nothing is written.
        """
        write_to_module(module, self.merge(), tree)

    @reads
    def functional_covariance(self, inputs: Tree, *, joint: bool = False) -> np.ndarray:
        """Covariance of the outputs, ``J Sigma J^T``, of the linearised network.

        Parameters
        ----------
        inputs : array, tree of arrays, InputsLoader or list of batches
            Axis 0 runs over the B points.
        joint : bool
            Whether covariances of outputs at different points are wanted too.

        Returns
        -------
        ndarray
            Shape ``(B, C, C)``, with `joint` ``(B, C, B, C)``, float64. Of outputs with positions
            ``(B, T, C, C)`` and ``(B, T, C, B, T, C)``.

        Raises
        ------
        MemoryLimitError
            If a joint covariance does not fit.
        """
        if check_switch("joint", joint):
            return joint_covariance(self.linearised, self.factor, inputs)
        linearised, inputs = self.linearised.given_inputs(inputs)
        return covariance_at_each(linearised, self.factor, linearised.batches(inputs))

    @reads
    def functional_variance(self, inputs: Tree) -> np.ndarray:
        """The diagonal of `functional_covariance`, without forming it; shaped as the outputs."""
        linearised, inputs = self.linearised.given_inputs(inputs)
        linearised, batches = linearised.at(linearised.batches(inputs))
        outputs = linearised.gaussian_outputs(self.factor, batches, "variance")
        found = np.concatenate([piece.known_variance for piece in outputs])
        return in_positions(found, linearised.positions)

    @reads
    def predict(
        self,
        inputs: Tree,
        link: str | None = None,
        n_samples: int = 100,
        seed: int | jax.Array = 0,
        *,
        log: bool = False,
    ) -> Any:
        """The predictive distribution of the targets.

        Parameters
        ----------
        inputs : array, tree of arrays, InputsLoader or list of batches
            Axis 0 runs over the B points. Or features of the same network (`hoarfrost.features`).
        link : {"probit", "mc", "bridge", "nn"}, optional
            How probabilities follow from the distribution of the outputs. "probit", the default for
            classes: by shrinking the logits. "mc": by samples of the linearised network. "bridge":
            by a Dirichlet (categorical only). "nn": by samples of the weights that go through the
            network itself. For real targets and counts "nn", or nothing for the exact moments under
            the linearised network; for any other likelihood "mc", the default, or "nn".
        n_samples, seed : int
            Of "mc" and "nn". With "mc" a point's draws depend on the seed and the point's index
            alone; with "nn" the weights are those of ``sample(seed, n_samples)``.
        log : bool
            Whether probabilities are given as logarithms, which stay finite where a probability is
            too small for a number.

        Returns
        -------
        ndarray, or tuple of two
            Classification: probabilities, shape ``(B, C)``. Real targets and counts: mean and
            variance of the targets, each ``(B, D)``, the noise included (`predict_regression` has
            its parts). Any other likelihood: mean of the targets. In the outputs' dtype (at least
            float32). Outputs with positions ``(B, T, C)`` give ``(B, T, C)`` and ``(B, T, D)``.
        """
        draws = checked_draws(seed, n_samples)
        return self.predictor.predict(inputs, link, draws, check_switch("log", log))

    @reads
    def predict_proba(
        self,
        inputs: Tree,
        link: str | None = None,
        n_samples: int = 100,
        seed: int | jax.Array = 0,
    ) -> np.ndarray:
        """Probabilities of the classes; the arguments are those of `predict`.

        Returns
        -------
        ndarray
            Shape ``(B, C)`` or ``(B, T, C)``, rows that add up to 1. Of a single Bernoulli logit
            ``(B, 2)``, of no and of yes; of several the probability of a yes for each.

        Raises
        ------
        InvalidArgumentError
            If the likelihood is none of classes.
        """
        check_classes(self.linearised.likelihood)
        found: np.ndarray = self.predict(inputs, link, n_samples, seed)
        return np.concatenate([1 - found, found], axis=-1) if found.shape[-1] == 1 else found

    @reads
    def predict_regression(
        self,
        inputs: Tree,
        link: str | None = None,
        n_samples: int = 100,
        seed: int | jax.Array = 0,
    ) -> RegressionPrediction:
        """Mean of real targets or counts, and their variance in its two parts.

        The arguments are those of `predict`.

        Returns
        -------
        RegressionPrediction
            `mean`, `epistemic_variance`, `noise_variance`, `variance`, `std`, and methods
            `quantile` and `credible_interval`.

        Raises
        ------
        InvalidArgumentError
            If the likelihood is one of classes, or one without a variance.
        """
        check_numbers(self.linearised.likelihood)
        return self.predictor.regression(inputs, link, checked_draws(seed, n_samples))

    @reads
    def log_prob(
        self,
        data_loader: Any,
        link: str | None = None,
        n_samples: int = 100,
        seed: int | jax.Array = 0,
    ) -> np.ndarray:
        """Log-density of given targets under the predictive distribution, shape ``(N,)``.

        Parameters
        ----------
        data_loader : DataLoader or iterable of (inputs, targets)
            Data that the posterior need not have seen, or their features
            (`hoarfrost.features`); targets as for `fit_laplace`.
        link : {"probit", "mc", "bridge", "nn"}, optional
            As in `predict`. With a Gaussian likelihood "mc" or "nn", or nothing for the exact
            density under the linearised network; "mc", the default, or "nn" with any other
            likelihood of numbers.
        n_samples, seed : int
            Of "mc" and "nn".

        Returns
        -------
        ndarray
            One number a point, in the order of the data, finite for logits of any finite size. With
            positions ``(N, T)``. Where targets have a mask, or `ignored_label` was given to the
            fit, one number for each that counts, in one axis: `mean` and `sum` are over those.
        """
        return self.predictor.log_prob(data_loader, link, checked_draws(seed, n_samples))

    @reads
    def to_jax(
        self,
        form: Form | None = None,
        dtype: str = "float32",
        *,
        n_samples: int = 200,
        seed: int | jax.Array = 0,
        inputs: Tree = None,
    ) -> tuple[Tree, ServedPredictive]:
        """The predictive distribution as arrays and one pure JAX function, to be served.

        ``fn(arrays, params, inputs)`` can be jitted, sharded and exported, on any device, without
        Hoarfrost's core. `params` is the full tree, as `merge` gives it; nothing is baked in.

        Parameters
        ----------
        form : {"probit", "samples", "covariance"}, optional
            "probit", the default for classes: probabilities ``(B, C)``, as `predict` gives them.
            "samples", the default otherwise: under `n_samples` draws of the linearised network,
            probabilities ``(B, C)``, or for targets that are numbers their mean, the variance of
            their mean and the mean of their noise, each ``(B, D)``. "covariance": the outputs
            ``(B, C)`` and their covariances ``(B, C, C)``.
        dtype : {"float32", "float64", "bfloat16", "float16"}
            Of the arrays: triangular roots of the covariance, which lose no digits to its
            condition, or the draws.
        n_samples, seed
            Of "samples".
        inputs : array or tree of arrays, optional
            Some points, on which the largest difference from the float64 answer is measured.

        Returns
        -------
        arrays : dict or tree of jax.Array
            For `C` outputs and a layer with `D` inputs: ``C D^2`` numbers for "probit",
            ``(C D)^2`` for "covariance", ``S C D`` for "samples"; ``D^2 + C D`` under Gaussian
            noise.
        fn : ServedPredictive
            The function, with its `nbytes` and `largest_difference`.

        Raises
        ------
        InvalidArgumentError
            If an argument is none of these, or the form is not for this likelihood.
        MemoryLimitError
            If the covariance and its root do not fit.
        """
        likelihood = self.linearised.likelihood
        if form is None:
            form = "probit" if isinstance(likelihood, Classification) else "samples"
        seed, n_samples = check_draws(seed, n_samples)
        deviations = functools.partial(self.factor.deviations, seed, n_samples)
        return to_jax(self.linearised, self.factor, form, dtype, deviations, self.merge(), inputs)

    def with_collections(self, collections: Mapping[str, Tree]) -> Laplace:
        """A copy whose `merge` adds these collections beside the parameters.

        Raises
        ------
        InvalidArgumentError
            If they are no mapping from names to trees.
        """
        if not isinstance(collections, Mapping) or not all(isinstance(n, str) for n in collections):
            raise InvalidArgumentError(
                f"collections is {shown(collections)}; give a dict of trees by their names, such "
                "as {'batch_stats': ...}"
            )
        return dataclasses.replace(self, collections=collections)

    @changes
    def update(self, data_loader: Any, *, progress: bool = True) -> None:
        """Change this posterior: it has seen more data, at the mean that it has.

        As if the fit had had all data at once: evidence, predictions and samples follow. The mean
        stays what training left; where the new data would move it far, train again and fit with
        ``prior=posterior``. For a moment there are two curvatures.

        Parameters
        ----------
        data_loader : DataLoader or iterable
            As in `fit_laplace`, gone over once.
        progress : bool
            Whether a progress bar is shown.

        Raises
        ------
        InvalidArgumentError
            If the curvature was not kept and does not come back, or an argument cannot be used.
        DataError, ShapeError, NonFiniteError
            If the data cannot be used; the posterior is as it was.
        MemoryLimitError
            If there is no room for a second curvature.
        """
        self._become(**updated(self, data_loader, progress))

    @reads
    def save(self, path: Any, *, frozen: bool = True, curvature: bool = True) -> None:
        """Write this posterior to a file, from which `hoarfrost.load_laplace` brings it back.

        One safetensors file, described in ``posterior_file.md`` of `hoarfrost.laplace`: no code
        and no training data. What is large is written from where it lies, without a copy.

        Parameters
        ----------
        path : str or path
            Its place. A posterior that is there already is replaced when the new file is whole.
        frozen : bool
            Whether the frozen parameters are in it; without them `load_laplace` asks for `params`.
        curvature : bool
            Whether the likelihood's curvature is in it, where the posterior keeps it: without it
            the loaded posterior takes no other prior.

        Raises
        ------
        InvalidArgumentError
            If `path` is no path, its folder is missing, or it holds something else.
        SavedFileError
            If the file cannot be written; what was there before stays.
        """
        save(self, path, frozen, curvature)

    def _with(self, **new: Any) -> Laplace:
        """A copy of which something else is true, so that no certificate is."""
        return dataclasses.replace(self, tuning=None, held_out=None, **new)

    @property
    def predictor(self) -> Predictor:
        """What predictions are made by."""
        return Predictor(self.linearised, self.factor, self.sample)

    def _under(
        self, prior_precision: Any = None, noise_std: float | Sequence[float] | None = None
    ) -> tuple[Evidence, FactorStore]:
        """The evidence and the factor under another prior or noise; None: as it is."""
        if prior_precision is None and noise_std is None:
            return self.evidence, self.store
        self._check_tunable("noise_std" if prior_precision is None else "prior_precision")
        prior = None
        if prior_precision is not None:
            prior = resolve_prior_precision(prior_precision, self.linearised.trainable)
        evidence = self.evidence.at(prior, noise_std)
        changed = "prior_precision" if noise_std is None else "noise_std"
        return evidence, self.store.at(evidence.prior.vector, evidence.scale, changed)

    def _optimum(self, structure: str, **options: Any) -> Optimum:
        self._check_tunable("prior_precision")
        # Readers that are under way keep the store that they began with.
        self.store = self.store.alone()
        evidence, trainable = self.evidence, self.linearised.trainable
        with self.store.turn.lock:
            return optimise(evidence, self.store, trainable, structure, **options)

    def _adopt(self, optimum: Optimum) -> Any:
        evidence = self.evidence
        prior = PriorPrecision(optimum.prior_precision, optimum.prior_vector)
        evidence = evidence.at(prior, optimum.noise_std)
        store = self.store.holding(optimum.factor, prior.vector, evidence.scale)
        new: dict[str, Any] = {
            "prior": prior,
            "store": store,
            "tuning": optimum.tuning,
            "held_out": None,
        }
        if optimum.noise_std is not None:
            assert self.residuals is not None and optimum.noise_precision is not None
            new["log_likelihood"] = self.residuals.log_likelihood(optimum.noise_precision)
            new["linearised"] = dataclasses.replace(
                self.linearised, likelihood=Gaussian(optimum.noise_std)
            )
        self._become(**new)
        return self.prior_precision

    def _check_tunable(self, name: str) -> None:
        if self.earlier is not None:
            raise InvalidArgumentError(
                f"{name} cannot be changed: the prior of this posterior is an earlier posterior; "
                "tune that one and fit again with it as prior"
            )

    def _become(self, **new: Any) -> None:
        """Put a new state in place, at once: a Ctrl-C leaves the old one or the new one."""
        vars(self).update(new)

    @property
    def _leaves(self) -> list[jax.Array]:
        return jax.tree.leaves(self.linearised.trainable)

    def _check_room_for(self, matrix: str) -> None:
        check_room(
            f"the {matrix} of {self.num_params:,} parameters as one array",
            self.factor.dense_bytes(),
            "use variance() or functional_covariance(inputs), or train fewer parameters",
        )

    def now(self) -> Laplace:
        """The posterior as it stands, in a copy that nothing changes but its own verbs."""
        with self.turn.lock:
            return dataclasses.replace(self)

    def __copy__(self) -> Laplace:
        return self.now()

    def __deepcopy__(self, memo: Any) -> Laplace:
        # What is shared never changes: verbs that change a posterior put something else in place.
        return self.now()

    @reads
    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)

    def __repr__(self) -> str:
        likelihood = self.linearised.likelihood.name
        return (
            f"Laplace(num_params={self.num_params}, num_data={self.num_data}, "
            f"likelihood={likelihood!r}, hessian_structure={self.hessian_structure!r})"
        )


def _log_bounds(low: Any, high: Any) -> tuple[float, float]:
    low, high = plain(low), plain(high)
    if not is_number(low) or not is_number(high) or not 0 < float(low) < float(high):
        raise InvalidArgumentError(
            f"bounds are low={shown(low)} and high={shown(high)}; give two positive "
            "numbers, the smaller one first"
        )
    return math.log(float(low)), math.log(float(high))
