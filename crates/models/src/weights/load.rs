//! A file's tensors as the values of variables: all or none.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::safetensors::Load as _;
use candle_core::{DType, Device, Tensor, Var};
use safetensors::SafeTensors;

use super::mismatch::{Mismatch, Misshapen, Mistyped, NotFinite, NotFiniteTensor};
use super::names::{self, OtherNames, Renaming, Stranger};
use super::resize::Resizing;
use super::shards;
use super::{TensorHeader, WeightsHeader};
use crate::{Error, Result};

/// What a file may hold besides the variables under their own names.
pub(crate) struct Rules<'a> {
    /// Other tensors, which are left out.
    pub(crate) ignored: &'a dyn Fn(&str) -> bool,
    /// Names of others that are left out.
    pub(crate) left_out: &'static [&'static str],
    /// Other names of the same tensors.
    pub(crate) other_names: &'static [OtherNames],
    /// Networks that are not this one.
    pub(crate) strangers: &'static [Stranger],
    /// A convolution's weight that may be for more channels than its variable, which has one.
    pub(crate) summed: Option<&'a str>,
    /// How a variable is made of a tensor for another size of input, if this is one.
    pub(crate) resizing: &'a dyn Fn(&str, &[usize]) -> Option<Resizing>,
}

impl Rules<'_> {
    /// The variables under their own names and nothing else.
    pub(crate) const PLAIN: Self = Rules {
        ignored: &|_| false,
        left_out: &[],
        other_names: &[],
        strangers: &[],
        summed: None,
        resizing: &|_, _| None,
    };

    /// How a file's names are read as `expected` ones, and the file's names for the parts of each.
    pub(crate) fn renaming<'h>(
        &self,
        header: &'h WeightsHeader,
        expected: &[String],
    ) -> (Renaming, BTreeMap<String, Vec<&'h str>>) {
        let theirs = header.tensors.iter().map(|tensor| tensor.name.as_str());
        let theirs: Vec<&str> = theirs.filter(|name| !names::is_meaningless(name)).collect();
        let expected = expected.iter().map(String::as_str);
        let renaming = Renaming::find(&theirs, expected, self.other_names, |name| self.ignores(name));
        let places = renaming.apply(&theirs);
        (renaming, places)
    }

    fn ignores(&self, name: &str) -> bool {
        (self.ignored)(name) || self.left_out.contains(&name)
    }

    /// Whether a tensor of the shape `found` can become the variable.
    fn takes(&self, name: &str, expected: &[usize], found: &[usize]) -> bool {
        same_but_for_ones(expected, found)
            || self.sums(name, expected, found)
            || (self.resizing)(name, found).is_some()
    }

    /// The value of the variable.
    fn fit(&self, name: &str, expected: &[usize], value: Tensor) -> Result<Tensor> {
        // Of the same shape, it may still be for another size.
        if let Some(resizing) = (self.resizing)(name, value.dims()) {
            return Ok(resizing.resize(&value)?);
        }
        match same_but_for_ones(expected, value.dims()) {
            true => Ok(value.reshape(expected)?),
            false => Ok(value.sum_keepdim(1)?),
        }
    }

    /// Whether the channels of this tensor are summed.
    fn sums(&self, name: &str, expected: &[usize], found: &[usize]) -> bool {
        let (&[n_out, 1, height, width], &[o, channels, h, w]) = (expected, found) else { return false };
        self.summed == Some(name) && (n_out, height, width) == (o, h, w) && channels > 1
    }
}

/// Sets `vars` from a safetensors file, or from those of an index.
pub(crate) fn load(
    path: &Path,
    vars: &BTreeMap<String, Var>,
    device: &Device,
    rules: &Rules<'_>,
) -> Result<Renaming> {
    let header = WeightsHeader::read(path)?;
    let expected: Vec<String> = vars.keys().cloned().collect();
    let (renaming, places) = rules.renaming(&header, &expected);
    let mismatch = compare(path, vars, &header, &renaming, &places, rules);
    if !mismatch.is_empty() {
        return Err(Error::Mismatch(Box::new(mismatch)));
    }
    let values = read(path, vars, &places, rules)?;
    for (name, value) in values {
        if let Some(var) = vars.get(&name) {
            var.set(&value.to_device(device)?)?;
        }
    }
    Ok(renaming)
}

