//! A batch in shards, by one process or several.
//!
//! A batch is always cut into the same shards, whoever computes them. What they give is added up along one binary tree over the
//! shards: its lower part by each process for its own, the upper part by pairs of processes. Both partners of a pair add the
//! same two numbers, so all end with the same bytes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, ModuleT, Tensor, Var};
use firstsight_data::{Batch, Batches, Shard};
use firstsight_ops::PackedWeights;

use crate::communicator::{check_same, gather};
use crate::model::is_statistic;
use crate::{Communicator, Epoch, Error, FitConfig, Inference, Result};

/// What a forward and a backward pass of a batch give.
pub(crate) struct Pass {
    pub(crate) outputs: Tensor,
    pub(crate) loss: Tensor,
    pub(crate) gradients: GradStore,
}

/// What a step needs of a whole batch.
pub(crate) struct Step {
    /// Mean over the examples.
    pub(crate) loss: f64,
    /// (B, K).
    pub(crate) outputs: Tensor,
    /// (B,) or (B, L).
    pub(crate) labels: Tensor,
    /// Of the mean loss.
    pub(crate) gradients: GradStore,
}

/// Checks that the processes can share out so many shards of a batch.
///
/// # Errors
///
/// [`Error::Shards`] where a number is no power of two, or there are more processes than shards.
pub fn check_shards(shards: usize, communicator: &dyn Communicator) -> Result<()> {
    let processes = communicator.size();
    match shards.is_power_of_two() && processes.is_power_of_two() && processes <= shards {
        true => Ok(()),
        false => Err(Error::Shards { shards, processes }),
    }
}

/// The shards of each batch that this process computes.
pub(crate) struct Sharding<'a> {
    communicator: &'a dyn Communicator,
    /// Number of shards of a batch.
    shards: usize,
    own: Range<usize>,
    vars: Vec<Var>,
    /// Running statistics, which forward passes change.
    statistics: Vec<Var>,
}

impl<'a> Sharding<'a> {
    /// # Errors
    ///
    /// Those of [`check_shards`].
    pub(crate) fn new(config: &'a FitConfig, trained: Vec<Var>, named: &[(String, Var)]) -> Result<Self> {
        let (shards, communicator) = (config.shards, &*config.communicator);
        check_shards(shards, communicator)?;
        let (rank, per_process) = (communicator.rank(), shards / communicator.size());
        let statistic = |(name, var): &(String, Var)| {
            (is_statistic(name) && var.dtype() == DType::F32).then(|| var.clone())
        };
        Ok(Self {
            communicator,
            shards,
            own: rank * per_process..(rank + 1) * per_process,
            vars: trained,
            statistics: named.iter().filter_map(statistic).collect(),
        })
    }

