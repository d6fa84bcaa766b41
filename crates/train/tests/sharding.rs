//! Shards, and several processes that share them out. Here the processes are threads.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use candle_core::{Device, ModuleT as _, Tensor, Var};
use firstsight_data::{
    Augmentation, Batches as _, ImageDataset, Loader, LoaderConfig, Mix, Normalize, Sampling, TensorBatches,
};
use firstsight_models::networks::MOBILENET_V2;
use firstsight_models::{ImageClassifier, Init, InputShape, Mlp, MlpConfig, MlpOutput, Params};
use firstsight_ops::Activation;
use firstsight_train::callbacks::{Checkpoint, EarlyStopping};
use firstsight_train::{
    Accuracy, Alone, BatchEnd, Callback, Communicator, CrossEntropy, Error, FitConfig, History, Monitor,
    OptimizerConfig, OutputBatches, Result, StopReason, Trainable, fit,
};

/// A process that is a thread.
#[derive(Debug)]
struct Thread {
    rank: usize,
    all: Arc<All>,
}

#[derive(Debug)]
struct All {
    said: Mutex<Vec<Vec<u8>>>,
    together: Barrier,
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.all.said.lock().unwrap().len()
    }

    fn exchange(&self, partner: usize, own: &[f32], theirs: &mut [f32]) -> Result<()> {
        let bytes: Vec<u8> = own.iter().copied().flat_map(f32::to_le_bytes).collect();
        let all = self.all_gather(&bytes)?;
        let values = all[partner].as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes);
        theirs.iter_mut().zip(values).for_each(|(theirs, value)| *theirs = value);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        *bytes = self.all_gather(bytes)?.swap_remove(0);
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.all.said.lock().unwrap()[self.rank] = own.to_vec();
        self.all.together.wait();
        let all = self.all.said.lock().unwrap().clone();
        self.all.together.wait();
        Ok(all)
    }

    fn barrier(&self) -> Result<()> {
        self.all_gather(&[]).map(drop)
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

/// Runs `work` in `n` processes, and returns what they found by rank.
fn processes<T: Send>(n: usize, work: impl Fn(Arc<dyn Communicator>) -> T + Sync) -> Vec<T> {
    let all = Arc::new(All { said: Mutex::new(vec![Vec::new(); n]), together: Barrier::new(n) });
    std::thread::scope(|scope| {
        let start = |rank| {
            let (process, work) = (Thread { rank, all: all.clone() }, &work);
            scope.spawn(move || work(Arc::new(process)))
        };
        let threads: Vec<_> = (0..n).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn tensors(n: usize) -> (Tensor, Tensor) {
    let point = |i: usize| [(i as f32 * 0.7).sin() + (i % 3) as f32, (i as f32 * 1.3).cos()];
    let inputs = Tensor::from_iter((0..n).flat_map(point), &Device::Cpu).unwrap().reshape((n, 2)).unwrap();
    (inputs, Tensor::from_iter((0..n).map(|i| (i % 3) as u32), &Device::Cpu).unwrap())
}

fn mlp() -> (Mlp, Params) {
    let params = Params::seeded(1, &Device::Cpu);
    let config = MlpConfig {
        n_in: 2,
        hidden: vec![24],
        activation: Activation::Tanh,
        n_out: 3,
        output: MlpOutput::Linear,
        init: Init::Keras,
    };
    (Mlp::new(&config, &params.builder()).unwrap(), params)
}

fn values(params: &Params) -> Vec<f32> {
    let values = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    params.named().iter().flat_map(|(_, var)| values(var)).collect()
}

fn bits(params: &Params) -> Vec<u32> {
    values(params).iter().map(|value| value.to_bits()).collect()
}

/// One epoch of gradient descent on `n` points in batches of 16.
fn descend(n: usize, shards: usize) -> (History, Vec<f32>) {
    let (inputs, labels) = tensors(n);
    let train = TensorBatches::new(inputs, labels, 16, Sampling::Shuffled { seed: 2 }).unwrap();
    let (network, params) = mlp();
    let config =
        FitConfig::new(1, CrossEntropy, OptimizerConfig::sgd(0.5, 0.0)).metric(Accuracy).shards(shards);
    let model = Trainable::new(&network, params.named());
    let history = fit(&model, &train, None, &config, &mut []).unwrap();
    (history, values(&params))
}

#[test]
fn the_gradient_of_shards_is_that_of_the_whole_batch() {
    // The last batches have 16, 3 and 1 examples for 4 shards.
    for n in [32, 35, 33] {
        let ((whole, expected), (sharded, found)) = (descend(n, 1), descend(n, 4));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{n} examples: {found} {expected}");
        }
        let (whole, sharded) = (&whole.epochs[0].train, &sharded.epochs[0].train);
        assert_eq!((whole.n, whole.get(&Accuracy)), (sharded.n, sharded.get(&Accuracy)));
        assert!((whole.loss - sharded.loss).abs() < 1e-5, "{} {}", whole.loss, sharded.loss);
    }
    assert_ne!(descend(35, 1).1, descend(35, 4).1, "four sums are rounded otherwise than one");
    assert_eq!(descend(35, 4), descend(35, 4));
}

/// Noise with a bright corner that tells the class, 32x32x3.
fn images(n: usize) -> ImageDataset {
    let byte = |i: usize| {
        let (image, pixel) = (i / 3072, i % 3072);
        let noise = (i.wrapping_mul(2_654_435_761) >> 13) % 100;
        let bright = pixel / 96 < 16 && (pixel % 96 < 48) == (image % 2 == 0);
        (noise + if bright { 150 } else { 0 }) as u8
    };
    let labels = (0..n).map(|i| (i % 2) as u32).collect();
    let classes = vec!["left".to_owned(), "right".to_owned()];
    ImageDataset::from_pixels((0..n * 3072).map(byte).collect(), (32, 32, 3), labels, classes).unwrap()
}

fn loader(n: usize, sampling: Sampling) -> Loader {
    let normalize = Normalize { mean: vec![0.5; 3], std: vec![0.5; 3] };
    let config = LoaderConfig { batch_size: 8, sampling, normalize, prefetch: 2 };
    Loader::new(images(n), config, &Device::Cpu).unwrap()
}

/// Trains a network with batch norm on augmented images in `folder`, going on from its checkpoint; process 0 writes.
fn train(folder: &Path, epochs: usize, communicator: Arc<dyn Communicator>) -> (History, Vec<u32>) {
    let augmentation = Augmentation { mix: Some(Mix::Mixup(0.2)), ..Augmentation::photos(3) };
    let train = loader(21, Sampling::Shuffled { seed: 3 }).augmented(augmentation).unwrap();
    let val = loader(19, Sampling::Sequential);
    let params = Params::seeded(1, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let network = ImageClassifier::new(&MOBILENET_V2, input, 2, MOBILENET_V2.init, &params).unwrap();
    let is_root = communicator.rank() == 0;
    let config = FitConfig::new(epochs, CrossEntropy, OptimizerConfig::adam_keras(1e-3))
        .metric(Accuracy)
        .clip_norm(1.0)
        .shards(4)
        .communicator(communicator);
    let monitor = || Monitor::val(Accuracy);
    let mut stopping = EarlyStopping::new(monitor(), 5);
    let mut checkpoint = Checkpoint::new(folder, monitor(), "mobilenet").resume(true).writes(is_root);
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut stopping, &mut checkpoint];
    let model = Trainable::new(&network, network.named_vars());
    let history = fit(&model, &train, Some(&val), &config, callbacks).unwrap();
    (history, bits(&params))
}

#[test]
fn any_number_of_processes_gives_the_same_bytes_also_across_a_resumption() {
    let run = |by: [usize; 2]| {
        let folder = tempfile::tempdir().unwrap();
        processes(by[0], |communicator| train(folder.path(), 1, communicator));
        let found = processes(by[1], |communicator| train(folder.path(), 2, communicator));
        assert!(found.iter().all(|other| *other == found[0]), "all processes end with the same");
        let file = |name| std::fs::read(folder.path().join(name)).unwrap();
        (found[0].clone(), file("last.safetensors"), file("best.safetensors"))
    };
    let expected = run([1, 1]);
    for by in [[2, 2], [4, 1], [1, 4]] {
        assert!(run(by) == expected, "{by:?}");
    }
}

#[test]
fn a_process_without_examples_takes_the_same_step() {
    // The last batch has one example for four shards, so that the second process has none.
    let run = |n: usize| {
        processes(n, |communicator| {
            let (inputs, labels) = tensors(17);
            let train = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
            let (network, params) = mlp();
            let config = FitConfig::new(2, CrossEntropy, OptimizerConfig::sgd(0.1, 0.9)).shards(4);
            let config = config.communicator(communicator);
            let statistic = Var::new(&[0.5f32, 1.0, 2.0], &Device::Cpu).unwrap();
            let mut named = params.named();
            named.push(("aside.running_mean".to_owned(), statistic));
            fit(&Trainable::new(&network, named), &train, None, &config, &mut []).unwrap();
            bits(&params)
        })
    };
    let alone = run(1).remove(0);
    assert!(run(2).into_iter().all(|found| found == alone));
}

#[test]
fn running_statistics_are_the_average_over_shards() {
    let params = Params::seeded(1, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let network = ImageClassifier::new(&MOBILENET_V2, input, 2, MOBILENET_V2.init, &params).unwrap();
    // One batch of 5 in 4 shards: 2, 1, 1 and 1 images.
    let (inputs, labels) = {
        let batch = loader(5, Sampling::Sequential).epoch(0).next().unwrap().unwrap();
        (batch.inputs, batch.labels)
    };
    let name = "bn1.running_mean";
    let mean = || params.get(name).unwrap().to_vec1::<f32>().unwrap();
    let statistics = params.get(name).unwrap();
    statistics.set(&statistics.affine(1.0, 0.5).unwrap()).unwrap();
    let before: Vec<Tensor> = params.named().iter().map(|(_, var)| var.copy().unwrap()).collect();
    let mut expected = vec![0.0; mean().len()];
    for (start, n) in [(0, 2), (2, 1), (3, 1), (4, 1)] {
        network.forward_t(&inputs.narrow(0, start, n).unwrap(), true).unwrap();
        expected.iter_mut().zip(mean()).for_each(|(sum, mean)| *sum += n as f32 / 5.0 * mean);
        params.named().iter().zip(&before).for_each(|((_, var), value)| var.set(value).unwrap());
    }
    let train = TensorBatches::new(inputs, labels, 5, Sampling::Sequential).unwrap();
    let config = FitConfig::new(1, CrossEntropy, OptimizerConfig::sgd(0.0, 0.0)).shards(4);
    fit(&Trainable::new(&network, network.named_vars()), &train, None, &config, &mut []).unwrap();
    for (found, expected) in mean().iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert!(expected.iter().any(|mean| mean.abs() > 1e-3), "they have moved");
}

fn points(
    communicator: Arc<dyn Communicator>,
    shards: usize,
    callback: &mut dyn Callback,
) -> Result<History> {
    let (inputs, labels) = tensors(40);
    let train = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
    let (network, params) = mlp();
    let config = FitConfig::new(2, CrossEntropy, OptimizerConfig::sgd(0.1, 0.9))
        .shards(shards)
        .communicator(communicator);
    fit(&Trainable::new(&network, params.named()), &train, None, &config, &mut [callback])
}

struct Nothing;
impl Callback for Nothing {}

#[test]
fn a_variable_without_a_gradient_stays_and_moves_no_other() {
    let run = |place: Option<usize>| {
        let (inputs, labels) = tensors(32);
        let train = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
        let (network, params) = mlp();
        let aside = Var::new(&[7f32, -7.0], &Device::Cpu).unwrap();
        let mut named = params.named();
        if let Some(place) = place {
            named.insert(place, ("aside".to_owned(), aside.clone()));
        }
        let config = FitConfig::new(1, CrossEntropy, OptimizerConfig::sgd(0.1, 0.9)).shards(4);
        fit(&Trainable::new(&network, named), &train, None, &config, &mut []).unwrap();
        assert_eq!(aside.to_vec1::<f32>().unwrap(), [7.0, -7.0]);
        bits(&params)
    };
    let expected = run(None);
    for place in [0, 1, 4] {
        assert_eq!(run(Some(place)), expected, "place {place}");
    }
}

#[test]
fn a_process_by_itself_gathers_what_it_said() {
    assert_eq!(Alone.all_gather(b"it").unwrap(), [b"it"]);
    assert!(Alone.exchange(1, &[], &mut []).is_err(), "there is no other");
}

#[test]
fn all_processes_get_the_outputs_and_numbers_of_all() {
    let found = processes(3, |communicator| {
        let (inputs, labels) = tensors(40);
        let batches = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
        let outputs = OutputBatches::new(&mlp().0, &batches, &*communicator).unwrap();
        // The own batch is the one with the process's number: 16, 16 and 8 examples.
        let first = 16 * communicator.rank();
        let own: Vec<f32> = (first..40.min(first + 16)).map(|i| i as f32).collect();
        let values: Vec<Vec<f32>> =
            outputs.epoch(0).flat_map(|batch| batch.unwrap().inputs.to_vec2::<f32>().unwrap()).collect();
        (outputs.n_examples(), outputs.gather(&own, &*communicator).unwrap(), values)
    });
    let alone = mlp().0.forward_t(&tensors(40).0, false).unwrap().to_vec2::<f32>().unwrap();
    for (n, numbers, values) in found {
        assert_eq!((n, numbers), (40, (0..40).map(|i| i as f32).collect()));
        for (found, expected) in values.concat().iter().zip(alone.concat()) {
            assert!((found - expected).abs() < 1e-6, "{found} against {expected}");
        }
        assert_eq!(values.len(), 40);
    }
}

#[test]
fn shards_that_cannot_be_shared_out_are_refused() {
    for (n, shards) in [(1, 3), (1, 0), (3, 4), (4, 2)] {
        for result in processes(n, |communicator| points(communicator, shards, &mut Nothing)) {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(&format!("found {shards} shards for {n} processes")), "{error}");
        }
    }
}

/// Stops or fails after a batch.
struct After(usize, Option<StopReason>);

impl Callback for After {
    fn on_batch_end(&mut self, end: &BatchEnd<'_>) -> Result<ControlFlow<StopReason>> {
        match &self.1 {
            _ if end.batch != self.0 => Ok(ControlFlow::Continue(())),
            Some(reason) => Ok(ControlFlow::Break(reason.clone())),
            None => Err(Error::Empty("good")),
        }
    }
}

#[test]
fn what_stops_one_process_stops_all() {
    for reason in [StopReason::Interrupted, StopReason::Callback("enough".to_owned())] {
        let results = processes(4, |communicator| match communicator.rank() {
            2 => points(communicator, 4, &mut After(1, Some(reason.clone()))),
            _ => points(communicator, 4, &mut Nothing),
        });
        for history in results {
            let history = history.unwrap();
            assert_eq!((history.epochs.len(), history.stopped.as_ref()), (0, Some(&reason)));
        }
    }
}

#[test]
fn what_fails_in_one_process_fails_in_all() {
    let results = processes(2, |communicator| match communicator.rank() {
        1 => points(communicator, 2, &mut After(0, None)),
        _ => points(communicator, 2, &mut Nothing),
    });
    let errors: Vec<String> = results.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    assert_eq!(errors, ["process 1 failed: there are no good examples", "there are no good examples"]);
}

#[test]
fn processes_that_begin_with_other_weights_are_refused() {
    let results = processes(2, |communicator| {
        let (inputs, labels) = tensors(16);
        let train = TensorBatches::new(inputs, labels, 16, Sampling::Sequential).unwrap();
        let (network, params) = mlp();
        if communicator.rank() == 1 {
            let (_, var) = &params.named()[0];
            var.set(&var.affine(1.0, 1.0).unwrap()).unwrap();
        }
        let config = FitConfig::new(1, CrossEntropy, OptimizerConfig::sgd(0.1, 0.9)).shards(2);
        let config = config.communicator(communicator);
        fit(&Trainable::new(&network, params.named()), &train, None, &config, &mut [])
    });
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("the processes differ in the weights at the start"), "{error}");
    }
}
