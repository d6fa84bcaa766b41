//! Search spaces in TOML files, for programs whose users state what is searched.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Bound;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::space::{Distribution, FloatRange, IntRange, same};
use crate::trial::{FrozenTrial, Suggest};

/// A parameter that a program lets its users search.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// The values that the program takes.
    pub values: Values,
    /// The parameter that says how many of it there are, for one that is there several times.
    pub each: Option<&'static str>,
    /// Its value where no file states it; none where that follows from something else.
    pub default: Option<Value>,
    /// What it is, in a line.
    pub about: &'static str,
}

/// The values that a program takes for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Floats between these ends.
    Floats(Bound<f64>, Bound<f64>),
    /// Integers from the first to the second.
    Integers(i64, i64),
    /// These names.
    Names(Vec<String>),
    /// True or false.
    Flags,
}

impl Values {
    /// The value in the program's type; none if it does not take it.
    fn take(&self, value: &Value) -> Option<Value> {
        match self {
            Self::Floats(low, high) => {
                let x = value.as_f64().filter(|x| (*low, *high).contains_float(*x))?;
                serde_json::Number::from_f64(x).map(Value::Number)
            }
            Self::Integers(low, high) => {
                value.as_i64().filter(|n| (low..=high).contains(&n)).map(Value::from)
            }
            Self::Names(names) => value.as_str().filter(|v| names.iter().any(|n| n == v)).map(Value::from),
            Self::Flags => value.as_bool().map(Value::from),
        }
    }
}

trait ContainsFloat {
    fn contains_float(&self, x: f64) -> bool;
}

impl ContainsFloat for (Bound<f64>, Bound<f64>) {
    fn contains_float(&self, x: f64) -> bool {
        x.is_finite() && std::ops::RangeBounds::contains(self, &x)
    }
}

impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Floats(low, high) => {
                f.write_str("a number")?;
                match low {
                    Bound::Included(low) => write!(f, " of at least {low}")?,
                    Bound::Excluded(low) => write!(f, " above {low}")?,
                    Bound::Unbounded => {}
                }
                match high {
                    Bound::Included(high) => write!(f, ", at most {high}"),
                    Bound::Excluded(high) => write!(f, ", below {high}"),
                    Bound::Unbounded => Ok(()),
                }
            }
            Self::Integers(low, i64::MAX) => write!(f, "a whole number of at least {low}"),
            Self::Integers(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Names(names) => write!(f, "one of {}", names.join(", ")),
            Self::Flags => f.write_str("true or false"),
        }
    }
}

/// A search space as a TOML file states it.
///
/// A parameter is a range (`low`, `high`, and `log` or `step`), one of several `choices`, or a fixed value. With `when` it is there only
/// where other parameters have one of the named values; with `each` it is there as many times as another parameter says, under
/// the names `NAME_0`, `NAME_1` and so on.
///
/// ```
/// use std::ops::Bound::{Excluded, Included};
/// use firstsight_hpo::{Known, Random, SearchSpace, Study, Values};
///
/// let known = |name, values| Known { name, values, each: None, default: None, about: "" };
/// let known = [
///     known("rate", Values::Floats(Excluded(0.0), Included(1.0))),
///     known("optimizer", Values::Names(vec!["adam".into(), "sgd".into()])),
///     known("momentum", Values::Floats(Included(0.0), Excluded(1.0))),
///     known("layers", Values::Integers(1, 9)),
///     Known { each: Some("layers"), ..known("width", Values::Integers(1, 4096)) },
/// ];
/// let text = r#"
///     rate = { low = 1e-5, high = 1e-1, log = true }
///     optimizer = { choices = ["adam", "sgd"] }
///     momentum = { low = 0.5, high = 0.95, step = 0.05, when = { optimizer = "sgd" } }
///     layers = { low = 1, high = 3 }
///     width = { choices = [16, 32, 64], each = "layers" }
/// "#;
/// let space = SearchSpace::parse(text, "space.toml", &known, &[])?;
/// let study = Study::builder("doc").sampler(Random::new(1)).create()?;
/// study.optimize(10, |trial| {
///     let settings = space.sample(trial)?;
///     let widths = settings.list("width").unwrap_or_default();
///     assert_eq!(widths.len() as i64, settings.int("layers").unwrap());
///     assert_eq!(settings.text("optimizer") == Some("sgd"), settings.float("momentum").is_some());
///     Ok(settings.float("rate").unwrap())
/// })?;
/// let winner = space.replay(&*study.best_trial()?)?;
/// # Ok::<(), firstsight_hpo::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchSpace {
    /// Those that others depend on come first.
    params: Vec<Declared>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Declared {
    name: String,
    values: Stated,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    when: Vec<Condition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    each: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Stated {
    Fixed(Value),
    Searched(Distribution),
}

/// The parameter has one of the values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Condition {
    param: String,
    values: Vec<Value>,
}