    /// Checks that all processes begin with the same data, history and variables.
    pub(crate) fn check_start(
        &self,
        config: &FitConfig,
        train: &dyn Batches,
        val: Option<&dyn Batches>,
        history: &[Epoch],
        vars: &[(String, Var)],
    ) -> Result<()> {
        if self.communicator.size() == 1 {
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        for (name, var) in vars {
            name.hash(&mut hasher);
            let values = var.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            values.iter().for_each(|value| value.to_bits().hash(&mut hasher));
        }
        let images = (train.n_examples(), train.n_batches(), val.map(Batches::n_examples));
        let FitConfig {
            epochs,
            loss,
            metrics,
            optimizer,
            schedule,
            clip_norm,
            accumulation_steps,
            shards,
            ..
        } = config;
        let settings = (epochs, loss, metrics, optimizer, schedule, clip_norm, accumulation_steps, shards);
        check_same(self.communicator, "the numbers of examples", &format!("{images:?}"))?;
        check_same(self.communicator, "the settings", &format!("{settings:?}"))?;
        check_same(self.communicator, "the finished epochs", &format!("{history:?}"))?;
        check_same(self.communicator, "the weights at the start", &format!("{:016x}", hasher.finish()))
    }

    /// The own shards of each batch of an epoch.
    pub(crate) fn epoch<'b>(
        &self,
        train: &'b dyn Batches,
        epoch: usize,
    ) -> impl Iterator<Item = Result<Vec<Shard>>> + use<'b> {
        let (n, own, n_batches) = (self.shards, self.own.clone(), train.n_batches());
        let numbers = (0..n_batches).flat_map(|batch| own.clone().map(move |shard| batch * n + shard));
        let mut shards = train.shards(epoch, n, numbers.collect());
        (0..n_batches).map_while(move |_| {
            let of_batch = shards.by_ref().take(own.len()).collect::<firstsight_data::Result<Vec<_>>>();
            match of_batch {
                Ok(shards) if shards.is_empty() => None,
                of_batch => Some(of_batch.map_err(Error::from)),
            }
        })
    }

    /// The whole batch's step, from the own shards. `pass` is given a shard and its share of the batch's examples, by which it
    /// multiplies the loss.
    pub(crate) fn step(
        &self,
        shards: Result<Vec<Shard>>,
        mut pass: impl FnMut(&Batch, f64) -> Result<Pass>,
    ) -> Result<Step> {
        if self.shards == 1 {
            let whole = shards?.pop().and_then(|shard| shard.batch);
            let whole = whole.ok_or(Error::Empty("training"))?;
            let Pass { outputs, loss, gradients } = pass(&whole, 1.0)?;
            let loss = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            return Ok(Step { loss, outputs: outputs.detach(), labels: whole.labels, gradients });
        }
        let before: Vec<Tensor> =
            self.statistics.iter().map(|var| var.copy()).collect::<candle_core::Result<_>>()?;
        let own = shards.and_then(|shards| self.own_sum(&shards, &before, &mut pass));
        let (sum, rows) = own.map_or_else(|error| (None, Err(error)), |(sum, rows)| (Some(sum), Ok(rows)));
        let rows = gather(self.communicator, rows)?;
        let sum = self.sum_over_processes(sum.unwrap_or_default())?;
        let batches = rows.iter().map(|rows| decode(rows)).collect::<Result<Vec<_>>>()?.concat();
        let outputs: Vec<&Tensor> = batches.iter().map(|batch| &batch.inputs).collect();
        let labels: Vec<&Tensor> = batches.iter().map(|batch| &batch.labels).collect();
        let (gradients, loss) = self.unpack(&sum, &before)?;
        Ok(Step { loss, outputs: Tensor::cat(&outputs, 0)?, labels: Tensor::cat(&labels, 0)?, gradients })
    }

    /// The sum over the own shards, and their outputs and labels as bytes.
    fn own_sum(
        &self,
        shards: &[Shard],
        before: &[Tensor],
        pass: &mut impl FnMut(&Batch, f64) -> Result<Pass>,
    ) -> Result<(Vec<f32>, Vec<u8>)> {
        let (mut tree, mut rows) = (TreeSum::default(), Vec::new());
        for Shard { batch, of } in shards {
            let Some(batch) = batch else {
                tree.add(vec![0.0; self.packed_len()]);
                continue;
            };
            set(&self.statistics, before)?;
            let share = batch.inputs.dim(0)? as f64 / *of as f64;
            let pass = pass(batch, share)?;
            encode(&pass.outputs, &batch.labels, &mut rows)?;
            tree.add(self.pack(&pass, share, before)?);
        }
        Ok((tree.total(), rows))
    }

    /// The sum over all processes, from that over the own shards.
    fn sum_over_processes(&self, mut sum: Vec<f32>) -> Result<Vec<f32>> {
        let (rank, size) = (self.communicator.rank(), self.communicator.size());
        let mut theirs = vec![0.0; if size > 1 { sum.len() } else { 0 }];
        let mut distance = 1;
        while distance < size {
            self.communicator.exchange(rank ^ distance, &sum, &mut theirs)?;
            add(&mut sum, &theirs);
            distance *= 2;
        }
        Ok(sum)
    }

    /// Length of [`Sharding::pack`].
    fn packed_len(&self) -> usize {
        let values = |vars: &[Var]| vars.iter().map(|var| var.elem_count()).sum::<usize>();
        values(&self.vars) + self.vars.len() + values(&self.statistics) + 1
    }

    /// What is added up: gradients, whether each variable has one, changes of the statistics times the shard's share, loss.
    fn pack(&self, pass: &Pass, share: f64, before: &[Tensor]) -> Result<Vec<f32>> {
        let mut packed = Vec::with_capacity(self.packed_len());
        for var in &self.vars {
            match pass.gradients.get(var) {
                Some(gradient) => packed.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
                None => packed.resize(packed.len() + var.elem_count(), 0.0),
            }
        }
        packed.extend(self.vars.iter().map(|var| f32::from(u8::from(pass.gradients.get(var).is_some()))));
        for (var, before) in self.statistics.iter().zip(before) {
            let change = ((var.as_tensor().detach() - before)? * share)?;
            packed.extend(change.flatten_all()?.to_vec1::<f32>()?);
        }
        packed.push(pass.loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        Ok(packed)
    }

    /// Gradients and loss of a sum; sets the statistics.
    fn unpack(&self, mut sum: &[f32], before: &[Tensor]) -> Result<(GradStore, f64)> {
        let mut take = |n: usize| {
            let (first, rest) = sum.split_at(n.min(sum.len()));
            sum = rest;
            first
        };
        let values: Vec<&[f32]> = self.vars.iter().map(|var| take(var.elem_count())).collect();
        let is_there = take(self.vars.len());
        let mut gradients = GradStore::default();
        for ((var, values), &is_there) in self.vars.iter().zip(values).zip(is_there) {
            if is_there > 0.0 {
                gradients.insert(var, Tensor::from_slice(values, var.shape(), var.device())?);
            }
        }
        for (var, before) in self.statistics.iter().zip(before) {
            let change = Tensor::from_slice(take(var.elem_count()), var.shape(), var.device())?;
            var.set(&(before + change)?)?;
        }
        let loss = take(1).first().copied().unwrap_or(f32::NAN);
        Ok((gradients, f64::from(loss)))
    }
}

