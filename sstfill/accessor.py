# SPDX-License-Identifier: Apache-2.0
"""``ds.gapfill`` and ``da.gapfill``: each method of sstfill as one call on an xarray object.

The methods are generated: their parameters are the fields of a dataclass of options and the
parameters of the function that does the work, so that an option is declared and explained once.
`accessor.pyi` states the signatures for editors; ``tests/support/make_stub.py`` writes it.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import xarray as xr

from sstfill import plot
from sstfill.describe import describe
from sstfill.docstrings import parameters, summary
from sstfill.errors import OptionError, unknown
from sstfill.evaluation import score
from sstfill.fill import fill  # registers `Auto`, so that METHODS is complete
from sstfill.intervals import interval
from sstfill.methods import METHODS, Dineof
from sstfill.modes import dineof_modes
from sstfill.report.write import write_report
from sstfill.training.options import TrainOptions
from sstfill.training.train import train


@dataclasses.dataclass(frozen=True)
class ParameterSource:
    """A function, or a dataclass of options, whose parameters an accessor method takes over."""

    thing: Callable[..., Any]
    without: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Parameters by name, without `without` and without the data that a function works on."""
        found = dict(inspect.signature(self.thing).parameters)
        if not isinstance(self.thing, type):
            del found[next(iter(found))]
        return {name: p for name, p in found.items() if name not in self.without}

    def select(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Select from the arguments given those that belong here."""
        return {name: value for name, value in given.items() if name in self.parameters}


FILL = ParameterSource(fill)
FILL_BY_METHOD = ParameterSource(fill, without=("method", "withheld"))
TRAIN = ParameterSource(train, without=("options", "limits"))
MODES = ParameterSource(dineof_modes, without=("method",))
MODES_OPTIONS = ParameterSource(Dineof, without=("outliers", "return_modes"))
TRAIN_OPTIONS = ParameterSource(TrainOptions)
POSITIONAL = ("model",)
"""Fields of a method that may be given without their name: ``gapfill.gan("folder")``."""


@dataclasses.dataclass(frozen=True)
class MethodTemplate:
    """An accessor method before it belongs to one of the two accessors.

    Attributes
    ----------
    body
        Does the work, as ``body(accessor, **arguments)``.
    sources
        Where the parameters come from; the first that has a parameter declares it, and the
        explanations of all are joined. The last one is a function and declares what is returned.
    purpose
        First line of the docstring.
    """

    body: Callable[..., Any]
    sources: tuple[ParameterSource, ...]
    purpose: str

    def build(self, accessor: type[_Gapfill], name: str) -> Callable[..., Any]:
        """Make the method `name` of an accessor, with a signature and a docstring of its own."""
        taken: dict[str, inspect.Parameter] = {}
        fills = self.sources[-1].thing is FILL.thing
        left_out = accessor._left_out
        if fills:
            left_out += accessor._left_out_of_fills
        for source in self.sources:
            for parameter in source.parameters.values():
                if parameter.name not in left_out:
                    taken.setdefault(parameter.name, parameter)
        if len(self.sources) > 1 and "seed" in taken:  # last, because it serves both
            taken["seed"] = taken.pop("seed")
        positional = [p for p in taken.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        keyword_only = [p for p in taken.values() if p.kind is p.KEYWORD_ONLY]
        for parameter in [p for p in keyword_only if p.name in POSITIONAL]:
            keyword_only.remove(parameter)
            positional.append(parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD))
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        returned = inspect.signature(self.sources[-1].thing).return_annotation
        if fills:
            returned = accessor._filled
        signature = inspect.Signature([own, *positional, *keyword_only], return_annotation=returned)

        def method(self: _Gapfill, /, *args: Any, **options: Any) -> Any:
            try:
                bound = signature.bind(self, *args, **options)
            except TypeError as error:
                raise TypeError(f"{method.__qualname__}() {error}") from None
            bound.apply_defaults()
            return body(**bound.arguments)

        body = self.body
        method.__name__ = name
        method.__qualname__ = f"{accessor.__name__}.{name}"
        method.__doc__ = self._document([*positional, *keyword_only])
        # what `inspect` and notebooks show in place of *args, **options
        method.__signature__ = signature  # type: ignore[attr-defined]
        return method

    def _document(self, taken: list[inspect.Parameter]) -> str:
        texts = [parameters(source.thing) for source in self.sources]
        lines = [self.purpose, "", "Parameters", "----------"]
        for parameter in taken:
            explained = " ".join(text[parameter.name] for text in texts if parameter.name in text)
            lines += [parameter.name, textwrap.indent(textwrap.fill(explained, 96), "    ")]
        return "\n".join(lines) + "\n"


def filling(cls: type[Any]) -> MethodTemplate:
    """Make the template that fills by a method with the options given."""
    options = ParameterSource(cls)
    # a method of one variable at a time can only refuse `together`
    without = FILL_BY_METHOD.without if cls.multivariate else (*FILL_BY_METHOD.without, "together")
    of_fill = ParameterSource(fill, without)

    def body(self: _Gapfill, **given: Any) -> Any:
        chosen = cls(**options.select(given))
        return self._result(fill(self._data, chosen, **of_fill.select(given)))

    shipped = cls.__module__.startswith("sstfill.")
    where = ""
    if shipped:
        where = f"; see `sstfill.{cls.__name__}`"
    return MethodTemplate(body, (options, of_fill), f"{summary(cls)}{where}.")


def _template(*sources: ParameterSource) -> Callable[[Callable[..., Any]], Any]:
    def decorate(body: Callable[..., Any]) -> MethodTemplate:
        return MethodTemplate(body, sources, summary(body) + ".")

    return decorate


class _UnknownMethodError(OptionError, AttributeError):
    """A method that sstfill does not have, asked for as an attribute, as `hasattr` does."""


class _Gapfill:
    """The methods of both accessors; a subclass states which parameters do not apply to it."""

    _data: Any
    _left_out: ClassVar[tuple[str, ...]] = ()
    _left_out_of_fills: ClassVar[tuple[str, ...]] = ()
    _filled: ClassVar[str] = "xr.Dataset"

    def __init__(self, data: Any) -> None:
        self._data = data

    def __init_subclass__(cls) -> None:
        # for each accessor anew: its signature and docstring are those of its own class
        templates = {name: filling(method) for name, method in METHODS.items()}
        for base in reversed(cls.__mro__):
            own = vars(base).items()
            templates |= {name: found for name, found in own if isinstance(found, MethodTemplate)}
        for name, template in templates.items():
            setattr(cls, name, template.build(cls, name))

    def _result(self, filled: xr.Dataset) -> Any:
        return filled

    @_template(FILL)
    def fill(self, **given: Any) -> Any:
        """Fill with a method, its name, or (by default) `sstfill.Auto`, the best on this series."""
        return self._result(fill(self._data, **given))

    @_template(TRAIN_OPTIONS, TRAIN)
    def train(self, **given: Any) -> Any:
        """Train a network on this archive, without ground truth; see `sstfill.train`."""
        options = TrainOptions(**TRAIN_OPTIONS.select(given))
        return train(self._data, options, **TRAIN.select(given))

    @_template(MODES_OPTIONS, MODES)
    def dineof_modes(self, **given: Any) -> Any:
        """Return the EOF modes that DINEOF finds; see `sstfill.modes.dineof_modes`."""
        options = Dineof(**MODES_OPTIONS.select(given))
        return dineof_modes(self._data, options, **MODES.select(given))

    @_template(ParameterSource(score))
    def score(self, **given: Any) -> Any:
        """Score methods on pixels hidden under the clouds of other dates; see `sstfill.score`."""
        return score(self._data, **given)

    @_template(ParameterSource(describe))
    def info(self, **given: Any) -> Any:
        """Describe the fields, time, grid, sea and gaps, and what would fail; raises nothing."""
        return describe(self._data, **given)

    def __repr__(self) -> str:
        try:
            return str(describe(self._data))
        except Exception:  # a notebook or debugger must be able to show this object
            return type(self).__name__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copy, pickle and notebooks probe for
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name in METHODS:  # registered after this module was imported
            return filling(METHODS[name]).build(type(self), name).__get__(self)
        raise _UnknownMethodError(*unknown("method", name, sorted(METHODS)).args)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *METHODS})


class DatasetGapfill(_Gapfill):
    """Fill the gaps of a Dataset's gridded series, as in ``ds.gapfill.dineof()``.

    A Dataset comes back. For each variable ``v`` that was filled it holds ``v_error`` (one standard
    deviation) and ``v_source`` (0 observed, 1 filled, 2 not filled, 3 withheld, 4 land); see
    `sstfill.fill`.
    """

    @_template(ParameterSource(interval))
    def interval(self, **given: Any) -> Any:
        """Return the limits between which the values of a *filled* Dataset lie.

        See `sstfill.intervals.interval`.
        """
        return interval(self._data, **given)

    @_template(ParameterSource(plot.members))
    def plot_members(self, **given: Any) -> Any:
        """Draw members of one date beside the field and its error; see `sstfill.plot.members`."""
        return plot.members(self._data, **given)

    @_template(ParameterSource(plot.picture))
    def plot(self, **given: Any) -> Any:
        """Draw a *filled* Dataset: one date, several, or a film; see `sstfill.plot.picture`."""
        return plot.picture(self._data, **given)

    @_template(ParameterSource(write_report, without=("command", "missing")))
    def report(self, **given: Any) -> Any:
        """Write a page about a *filled* Dataset; see `sstfill.report.write.write_report`."""
        return write_report(self._data, **given)


class DataArrayGapfill(_Gapfill):
    """Fill the gaps of a gridded series: ``da.gapfill.dineof()`` returns the filled DataArray.

    For the expected error and the source of each pixel, fill a Dataset:
    ``da.to_dataset(name="sst").gapfill.dineof()``.
    """

    _left_out = ("variables", "variable", "together")
    _left_out_of_fills = ("members",)  # a DataArray has no room for a second variable
    _filled = "xr.DataArray"

    def _result(self, filled: xr.Dataset) -> xr.DataArray:
        like = self._data
        found = filled["field" if like.name is None else like.name].rename(like.name)
        # The ancillary variables of the fill are left behind, so it links to none of them.
        links = like.attrs.get("ancillary_variables")
        attrs = found.attrs | {"ancillary_variables": links}
        found.attrs = {name: value for name, value in attrs.items() if value is not None}
        return found
