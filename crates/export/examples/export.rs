//! Writes a run as an ONNX file: `cargo run --release -p firstsight-export --example export -- RUN FILE`.

use std::path::Path;

use candle_core::Device;
use firstsight_export::{Onnx, OnnxInput, OnnxOutput, OnnxSettings};
use firstsight_transfer::RunFolder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, file] = &arguments[..] else { return Err("expected RUN FILE".into()) };
    let run = RunFolder::open(Path::new(run))?;
    let (network, config) = run.load(&Device::Cpu)?;
    let settings =
        OnnxSettings { input: OnnxInput::BytesLast, output: OnnxOutput::Answers, license: run.license() };
    let onnx = Onnx::new(&network, &config, &settings)?;
    let largest = onnx.save_and_check(Path::new(file))?;
    println!("{} to {}, the same within {largest:.0e}", onnx.input(), onnx.output());
    Ok(())
}