/// The values of a trial by parameter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// A number.
    pub fn float(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    /// A name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// True or false.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    /// The numbers of a parameter that is there several times.
    pub fn list(&self, name: &str) -> Option<Vec<f64>> {
        self.0.get(name)?.as_array()?.iter().map(Value::as_f64).collect()
    }

    /// The same, with the defaults of parameters that have no value.
    #[must_use]
    pub fn or_defaults(mut self, known: &[Known]) -> Self {
        for Known { name, default, .. } in known {
            if let (Some(default), false) = (default, self.0.contains_key(*name)) {
                self.0.insert((*name).to_owned(), default.clone());
            }
        }
        self
    }
}

impl SearchSpace {
    /// The space of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for a file that cannot be read; those of [`SearchSpace::parse`].
    pub fn read(path: &Path, known: &[Known], given: &[(&str, Vec<String>)]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            doing: "reading the search space",
            source,
        })?;
        Self::parse(&text, &path.display().to_string(), known, given)
    }

    /// The space that a text in TOML states. `place` names the text in errors, `known` are the parameters that it may have, and
    /// `given` are choices that are part of the space besides.
    ///
    /// # Errors
    ///
    /// [`Error::SpaceFile`] with the place, the expected and the found: for a text that is no TOML, unknown parameters and settings,
    /// values of the wrong type or outside what the program takes, empty ranges, logarithmic ranges from 0 or below, and
    /// conditions on what is not there, cannot be or depends on itself.
    pub fn parse(text: &str, place: &str, known: &[Known], given: &[(&str, Vec<String>)]) -> Result<Self> {
        let source = Source { text, place };
        let table = DeTable::parse(text).map_err(|error| {
            let found = error.message().lines().collect::<Vec<_>>().join(", ");
            source.error(error.span().map_or(0, |span| span.start), "", "TOML", found)
        })?;
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut params = Vec::new();
        for (key, value) in entries {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            if given.iter().any(|(given, _)| *given == name) {
                let expected = "a parameter that is not given already";
                return Err(source.error(at, name, expected, format!("`{name}`, which is")));
            }
            let Some(known) = known.iter().find(|known| known.name == name) else {
                let names: Vec<&str> = known.iter().map(|known| known.name).collect();
                let expected = format!("one of {}", names.join(", "));
                return Err(source.error(at, name, expected, "a parameter that is not known"));
            };
            params.push((at, source.param(known, at, value)?));
        }
        let place_of_given = text.len();
        for (name, choices) in given {
            let values = Stated::Searched(Distribution::categorical(name, choices)?);
            let values = match &choices[..] {
                [only] => Stated::Fixed(Value::from(only.as_str())),
                _ => values,
            };
            let declared = Declared { name: (*name).to_owned(), values, when: Vec::new(), each: None };
            params.push((place_of_given, declared));
        }
        for (at, param) in &params {
            source.check_conditions(*at, param, &params)?;
        }
        if !params.iter().any(|(_, param)| matches!(param.values, Stated::Searched(_))) {
            return Err(source.error(0, "", "a parameter with a range or choices", "none"));
        }
        Ok(Self { params: source.in_order(params)? })
    }

    /// The settings of a trial: each parameter is suggested once those that it depends on have their values.
    ///
    /// # Errors
    ///
    /// Those of [`Suggest::suggest`].
    pub fn sample(&self, s: &mut impl Suggest) -> Result<Settings> {
        let mut chosen = Settings::default();
        for param in &self.params {
            let holds = |condition: &Condition| {
                let value = chosen.0.get(&condition.param);
                value.is_some_and(|value| condition.values.iter().any(|wanted| same(value, wanted)))
            };
            if !param.when.iter().all(holds) {
                continue;
            }
            let value = match &param.each {
                None => param.value(s, &param.name)?,
                Some(count) => {
                    let Some(n) = chosen.int(count) else { continue };
                    let one = |i| param.value(s, &format!("{}_{i}", param.name));
                    Value::Array((0..n).map(one).collect::<Result<_>>()?)
                }
            };
            chosen.0.insert(param.name.clone(), value);
        }
        Ok(chosen)
    }

    /// The settings of a finished trial, also where a range has become narrower since.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownParam`] if it has no value for a parameter, [`Error::OutOfRange`] for one of another type.
    pub fn replay(&self, trial: &FrozenTrial) -> Result<Settings> {
        self.sample(&mut Recorded(trial))
    }

    /// Whether the space has this parameter.
    pub fn has(&self, name: &str) -> bool {
        self.params.iter().any(|param| param.name == name)
    }

    /// The values that the parameter is searched over or fixed to, where they can be listed.
    pub fn choices(&self, name: &str) -> Option<Vec<Value>> {
        let param = self.params.iter().find(|param| param.name == name)?;
        match &param.values {
            Stated::Fixed(value) => Some(vec![value.clone()]),
            Stated::Searched(Distribution::Categorical { choices }) => Some(choices.to_vec()),
            Stated::Searched(_) => None,
        }
    }

    /// The largest value that the parameter can have, of numbers.
    pub fn largest(&self, name: &str) -> Option<f64> {
        let param = self.params.iter().find(|param| param.name == name)?;
        match &param.values {
            Stated::Fixed(value) => value.as_f64(),
            Stated::Searched(Distribution::Float { high, .. }) => Some(*high),
            Stated::Searched(Distribution::Int { high, .. }) => Some(*high as f64),
            Stated::Searched(Distribution::Categorical { choices }) => {
                choices.iter().filter_map(Value::as_f64).reduce(f64::max)
            }
        }
    }

    /// Each parameter with its values in words.
    pub fn describe(&self) -> Vec<(&str, String)> {
        self.params.iter().map(|param| (&*param.name, param.to_string())).collect()
    }

    /// Checks that a study of the space `before` can go on with this one. By Optuna's rules ranges may become wider or
    /// narrower; kind, `log` and choices stay. Fixed values and conditions stay too, since trials do not record them.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] names the first parameter that breaks this.
    pub fn check_same_study(&self, before: &Self) -> Result<()> {
        let find = |space: &Self, name: &str| space.params.iter().find(|p| p.name == name).cloned();
        let names: BTreeSet<&str> =
            self.params.iter().chain(&before.params).map(|param| &*param.name).collect();
        for name in names {
            let (there, here) = (find(before, name), find(self, name));
            let rule = match (&there, &here) {
                (Some(there), Some(here)) => match (&there.values, &here.values) {
                    (Stated::Searched(a), Stated::Searched(b)) => {
                        a.check_compatible(name, b)?;
                        match there.when == here.when && there.each == here.each {
                            true => continue,
                            false => "a parameter keeps its conditions",
                        }
                    }
                    _ if there == here => continue,
                    _ => "a fixed value stays, since trials do not record it",
                },
                _ => "a study keeps its parameters",
            };
            let words = |param: Option<Declared>| param.map_or("nothing".into(), |param| param.to_string());
            let (before, now) = (words(there), words(here));
            return Err(Error::Incompatible { name: name.into(), rule, before, now });
        }
        Ok(())
    }
}

