//! Writes the sections on images and convolution into `report/report.html`.

use std::error::Error;

use candle_core::Device;
use firstsight_lecture::{SectionName, Settings};
use firstsight_transfer::{HubConfig, Runtime};

fn main() -> Result<(), Box<dyn Error>> {
    let hub = HubConfig { offline: true, ..HubConfig::new("cache/huggingface".into()) };
    let settings = Settings {
        sections: vec![SectionName::Images, SectionName::Convolution],
        ..Settings::new("report", "cache/datasets", 123, hub)
    };
    let outcome = firstsight_lecture::run(&settings, &Runtime::new(Device::Cpu).cache("cache/images"))?;
    println!("{}", outcome.report.display());
    Ok(())
}