fn set(vars: &[Var], values: &[Tensor]) -> candle_core::Result<()> {
    vars.iter().zip(values).try_for_each(|(var, value)| var.set(value))
}

/// Adds up a power of two of vectors, as if in pairs, then pairs of pairs, with few of them in memory.
#[derive(Default)]
struct TreeSum {
    /// Number of vectors in each sum, and the sum; the numbers fall.
    sums: Vec<(usize, Vec<f32>)>,
}

impl TreeSum {
    fn add(&mut self, values: Vec<f32>) {
        let mut top = (1, values);
        while let Some((_, mut sum)) = self.sums.pop_if(|(n, _)| *n == top.0) {
            add(&mut sum, &top.1);
            top = (2 * top.0, sum);
        }
        self.sums.push(top);
    }

    fn total(mut self) -> Vec<f32> {
        self.sums.pop().map(|(_, sum)| sum).unwrap_or_default()
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

/// The outputs of a model as batches, to be measured with [`PassThrough`]: what several processes compute for an evaluation.
#[derive(Debug, Clone)]
pub struct OutputBatches(Vec<Batch>);

/// A model whose outputs are its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassThrough;

impl Module for PassThrough {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        Ok(xs.clone())
    }
}

impl OutputBatches {
    /// Each of n processes computes every n-th of `batches`, in inference mode, and gets the outputs for all of them, in their
    /// order, on the CPU.
    ///
    /// # Errors
    ///
    /// Those of the data, the model and [`gather()`].
    pub fn new(model: &impl ModuleT, batches: &dyn Batches, communicator: &dyn Communicator) -> Result<Self> {
        let (rank, size) = (communicator.rank(), communicator.size());
        let packed = PackedWeights::default();
        let inference = Inference::new(model, &packed);
        let own = (0..batches.n_batches()).skip(rank).step_by(size).collect();
        let mut rows = Vec::new();
        let computed = batches.shards(0, 1, own).try_for_each(|shard| match shard?.batch {
            Some(batch) => encode(&inference.forward(&batch.inputs)?, &batch.labels, &mut rows),
            None => Ok(()),
        });
        let all = gather(communicator, computed.map(|()| rows))?;
        let by_process = all.iter().map(|rows| decode(rows)).collect::<Result<Vec<_>>>()?;
        let of = |batch: usize| by_process[batch % size].get(batch / size).cloned();
        Ok(Self((0..batches.n_batches()).map_while(of).collect()))
    }

    /// A number for each example, in their order, from those that this process has found for the batches that it computed.
    ///
    /// # Errors
    ///
    /// Those of [`Communicator::all_gather`].
    pub fn gather(&self, own: &[f32], communicator: &dyn Communicator) -> Result<Vec<f32>> {
        let bytes: Vec<u8> = own.iter().copied().flat_map(f32::to_le_bytes).collect();
        let all = communicator.all_gather(&bytes)?;
        let mut by_process: Vec<_> = all.iter().map(|bytes| bytes.as_chunks::<4>().0.iter()).collect();
        let mut numbers = Vec::with_capacity(self.n_examples());
        for (b, batch) in self.0.iter().enumerate() {
            let of_batch = by_process[b % communicator.size()].by_ref().take(batch.inputs.dim(0)?);
            numbers.extend(of_batch.copied().map(f32::from_le_bytes));
        }
        Ok(numbers)
    }
}

impl Batches for OutputBatches {
    fn epoch(&self, _epoch: usize) -> Box<dyn Iterator<Item = firstsight_data::Result<Batch>> + '_> {
        Box::new(self.0.iter().cloned().map(Ok))
    }