impl Declared {
    fn value(&self, s: &mut impl Suggest, name: &str) -> Result<Value> {
        match &self.values {
            Stated::Fixed(value) => Ok(value.clone()),
            Stated::Searched(distribution) => {
                Ok(distribution.external(s.suggest(name, distribution.clone())?))
            }
        }
    }

    fn depends_on(&self) -> impl Iterator<Item = &str> {
        self.when.iter().map(|condition| &*condition.param).chain(self.each.as_deref())
    }
}

impl std::fmt::Display for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.values {
            Stated::Fixed(value) => write!(f, "{value}")?,
            Stated::Searched(distribution) => write!(f, "{distribution}")?,
        }
        if let Some(count) = &self.each {
            write!(f, ", for each of `{count}`")?;
        }
        for Condition { param, values } in &self.when {
            let values: Vec<String> = values.iter().map(Value::to_string).collect();
            write!(f, ", where `{param}` is {}", values.join(" or "))?;
        }
        Ok(())
    }
}

/// The values of a trial, whatever the ranges.
struct Recorded<'t>(&'t FrozenTrial);

impl Suggest for Recorded<'_> {
    fn suggest(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        let known = self.0.param(name).ok_or_else(|| Error::UnknownParam {
            name: name.into(),
            place: format!("trial {}", self.0.number),
            known: self.0.params.iter().map(|p| p.name.to_string()).collect(),
        })?;
        let value = known.value();
        distribution.internal(&value).ok_or_else(|| Error::OutOfRange {
            name: name.into(),
            value: value.to_string(),
            distribution: distribution.to_string(),
        })
    }
}