fn compare(
    path: &Path,
    vars: &BTreeMap<String, Var>,
    header: &WeightsHeader,
    renaming: &Renaming,
    places: &BTreeMap<String, Vec<&str>>,
    rules: &Rules<'_>,
) -> Mismatch {
    let stranger = rules.strangers.iter().find(|stranger| places.contains_key(stranger.tensor));
    let mut mismatch = Mismatch {
        path: path.to_path_buf(),
        found: stranger.map(|stranger| stranger.what),
        renaming: renaming.clone(),
        ..Mismatch::default()
    };
    let found = |name: &str| joined(header, places.get(name)?);
    for (name, var) in vars {
        let name = name.clone();
        match found(&name) {
            None => mismatch.missing.push(name),
            Some(found) if !rules.takes(&name, var.dims(), &found.shape) => {
                let (expected, found) = (var.dims().to_vec(), found.shape);
                mismatch.misshapen.push(Misshapen { name, expected, found });
            }
            Some(found) if !found.is_float() => {
                mismatch.mistyped.push(Mistyped { name, found: found.dtype });
            }
            Some(_) => {}
        }
    }
    let unexpected = places.keys().filter(|name| !vars.contains_key(*name) && !rules.ignores(name));
    mismatch.unexpected = unexpected.cloned().collect();
    mismatch
}

/// The tensor that the parts make, joined along the first axis. Its type is not a floating-point one if one part's is not.
fn joined(header: &WeightsHeader, parts: &[&str]) -> Option<TensorHeader> {
    let mut parts = parts.iter().map(|part| header.get(part));
    let mut whole = parts.next()??.clone();
    for part in parts {
        let part = part?;
        match (whole.shape.as_mut_slice(), part.shape.as_slice()) {
            ([n, rest @ ..], [more, others @ ..]) if *rest == *others => *n += more,
            // Shapes that cannot be joined are no variable's.
            _ => return Some(part.clone()),
        }
        if !part.is_float() {
            whole.dtype.clone_from(&part.dtype);
        }
    }
    Some(whole)
}

/// The values of the variables, of their type and shape, all finite.
fn read(
    path: &Path,
    vars: &BTreeMap<String, Var>,
    places: &BTreeMap<String, Vec<&str>>,
    rules: &Rules<'_>,
) -> Result<Vec<(String, Tensor)>> {
    let files = match shards::is_index(path) {
        true => shards::files(path)?,
        false => vec![path.to_path_buf()],
    };
    let (mut values, mut wrong) = (Vec::with_capacity(vars.len()), Vec::new());
    let mut parts: BTreeMap<&str, Tensor> = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|source| Error::Io { path: file.clone(), source })?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|source| Error::Safetensors { path: file.clone(), source })?;
        for (name, var) in vars {
            let Some(names) = places.get(name) else { continue };
            for part in names {
                if let Ok(view) = tensors.tensor(part) {
                    parts.insert(part, view.load(&Device::Cpu)?.to_dtype(var.dtype())?);
                }
            }
            if !names.iter().all(|part| parts.contains_key(part)) {
                continue;
            }
            let found: Vec<Tensor> = names.iter().filter_map(|part| parts.remove(part)).collect();
            let value = match found.as_slice() {
                [whole] => whole.clone(),
                _ => Tensor::cat(&found, 0)?,
            };
            let value = rules.fit(name, var.dims(), value)?;
            match not_finite(name, &value)? {
                Some(tensor) => wrong.push(tensor),
                None => values.push((name.clone(), value)),
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(values),
        false => {
            wrong.sort_by(|a, b| a.name.cmp(&b.name));
            Err(Error::NotFinite(Box::new(NotFinite { path: path.to_path_buf(), tensors: wrong })))
        }
    }
}

/// Whether two shapes differ in axes of length 1 at most: a pointwise convolution is a dense layer.
fn same_but_for_ones(a: &[usize], b: &[usize]) -> bool {
    fn axes(shape: &[usize]) -> impl Iterator<Item = &usize> {
        shape.iter().filter(|n| **n != 1)
    }
    axes(a).eq(axes(b))
}

fn not_finite(name: &str, value: &Tensor) -> Result<Option<NotFiniteTensor>> {
    // NaN or infinity times zero is NaN, and so is any sum with it.
    if !value.affine(0.0, 0.0)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_nan() {
        return Ok(None);
    }
    let values = value.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let count = |is: fn(f64) -> bool| values.iter().filter(|v| is(**v)).count();
    let (nan, infinite) = (count(f64::is_nan), count(f64::is_infinite));
    Ok(Some(NotFiniteTensor { name: name.to_owned(), nan, infinite }))
}
