#![doc = include_str!("../README.md")]

mod error;
mod feature_vis;
mod grad_cam;
mod image_param;
mod layers;
mod shift_zoom;
mod total_variation;

pub use error::{Error, Result};
pub use feature_vis::{FeatureVis, FeatureVisConfig, InputFormat, visualize_features};
pub use grad_cam::grad_cam;
pub use image_param::{ImageParam, Parametrization};
pub use layers::{Layer, activation, layer_for_evidence, layers};
pub use shift_zoom::ShiftZoom;
pub use total_variation::total_variation;