type Item<'t> = (&'t Spanned<toml::de::DeString<'t>>, &'t Spanned<DeValue<'t>>);

/// The text that a space is read from.
struct Source<'t> {
    text: &'t str,
    place: &'t str,
}

const KEYS: [&str; 8] = ["low", "high", "log", "step", "choices", "value", "when", "each"];

impl Source<'_> {
    /// What is wrong at the byte `at`.
    fn error(
        &self,
        at: usize,
        key: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        let line =
            1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count();
        let mut place = format!("{}, line {line}", self.place);
        if !key.is_empty() {
            let _ = write!(place, ", `{key}`");
        }
        Error::SpaceFile { place, expected: expected.to_string(), found: found.to_string() }
    }

    fn scalar(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Value> {
        let wrong =
            |expected: &str| Err(self.error(value.span().start, key, expected, shown(value.get_ref())));
        match value.get_ref() {
            DeValue::String(text) => Ok(Value::from(text.as_ref())),
            DeValue::Boolean(flag) => Ok(Value::from(*flag)),
            DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) => Ok(Value::from(n)),
                Err(_) => wrong("a whole number of 64 bits"),
            },
            DeValue::Float(x) => {
                match x.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
                    Some(x) => Ok(Value::Number(x)),
                    None => wrong("a finite number"),
                }
            }
            _ => wrong("a number, a string, true or false"),
        }
    }

    /// A value that the program takes for the parameter.
    fn taken(&self, known: &Known, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Value> {
        let scalar = self.scalar(key, value)?;
        known.values.take(&scalar).ok_or_else(|| self.error(value.span().start, key, &known.values, scalar))
    }

    fn param(&self, known: &Known, at: usize, value: &Spanned<DeValue<'_>>) -> Result<Declared> {
        let name = known.name;
        let declared = |values, when, each| Declared { name: name.to_owned(), values, when, each };
        let DeValue::Table(table) = value.get_ref() else {
            if matches!(value.get_ref(), DeValue::Array(_)) {
                let expected = format!("{}, or a table such as {{ choices = […] }}", known.values);
                return Err(self.error(at, name, expected, "an array"));
            }
            let fixed = Stated::Fixed(self.taken(known, name, value)?);
            self.check_each(known, at, None)?;
            return Ok(declared(fixed, Vec::new(), None));
        };
        let mut entries: Vec<Item<'_>> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        if let Some((key, _)) = entries.iter().find(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
            let expected = format!("one of {}", KEYS.join(", "));
            let found = format!("`{}`", key.get_ref());
            return Err(self.error(key.span().start, name, expected, found));
        }
        let get = |key: &str| entries.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| *value);
        let values = self.values(known, at, &get)?;
        let when = get("when").map(|value| self.conditions(name, value)).transpose()?.unwrap_or_default();
        let each = match get("each").map(|value| (value, value.get_ref())) {
            None => None,
            Some((_, DeValue::String(count))) => Some(count.as_ref().to_owned()),
            Some((value, other)) => {
                let expected = "the name of a parameter that says how many";
                return Err(self.error(value.span().start, &format!("{name}.each"), expected, shown(other)));
            }
        };
        self.check_each(known, at, each.as_deref())?;
        Ok(declared(values, when, each))
    }

    /// Checks that a parameter is there as many times as the program takes it.
    fn check_each(&self, known: &Known, at: usize, each: Option<&str>) -> Result<()> {
        if each == known.each {
            return Ok(());
        }
        let named =
            |each: Option<&str>| each.map_or("no `each`".to_owned(), |each| format!("each = \"{each}\""));
        Err(self.error(at, known.name, named(known.each), named(each)))
    }

    /// A range, choices or a fixed value.
    fn values<'a, 't: 'a>(
        &self,
        known: &Known,
        at: usize,
        get: &impl Fn(&str) -> Option<&'a Spanned<DeValue<'t>>>,
    ) -> Result<Stated> {
        let name = known.name;
        let is_range = ["low", "high", "log", "step"].iter().any(|key| get(key).is_some());
        let ways = [is_range, get("choices").is_some(), get("value").is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            let ways: Vec<&str> = ["a range", "`choices`", "`value`"]
                .into_iter()
                .zip(ways)
                .filter(|w| w.1)
                .map(|w| w.0)
                .collect();
            let found = if ways.is_empty() { "none of them".to_owned() } else { ways.join(" and ") };
            return Err(self.error(at, name, "`low` and `high`, or `choices`, or `value`", found));
        }
        if let Some(value) = get("value") {
            return Ok(Stated::Fixed(self.taken(known, &format!("{name}.value"), value)?));
        }
        if let Some(value) = get("choices") {
            let key = format!("{name}.choices");
            let at = value.span().start;
            let DeValue::Array(array) = value.get_ref() else {
                return Err(self.error(at, &key, "an array", shown(value.get_ref())));
            };
            let mut choices: Vec<Value> = Vec::new();
            for choice in array.iter() {
                let taken = self.taken(known, &key, choice)?;
                if choices.iter().any(|known| same(known, &taken)) {
                    let found = format!("{taken} twice");
                    return Err(self.error(choice.span().start, &key, "each choice once", found));
                }
                choices.push(taken);
            }
            if choices.is_empty() {
                return Err(self.error(at, &key, "one or more choices", "none"));
            }
            return Ok(Stated::Searched(Distribution::Categorical { choices: choices.into() }));
        }
        if !matches!(known.values, Values::Floats(..) | Values::Integers(..)) {
            let expected = format!("`choices` of {}", known.values);
            return Err(self.error(at, name, expected, "a range"));
        }
        let end = |end: &str| match get(end) {
            Some(value) => self.taken(known, &format!("{name}.{end}"), value),
            None => Err(self.error(at, name, "`low` and `high`", format!("no `{end}`"))),
        };
        let (low, high) = (end("low")?, end("high")?);
        let log = match get("log").map(|value| (value, value.get_ref())) {
            None => false,
            Some((_, DeValue::Boolean(log))) => *log,
            Some((value, other)) => {
                let key = format!("{name}.log");
                return Err(self.error(value.span().start, &key, "true or false", shown(other)));
            }
        };
        let step = get("step").map(|value| {
            let key = format!("{name}.step");
            let step = self.scalar(&key, value)?;
            let is_integer = matches!(known.values, Values::Integers(..));
            match if is_integer { step.as_i64().is_some() } else { step.as_f64().is_some() } {
                true => Ok(step),
                false => {
                    let expected = if is_integer { "a whole number" } else { "a number" };
                    Err(self.error(value.span().start, &key, expected, step))
                }
            }
        });
        let step = step.transpose()?;
        let distribution = match known.values {
            Values::Integers(..) => {
                let (low, high) = (low.as_i64().unwrap_or(0), high.as_i64().unwrap_or(0));
                let step = step.and_then(|step| step.as_i64()).unwrap_or(1);
                Distribution::int(name, IntRange { low, high, log, step })
            }
            _ => {
                let (low, high) = (low.as_f64().unwrap_or(0.0), high.as_f64().unwrap_or(0.0));
                let step = step.and_then(|step| step.as_f64());
                Distribution::float(name, FloatRange { low, high, log, step })
            }
        };
        match distribution {
            Ok(distribution) => Ok(Stated::Searched(distribution)),
            Err(Error::InvalidSpace { rule, found, .. }) => Err(self.error(at, name, rule, found)),
            Err(error) => Err(error),
        }
    }

    fn conditions(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<Condition>> {
        let key = format!("{name}.when");
        let DeValue::Table(table) = value.get_ref() else {
            let expected = "a table such as { optimizer = \"sgd\" }";
            return Err(self.error(value.span().start, &key, expected, shown(value.get_ref())));
        };
        let mut entries: Vec<Item<'_>> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let condition = |(param, value): Item<'_>| {
            let values = match value.get_ref() {
                DeValue::Array(array) => array.iter().map(|v| self.scalar(&key, v)).collect::<Result<_>>()?,
                _ => vec![self.scalar(&key, value)?],
            };
            Ok(Condition { param: param.get_ref().as_ref().to_owned(), values })
        };
        entries.into_iter().map(condition).collect()
    }

    /// Checks what a parameter depends on: that it is there, and can have the values that are named.
    fn check_conditions(&self, at: usize, param: &Declared, all: &[(usize, Declared)]) -> Result<()> {
        let find = |key: &str, name: &str| {
            let found = all.iter().map(|(_, other)| other).find(|other| other.name == name);
            let other = found.ok_or_else(|| {
                let names: Vec<&str> = all.iter().map(|(_, other)| &*other.name).collect();
                let expected = format!("a parameter of this space: {}", names.join(", "));
                self.error(at, key, expected, format!("`{name}`"))
            })?;
            match other.each {
                Some(_) => {
                    let found = format!("`{name}`, which has `each`");
                    Err(self.error(at, key, "a parameter that is there once", found))
                }
                None => Ok(other),
            }
        };
        for Condition { param: name, values } in &param.when {
            let key = format!("{}.when.{name}", param.name);
            let other = find(&key, name)?;
            if values.is_empty() {
                return Err(self.error(at, &key, "one or more values", "none"));
            }
            for value in values {
                let possible = match &other.values {
                    Stated::Fixed(fixed) => same(fixed, value),
                    Stated::Searched(Distribution::Float { .. }) => {
                        let expected = "a parameter of choices or whole numbers";
                        return Err(self.error(at, &key, expected, format!("`{name}`, {other}")));
                    }
                    Stated::Searched(distribution) => {
                        distribution.internal(value).is_some_and(|value| distribution.contains(value))
                    }
                };
                if !possible {
                    return Err(self.error(
                        at,
                        &key,
                        format!("a value of `{name}`, {}", other.values),
                        value,
                    ));
                }
            }
        }
        if let Some(count) = &param.each {
            let key = format!("{}.each", param.name);
            let other = find(&key, count)?;
            let is_count = match &other.values {
                Stated::Fixed(value) => value.as_u64().is_some(),
                Stated::Searched(Distribution::Int { low, .. }) => *low >= 0,
                Stated::Searched(Distribution::Categorical { choices }) => {
                    choices.iter().all(|choice| choice.as_u64().is_some())
                }
                Stated::Searched(Distribution::Float { .. }) => false,
            };
            if !is_count {
                let expected = "a parameter of whole numbers of at least 0";
                return Err(self.error(at, &key, expected, format!("`{count}`, {other}")));
            }
        }
        Ok(())
    }

    /// The parameters in their order, but those that others depend on before these.
    fn in_order(&self, mut rest: Vec<(usize, Declared)>) -> Result<Vec<Declared>> {
        let mut sorted: Vec<Declared> = Vec::new();
        while !rest.is_empty() {
            let ready =
                |param: &Declared| param.depends_on().all(|name| sorted.iter().any(|p| p.name == name));
            match rest.iter().position(|(_, param)| ready(param)) {
                Some(place) => sorted.push(rest.remove(place).1),
                None => {
                    // Each of the rest depends on one of the rest, so a walk comes back to where it was.
                    let mut walk: Vec<usize> = vec![0];
                    let next = |i: usize| {
                        let mut names = rest[i].1.depends_on();
                        names.find_map(|name| rest.iter().position(|(_, p)| p.name == name)).unwrap_or(i)
                    };
                    let start = loop {
                        let to = next(walk[walk.len() - 1]);
                        if let Some(start) = walk.iter().position(|i| *i == to) {
                            walk.push(to);
                            break start;
                        }
                        walk.push(to);
                    };
                    let names: Vec<&str> = walk[start..].iter().map(|&i| &*rest[i].1.name).collect();
                    let (at, param) = &rest[walk[start]];
                    let expected = "conditions without a circle";
                    return Err(self.error(*at, &param.name, expected, names.join(" → ")));
                }
            }
        }
        Ok(sorted)
    }
}

impl std::fmt::Display for Stated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(value) => write!(f, "{value}"),
            Self::Searched(distribution) => write!(f, "{distribution}"),
        }
    }
}

/// A value of TOML in words.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(x) => x.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