    fn n_batches(&self) -> usize {
        self.0.len()
    }

    fn n_examples(&self) -> usize {
        self.0.iter().map(|batch| batch.inputs.dims()[0]).sum()
    }
}

/// Appends outputs (n, K), and labels (n,) or (n, L): n, K, L or 0, whether labels are u32; then the values.
fn encode(outputs: &Tensor, labels: &Tensor, bytes: &mut Vec<u8>) -> Result<()> {
    let (n, k) = outputs.dims2()?;
    let columns = labels.dims().get(1).copied().unwrap_or(0);
    let is_u32 = labels.dtype() == DType::U32;
    for number in [n, k, columns, usize::from(is_u32)] {
        bytes.extend((number as u32).to_le_bytes());
    }
    let floats = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    bytes.extend(floats(outputs)?.into_iter().flat_map(f32::to_le_bytes));
    match is_u32 {
        true => bytes.extend(labels.flatten_all()?.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes)),
        false => bytes.extend(floats(labels)?.into_iter().flat_map(f32::to_le_bytes)),
    }
    Ok(())
}

/// What [`encode`] has appended, each time, as batches on the CPU.
fn decode(bytes: &[u8]) -> Result<Vec<Batch>> {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut words = words.iter().copied();
    let mut batches = Vec::new();
    let cut_off = || Error::Communication("outputs of another process are cut off".to_owned());
    while let Some(n) = words.next() {
        let mut number = || words.next().map(|word| u32::from_le_bytes(word) as usize).ok_or_else(cut_off);
        let (n, k, columns, is_u32) = (u32::from_le_bytes(n) as usize, number()?, number()?, number()? == 1);
        let outputs: Vec<f32> = words.by_ref().take(n * k).map(f32::from_le_bytes).collect();
        let labels: Vec<[u8; 4]> = words.by_ref().take(n * columns.max(1)).collect();
        let shape = if columns == 0 { vec![n] } else { vec![n, columns] };
        let labels = match is_u32 {
            true => Tensor::from_iter(labels.into_iter().map(u32::from_le_bytes), &Device::Cpu)?,
            false => Tensor::from_iter(labels.into_iter().map(f32::from_le_bytes), &Device::Cpu)?,
        };
        let inputs = Tensor::from_vec(outputs, (n, k), &Device::Cpu)?;
        batches.push(Batch { inputs, labels: labels.reshape(shape)? });
    }
    if rest.is_empty() { Ok(batches) } else { Err(cut_off()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_pairs_of_pairs() {
        let values = [1e8f32, 1.0, -1e8, 1.0, 3.0, 1e-8, 5.0, 7.0];
        let mut tree = TreeSum::default();
        values.iter().for_each(|&value| tree.add(vec![value]));
        let [a, b, c, d, e, f, g, h] = values;
        assert_eq!(tree.total(), [((a + b) + (c + d)) + ((e + f) + (g + h))]);
    }

    #[test]
    fn outputs_and_labels_come_back() {
        let tensor =
            |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let classes = Tensor::new(&[3u32, u32::MAX], &Device::Cpu).unwrap();
        let (mut bytes, outputs) = (Vec::new(), tensor(&[1.5, f32::NAN, -0.0, 4.0], &[2, 2]));
        encode(&outputs, &classes, &mut bytes).unwrap();
        encode(&outputs, &tensor(&[0.0, 1.0, 0.5, 0.25, 1.0, 0.0], &[2, 3]), &mut bytes).unwrap();
        encode(&outputs, &tensor(&[0.5, 2.0], &[2]), &mut bytes).unwrap();
        let batches = decode(&bytes).unwrap();
        let bits = |t: &Tensor| -> Vec<u32> {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
        };
        assert!(batches.iter().all(|batch| bits(&batch.inputs) == bits(&outputs)));
        assert_eq!(batches[0].labels.to_vec1::<u32>().unwrap(), [3, u32::MAX]);
        assert_eq!(batches[1].labels.to_vec2::<f32>().unwrap(), [[0.0, 1.0, 0.5], [0.25, 1.0, 0.0]]);
        assert_eq!(batches[2].labels.to_vec1::<f32>().unwrap(), [0.5, 2.0]);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
    }
}
